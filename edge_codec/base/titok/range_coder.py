"""A range coder for the few symbols of a frame: the one of bitstream.md section 14.1, in Python.

rANS ends with a state of 32 bits and words of 16: some three bytes more than the symbols' own bits,
which is a twelfth of 32 tokens. Here a payload is the shortest fraction in the last interval, half
a byte more on average.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_codec.errors import BitstreamError

FULL = 1 << 48
LEAST = 1 << 40
TOTAL_BITS = 16


def write_parts(parts: Iterable[tuple[int, int]]) -> bytes:
    """Code symbols given as (start, frequency) of 65536, the first of them first.

    Numbers in Python have no end, so the interval need not be cut into bytes while it shrinks.
    """
    low, width, n_bytes = 0, FULL, 6
    for start, frequency in parts:
        unit = width >> TOTAL_BITS
        low += unit * start
        width = unit * frequency
        while width < LEAST:
            low, width, n_bytes = low << 8, width << 8, n_bytes + 1
    for spare in range(8 * n_bytes, -1, -8):
        value = -(-low >> spare) << spare
        if value < low + width:
            break
    return value.to_bytes(n_bytes, "big").rstrip(b"\0")


class PartReader:
    """Reads the symbols of a payload; `peek` and `take` alternate, `close` asks for its end.

    Parameters
    ----------
    payload : bytes

    Raises
    ------
    BitstreamError
        If the payload ends with a zero.
    """

    def __init__(self, payload: bytes) -> None:
        if payload.endswith(b"\0"):
            raise BitstreamError("a frame's payload ends with a zero byte; it is damaged")
        self._payload = payload
        self._next = 6
        self._value = int.from_bytes(payload[:6].ljust(6, b"\0"), "big")
        self._width = FULL

    def peek(self) -> int:
        """Return which of 65536 parts comes next.

        Raises
        ------
        BitstreamError
            If none does.
        """
        slot = self._value // (self._width >> TOTAL_BITS)
        if slot >> TOTAL_BITS:
            raise BitstreamError("a frame's payload names no token; it is damaged")
        return slot

    def take(self, start: int, frequency: int) -> None:
        """Take the symbol off that was found with `peek`."""
        unit = self._width >> TOTAL_BITS
        self._value -= unit * start
        self._width = unit * frequency
        while self._width < LEAST:
            at = self._next
            byte = self._payload[at] if at < len(self._payload) else 0
            self._value, self._width = self._value << 8 | byte, self._width << 8
            self._next += 1

    def close(self) -> None:
        """Ask for the end of the payload.

        Raises
        ------
        BitstreamError
            If bytes are left over.
        """
        if self._next < len(self._payload):
            raise BitstreamError(
                "a frame's payload goes on after its last token; it is damaged, or was made with "
                "other weights"
            )

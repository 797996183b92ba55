"""Whole numbers below 2**32 in as few bytes as they need: unsigned LEB128.

Seven bits in each byte, the lowest first; bit 7 is set in all bytes but the last. The shortest form
is the only one, so equal numbers have equal bytes.
"""

from __future__ import annotations

from edge_codec.errors import BitstreamError

MAX_VARINT = (1 << 32) - 1
MAX_VARINT_SIZE = 5


def pack_varint(number: int) -> bytes:
    """Serialize a number.

    Parameters
    ----------
    number : int
        0 to `MAX_VARINT`.

    Returns
    -------
    bytes
        1 to `MAX_VARINT_SIZE` bytes.
    """
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def varint_size(number: int) -> int:
    """Return how many bytes `pack_varint` makes of a number."""
    return max(1, -(-number.bit_length() // 7))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number from bytes from outside.

    Parameters
    ----------
    data : bytes
        Where to read.
    at : int
        Where the number begins in `data`.

    Returns
    -------
    number : int
        0 to `MAX_VARINT`.
    end : int
        Where the number ends in `data`.

    Raises
    ------
    BitstreamError
        If the number is cut, too large, or not in its shortest form.
    """
    number = 0
    for place, byte in enumerate(data[at : at + MAX_VARINT_SIZE]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            if number > MAX_VARINT or (place and not byte):
                break
            return number, at + place + 1
    raise BitstreamError(
        f"{data[at : at + MAX_VARINT_SIZE].hex()} is no number of at most {MAX_VARINT_SIZE} bytes"
    )

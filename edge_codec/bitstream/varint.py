"""Whole numbers below 2**32 in as few bytes as they need: unsigned LEB128.

Seven bits in each byte, the lowest first; bit 7 is set in all bytes but the last. The shortest form
is the only one, so equal numbers have equal bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def pack_varints(numbers: NDArray[np.integer]) -> bytes:
    """Serialize many numbers, as `pack_varint` does each.

    Parameters
    ----------
    numbers : ndarray, shape (n,), integer
        0 to `MAX_VARINT`.
    """
    places = 7 * np.arange(MAX_VARINT_SIZE, dtype=np.uint64)
    groups = numbers.astype(np.uint64)[:, None] >> places
    used = groups > 0
    used[:, 0] = True
    more = np.zeros_like(used)
    more[:, :-1] = used[:, 1:]
    data = (groups & np.uint64(127)).astype(np.uint8) | more.astype(np.uint8) << 7
    return data[used].tobytes()


def read_varints(data: bytes) -> NDArray[np.uint32]:
    """Read numbers until the end of bytes from outside.

    Parameters
    ----------
    data : bytes
        Nothing but numbers.

    Returns
    -------
    ndarray, shape (n,), uint32
        The numbers.

    Raises
    ------
    BitstreamError
        If one is cut, too large, or not in its shortest form.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if (len(raw) and raw[-1] >= 128) or (lengths > MAX_VARINT_SIZE).any():
        raise BitstreamError(f"{len(raw)} bytes end within a number, or one is too long")
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        there = lengths > place
        numbers[there] |= (
            raw[starts[there] + place].astype(np.uint64) & np.uint64(127)
        ) << np.uint64(7 * place)
    if (numbers > MAX_VARINT).any() or ((raw[ends] == 0) & (lengths > 1)).any():
        raise BitstreamError("a number is too large or not in its shortest form")
    return numbers.astype(np.uint32)

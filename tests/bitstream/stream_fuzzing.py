"""Structure-aware mutations of streams, seeded, for the tests that feed damage to a decoder.

Use by other tests (the hook for fuzzing the whole codec)::

    from bitstream.stream_fuzzing import mutations   # from a file directly under tests/

    for data in mutations(streams, count=10_000, seed=1):
        ...                                          # decode; only EdgeCodecErrors may come out

`streams` are valid streams as bytes. About half of what comes out has its CRCs repaired, so that
hostile values and damaged payloads reach the parsers and decoders behind the checks;
`mutated_payloads` changes nothing but the payloads of frame layers, and repairs every CRC.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

SYNC = b"ECDP"
HEADER_FIELDS = (
    8,
    10,
    12,
    16,
    20,
    24,
    28,
    32,
    33,
    34,
    35,
    36,
    40,
    44,
    48,
    64,
    72,
    76,
    120,
    124,
    128,
)
PACKET_FIELDS = (0, 4, 5, 6, 7, 8, 12, 16, 20, 24, 28, 32, 36, 40)
NASTY = (0, 1, 2, 3, 127, 128, 255, 256, 65535, 65536, 1 << 24, 1 << 27, (1 << 31) - 1, 1 << 31)


def mutations(streams: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` damaged streams."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(streams[int(rng.integers(len(streams)))])
        for _ in range(int(rng.integers(1, 4))):
            _MUTATORS[int(rng.integers(len(_MUTATORS)))](rng, data, streams)
        yield repair(data) if rng.random() < 0.5 else bytes(data)


def mutated_payloads(streams: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` streams whose container is valid and whose layers are damaged."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(streams[int(rng.integers(len(streams)))])
        spans = [span for span in _layers(data) if span[1] > span[0]]
        for _ in range(int(rng.integers(1, 4))):
            start, end = spans[int(rng.integers(len(spans)))]
            at = int(rng.integers(start, end))
            length = min(int(rng.integers(1, 9)), end - at)
            data[at : at + length] = rng.bytes(length)
        yield repair(data)


def repair(data: bytearray) -> bytes:
    """Correct all CRCs that can be found by following the sizes."""
    size = struct.unpack_from("<I", data, 12)[0] if len(data) >= 16 else 0
    if not 16 < size <= len(data):
        return bytes(data)
    struct.pack_into("<I", data, size - 4, zlib.crc32(data[: size - 4]))
    for at in _packets(data, size):
        n_layers = data[at + 6]
        payload = at + 24 + 12 * n_layers
        for entry in range(at + 20, payload - 4, 12):
            (length,) = struct.unpack_from("<I", data, entry + 4)
            part = data[payload : payload + length] if length <= len(data) else b""
            struct.pack_into("<I", data, entry + 8, zlib.crc32(part))
            payload += length
        end = at + 20 + 12 * n_layers
        struct.pack_into("<I", data, end, zlib.crc32(data[at:end]))
    if len(data) >= 24:
        struct.pack_into("<I", data, len(data) - 12, zlib.crc32(data[-24:-12]))
    return bytes(data)


def _packets(data: bytearray, start: int) -> Iterator[int]:
    at = data.find(SYNC, start)
    while at >= 0:
        n_layers = data[at + 6] if at + 24 <= len(data) else 255
        if at + 24 + 12 * n_layers <= len(data):
            yield at
        at = data.find(SYNC, at + 1)


def _layers(data: bytearray) -> list[tuple[int, int]]:
    spans = []
    for at in _packets(data, struct.unpack_from("<I", data, 12)[0]):
        payload = at + 24 + 12 * data[at + 6]
        for entry in range(at + 20, payload - 4, 12):
            (length,) = struct.unpack_from("<I", data, entry + 4)
            if data[at + 4] == 1:
                spans.append((payload, payload + length))
            payload += length
    return spans


def _flip(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    if data:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _cut(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _remove(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    at = int(rng.integers(len(data) + 1))
    del data[at : at + int(rng.integers(1, 64))]


def _insert(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    at = int(rng.integers(len(data) + 1))
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))


def _splice(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    other = streams[int(rng.integers(len(streams)))]
    start = int(rng.integers(len(other)))
    piece = other[start : start + int(rng.integers(1, 200))]
    at = int(rng.integers(len(data) + 1))
    data[at : at + len(piece) * int(rng.integers(2))] = piece


def _move_packet(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    starts = list(_packets(data, 0))
    if len(starts) < 2:
        return
    first, second = rng.integers(len(starts), size=2)
    start = starts[int(first)]
    end = starts[int(first) + 1] if first + 1 < len(starts) else len(data)
    piece = data[start:end]
    if rng.random() < 0.5:
        del data[start:end]
    at = min(starts[int(second)], len(data))
    data[at:at] = piece


def _set_header(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    _set_number(rng, data, HEADER_FIELDS[int(rng.integers(len(HEADER_FIELDS)))])


def _set_packet(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    starts = list(_packets(data, 0))
    if starts:
        field = PACKET_FIELDS[int(rng.integers(len(PACKET_FIELDS)))]
        _set_number(rng, data, starts[int(rng.integers(len(starts)))] + field)


def _set_end(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    _set_number(rng, data, max(0, len(data) - int(rng.integers(1, 100))))


def _set_number(rng: np.random.Generator, data: bytearray, at: int) -> None:
    value = NASTY[int(rng.integers(len(NASTY)))]
    if rng.random() < 0.3:
        value = -value
    raw = (value % (1 << 64)).to_bytes(8, "little")[: (1, 2, 4, 8)[int(rng.integers(4))]]
    raw = raw[: max(0, len(data) - at)]
    data[at : at + len(raw)] = raw


_MUTATORS = (
    _flip,
    _cut,
    _remove,
    _insert,
    _splice,
    _move_packet,
    _set_header,
    _set_packet,
    _set_packet,
    _set_end,
)

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

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

SYNC = b"\xecP"
INDEX = 3
LAYERS = (0, 1, 2, INDEX, 5)
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
    77,
    120,
    128,
    136,
    140,
    144,
)
LONGEST_HEAD = 58
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
    for head in heads(data, size):
        payload, crcs = head.end, []
        for _, length, crc_at in head.layers:
            part = bytes(data[payload : payload + length] if length <= len(data) else b"")
            crcs.append((crc_at, part))
            payload += length
        if head.place:
            crcs = [*crcs[1:], crcs[0]]  # it covers the others
        for number, (crc_at, part) in enumerate(crcs):
            if head.place and number == len(crcs) - 1:
                part = head.place + data[head.start : crc_at] + part
            struct.pack_into("<I", data, crc_at, zlib.crc32(part))
        if not head.place:
            struct.pack_into("<I", data, head.end - 4, zlib.crc32(data[head.start : head.end - 4]))
    if len(data) >= 24:
        struct.pack_into("<I", data, len(data) - 12, zlib.crc32(data[-24:-12]))
    return bytes(data)


class Head(NamedTuple):
    """What looks like the head of a packet; its CRCs may be wrong."""

    start: int
    end: int
    numbers: tuple[int, ...]  # where sequence number, slice and phase are; none in short form
    layers: tuple[tuple[int, int, int], ...]  # id, size, where the CRC is
    place: bytes = b""  # of a short form: what its CRC covers beside itself


def heads(data: bytes | bytearray, start: int) -> Iterator[Head]:
    """Yield everything from byte `start` on that has the form of a head.

    Short forms are those that stand behind a full one, or behind each other.
    """
    phases: dict[int, int] = {}
    at = data.find(SYNC, start)
    while at >= 0:
        with contextlib.suppress(IndexError):
            head = head_at(data, at)
            place = [_number_at(data, where)[0] for where in head.numbers]
            phases[place[1]] = place[2]
            yield head
            yield from _short_heads(data, head, place, phases)
        at = data.find(SYNC, at + 1)


def _short_heads(
    data: bytes | bytearray, head: Head, place: list[int], phases: dict[int, int]
) -> Iterator[Head]:
    """Yield the short forms behind a head."""
    if len(data) < 40 or (head.layers and head.layers[0][0] == INDEX):
        return
    n_slices = struct.unpack_from("<I", data, 16)[0]
    layers = [0] * (data[35] > 0) + [1] * (data[39] < 128)
    sequence, slice_index, _ = place
    while n_slices and layers:
        at = head.end + sum(length for _, length, _ in head.layers)
        if at >= len(data) or data[at] >= 128:
            return
        slice_index = (slice_index + (data[at] >> 6)) % n_slices
        sequence = (sequence + 1) % (1 << 32)
        phase = phases[slice_index] = (phases.get(slice_index, -1) + 1) % (1 << 32)
        head = short_head_at(data, at, layers, struct.pack("<3I", sequence, slice_index, phase))
        yield head


def short_head_at(data: bytes | bytearray, start: int, layers: list[int], place: bytes) -> Head:
    """Read a head in short form."""
    size, at, found = data[start] & 63, start + 1, []
    if size >= 48:
        size, at = 48 + 256 * (size - 48) + data[at], at + 1
    for layer in layers[1:]:
        length, at = _number_at(data, at)
        found.append((layer, length, at))
        at += 4
    if at + 4 > len(data):
        raise IndexError
    return Head(start, at + 4, (), ((layers[0], size, at), *found), place)


def head_at(data: bytes | bytearray, start: int) -> Head:
    at, numbers, layers = start + 3, [], []
    for _ in range(3):
        numbers.append(at)
        _, at = _number_at(data, at)
    for layer in LAYERS:
        if data[start + 2] >> layer & 1:
            size, at = _number_at(data, at)
            layers.append((layer, size, at))
            at += 4
    if at + 4 > len(data):
        raise IndexError
    return Head(start, at + 4, tuple(numbers), tuple(layers))


def _number_at(data: bytes | bytearray, at: int) -> tuple[int, int]:
    number = 0
    for place in range(5):
        number |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return number, at + place + 1
    raise IndexError


def _layers(data: bytearray) -> list[tuple[int, int]]:
    spans = []
    for head in heads(data, struct.unpack_from("<I", data, 12)[0]):
        payload = head.end
        for layer, length, _ in head.layers:
            if layer != INDEX:
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
    starts = [head.start for head in heads(data, 0)]
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
    found = list(heads(data, 0))
    if found:
        head = found[int(rng.integers(len(found)))]
        at = head.start + int(rng.integers(LONGEST_HEAD))
        if rng.random() < 0.5:
            _set_number(rng, data, at)
        else:
            _put_varint(rng, data, at)


def _set_end(rng: np.random.Generator, data: bytearray, streams: Sequence[bytes]) -> None:
    _set_number(rng, data, max(0, len(data) - int(rng.integers(1, 100))))


def _set_number(rng: np.random.Generator, data: bytearray, at: int) -> None:
    value = NASTY[int(rng.integers(len(NASTY)))]
    if rng.random() < 0.3:
        value = -value
    raw = (value % (1 << 64)).to_bytes(8, "little")[: (1, 2, 4, 8)[int(rng.integers(4))]]
    raw = raw[: max(0, len(data) - at)]
    data[at : at + len(raw)] = raw


def _put_varint(rng: np.random.Generator, data: bytearray, at: int) -> None:
    """Write a number of the format's own kind, now and then one byte too long."""
    value = NASTY[int(rng.integers(len(NASTY)))]
    raw = bytearray()
    while value > 127:
        raw.append(value & 127 | 128)
        value >>= 7
    raw.append(value)
    if rng.random() < 0.2:
        raw[-1] |= 128
        raw.append(0)
    data[at : at + len(raw) * int(rng.integers(2))] = raw


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

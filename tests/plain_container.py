"""Headers and packets of a stream, plainly: what the second decoder reads before it decodes.

Written from docs/bitstream.md alone, whose section numbers these are; without edge_codec.
"""

from __future__ import annotations

import struct
import zlib
from itertools import groupby, pairwise
from types import SimpleNamespace

import numpy as np
from plain_order import coding_order

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


# ------------------------------------------------------------------------------ 3: header


def read_header(data: bytes) -> tuple[SimpleNamespace, int]:
    """The header's fields, and its size."""
    assert data[:8] == bytes.fromhex("894543440d0a1a0a")
    version, flags, size = struct.unpack_from("<HHI", data, 8)
    assert version == 1
    assert flags in (0, 1)
    assert struct.unpack_from("<I", data, size - 4)[0] == zlib.crc32(data[: size - 4])
    h = SimpleNamespace()
    h.slices, h.phases, h.rows, h.columns = struct.unpack_from("<4I", data, 16)
    dtype, h.sample_format, h.source_format, h.model = struct.unpack_from("4B", data, 32)
    h.dtype = np.dtype(DTYPES[dtype])
    h.max_error, h.key_interval, h.span = struct.unpack_from("<iII", data, 36)
    h.low = int.from_bytes(data[48:64], "little", signed=True)
    h.window_offset, h.window_width, h.effort = struct.unpack_from("<qIB", data, 64)
    h.archive, model_data_size = struct.unpack_from("<BH", data, 77)
    assert h.archive < 2
    assert not h.archive or (h.model == 2 and h.phases and h.key_interval <= 64)
    assert model_data_size <= {3: 4096, 5: 7, 6: 4096}.get(h.model, 0)
    assert h.model != 5 or (model_data_size == 7 and h.max_error == -1)
    assert h.model != 6 or (model_data_size > 0 and h.max_error == -1)
    h.spacing = struct.unpack_from("<3d", data, 80)
    h.slope, h.intercept = struct.unpack_from("<2d", data, 104)
    h.noise_sigma, h.snr_loss_percent = struct.unpack_from("<2d", data, 120)
    n_times, n_hashes, packed_size = struct.unpack_from("<3I", data, 136)
    h.times = struct.unpack_from(f"<{n_times}d", data, 148)
    at = 148 + 8 * n_times
    h.hashes = [data[at + 32 * i : at + 32 * i + 32] for i in range(n_hashes)]
    at += 32 * n_hashes
    assert not n_hashes or h.model in (0, 1, 4, 5, 6)
    h.model_data = data[at : at + model_data_size]
    at += model_data_size
    h.region = None
    if flags:
        (region_size,) = struct.unpack_from("<I", data, at)
        h.region = read_region(data[at + 4 : at + 4 + region_size], h)
        at += 4 + region_size
    assert at + packed_size + 4 == size
    h.source = unpack_source_header(data[at : at + packed_size], b"")
    return h, size


def read_region(data: bytes, h: SimpleNamespace) -> SimpleNamespace:
    """The region of interest: its quantizer's gain, its bound, and which squares are inside."""
    region = SimpleNamespace()
    region.gain, region.max_error = struct.unpack_from("<Bi", data)
    assert region.gain <= 63
    assert not region.gain or h.model == 2
    assert -1 <= region.max_error < max(h.max_error, 0)
    assert region.gain or region.max_error >= 0
    at, inside, squares = 5, 0, []
    while at < len(data):
        run, at = read_number(data, at)
        assert run or not squares
        squares += [inside] * run
        inside = 1 - inside
    shape = h.slices, -(-h.rows // 16), -(-h.columns // 16)
    assert len(squares) == np.prod(shape) <= 2**24
    region.inside = np.array(squares, bool).reshape(shape)
    assert region.inside.any()
    return region


# -------------------------------------------------------------- 4, 5: packets, index, footer


def read_packets(
    data: bytes, first: int, header: SimpleNamespace
) -> dict[tuple[int, int], tuple[int, dict[int, bytes]]]:
    """Key flag and layers of each frame by (slice, phase)."""
    assert data[-8:] == bytes.fromhex("89454344454e440a")
    index, n_packets, crc = struct.unpack("<QII", data[-24:-8])
    assert crc == zlib.crc32(data[-24:-12])
    packets, sizes, slices, offset = {}, [], [], first
    due = (0,) * (header.model > 0) + (1,) * (header.max_error >= 0)
    order = coding_order(header, n_packets)
    for sequence in range(n_packets):
        if data[offset] < 128:
            slice_index = (slices[-1] + (data[offset] >> 6)) % header.slices
            place = sequence, slice_index, order[slices.count(slice_index)]
            key, (layers, size) = 0, read_short_packet(data, offset, place, due)
        else:
            key, place, layers, size = read_packet(data, offset)
        slice_index, phase = place[1:]
        assert (place[0], phase) == (sequence, order[slices.count(slice_index)])
        assert key or phase % header.key_interval
        assert not (key and header.archive and phase % header.key_interval)
        packets[slice_index, phase] = key, layers
        sizes.append(size)
        slices.append(slice_index)
        offset += size
    table = b""
    steps = [(b - a) % header.slices for a, b in pairwise([0, *slices])]
    for step, run in groupby(steps):
        table += number(step) + number(len(list(run)))
    table += b"".join(number(size) for size in sizes)
    assert read_packet(data, offset) == (0, (n_packets, 0, 0), {3: table}, len(data) - 24 - index)
    assert offset == index
    return packets


def read_packet(data: bytes, at: int) -> tuple[int, tuple[int, ...], dict[int, bytes], int]:
    """Key flag, (sequence, slice, phase), layers and size of the packet at `at`."""
    begin = at
    assert data[at : at + 2] == b"\xec\x50"
    contents = data[at + 2]
    assert contents < 64
    place, sizes, at = [], {}, at + 3
    for _ in range(3):
        number, at = read_number(data, at)
        place.append(number)
    for layer in (0, 1, 2, 3, 5):
        if contents >> layer & 1:
            size, at = read_number(data, at)
            sizes[layer] = size, struct.unpack_from("<I", data, at)[0]
            at += 4
    assert struct.unpack_from("<I", data, at)[0] == zlib.crc32(data[begin:at])
    at += 4
    layers = {}
    for layer, (size, crc) in sizes.items():
        layers[layer] = data[at : at + size]
        assert zlib.crc32(layers[layer]) == crc
        at += size
    return contents >> 4 & 1, tuple(place), layers, at - begin


def read_short_packet(
    data: bytes, at: int, place: tuple[int, ...], due: tuple[int, ...]
) -> tuple[dict[int, bytes], int]:
    """Layers and size of the packet in short form at `at`."""
    begin, size, at = at, data[at] & 63, at + 1
    if size >= 48:
        size, at = 48 + 256 * (size - 48) + data[at], at + 1
    sizes, crcs = [size], []
    for _ in due[1:]:
        size, at = read_number(data, at)
        sizes.append(size)
        crcs.append(data[at : at + 4])
        at += 4
    crcs.insert(0, data[at : at + 4])
    covered, at = struct.pack("<3I", *place) + data[begin:at], at + 4
    layers = {}
    for layer, size, crc in zip(due, sizes, crcs, strict=True):
        layers[layer] = data[at : at + size]
        assert zlib.crc32(covered + layers[layer]) == struct.unpack("<I", crc)[0]
        covered, at = b"", at + size
    return layers, at - begin


def read_note(note: bytes) -> dict[str, int]:
    """The fields of the note of a live frame."""
    policy, flags, zero, acquired, waited, coded, dropped = struct.unpack("<BBHqIII", note)
    assert policy < 4
    assert flags < 4
    assert zero == 0
    return {
        "policy": policy,
        "acquired_unix_ns": acquired,
        "waited_us": waited,
        "coded_us": coded,
        "dropped": dropped,
        "clock_jumped": flags & 1,
        "late": flags >> 1,
    }


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = shift = 0
    while data[at] >= 128:
        number |= (data[at] - 128) << shift
        at, shift = at + 1, shift + 7
    assert data[at] or not shift
    return number | data[at] << shift, at + 1


def number(value: int) -> bytes:
    """A number of seven bits a byte."""
    if value < 128:
        return bytes([value])
    return bytes([value % 128 + 128]) + number(value // 128)


# ------------------------------------------------------------------ 6: packed source headers


def unpack_source_header(packed: bytes, dictionary: bytes) -> bytes:
    """The source header that was packed against `dictionary`."""
    (size,) = struct.unpack_from("<I", packed)
    raw, at = b"", 4
    for start in range(0, size, 16_384):
        (block_size,) = struct.unpack_from("<I", packed, at)
        near = dictionary[max(0, start - 8192) : start + 24_576]
        inflate = zlib.decompressobj(-15, near)
        raw += inflate.decompress(packed[at + 4 : at + 4 + block_size])
        assert inflate.eof
        at += 4 + block_size
    assert (at, len(raw)) == (len(packed), size)
    return raw

"""A second decoder, written from docs/bitstream.md alone: plain, slow, and without edge_codec.

It serves one purpose: to prove that the document says everything. Section numbers are the
document's. It decodes complete, undamaged streams and refuses others with an AssertionError.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from itertools import groupby, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from plain_order import coding_order
from plain_residual import ResidualDecoder
from plain_structure import HybridBase
from plain_titok import PlainTitok
from plain_tokens import TokenDecoder
from plain_vae import PlainVae

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def decode(data: bytes, models: Path | None = None, *, preview: bool = False) -> np.ndarray:
    """Voxels (slice, phase, row, column) of a stream; `models` has the files that it names.

    Those of the wavelet and VAE are in the folder `dwt_cal_vae` beside it.
    """
    header, first = read_header(data)
    packets = read_packets(data, first, header)
    network = tokens = None
    assert header.model != 3, "what a video codec decodes to is not part of the format"
    assert header.model != 5, "pictures of tokens are floats; decode_tokens gives the tokens"
    if header.model == 1:
        files = [(models / name).read_bytes() for name in ("decoder.onnx", "token_model.npz")]
        assert [hashlib.sha256(file).digest() for file in files] == header.hashes
        network, tokens = Network(files[0]), TokenDecoder(files[1])
    n_phases = 1 + max((phase for _, phase in packets), default=-1)
    voxels = np.empty((header.slices, n_phases, header.rows, header.columns), header.dtype)
    for slice_index in range(header.slices):
        base_layer = open_base(header, models, slice_index)
        for phase in coding_order(header, n_phases):
            key, layers = packets[slice_index, phase]
            if key:
                previous = None
                empty = layers.get(0) == b""
                residual = open_residual(header, header.model > 0 and not empty, slice_index)
            base = None
            assert empty == (layers.get(0) == b"")
            if empty:
                assert header.max_error >= 0
            elif header.model == 1:
                previous = tokens.decode(layers[0][2:], header, previous)
                base = denormalize(network.run(previous), header)
            elif header.model:
                base = base_layer.decode(layers[0][2:], phase, bool(key))
            if base is not None:
                assert layers[0][:2] == frame_check(base)[:2]
            samples = base
            if header.max_error >= 0 and not (preview and base is not None):
                samples = residual.decode(layers[1][4:], base, key)
                assert layers[1][:4] == frame_check(samples)
            voxels[slice_index, phase] = to_voxels(samples, header)
    return voxels


def decode_tokens(data: bytes, models: Path) -> np.ndarray:
    """Tokens (slice, phase, 32) of a stream of model 5; `models` has the files that it names."""
    header, first = read_header(data)
    packets = read_packets(data, first, header)
    assert header.model == 5
    names = ("token_model.npz", "codebook.npy", "decoder.onnx")
    files = [(models / name).read_bytes() for name in names]
    assert [hashlib.sha256(file).digest() for file in files] == header.hashes
    n_phases = 1 + max(phase for _, phase in packets)
    tokens = np.empty((header.slices, n_phases, 32), np.uint16)
    for slice_index in range(header.slices):
        decoder = PlainTitok(files[0])
        for phase in range(n_phases):
            key, layers = packets[slice_index, phase]
            tokens[slice_index, phase] = decoder.decode(layers[0], bool(key))
    return tokens


def open_base(
    header: SimpleNamespace, models: Path | None, slice_index: int
) -> HybridBase | PlainVae | None:
    """The decoder of a slice's base layer, for models that keep something of their own."""
    if header.model == 2:
        region = header.region
        if region is None or not region.gain:
            return HybridBase(header)
        return HybridBase(header, region.inside[slice_index], region.gain)
    if header.model != 4:
        return None
    weights = (models.parent / "dwt_cal_vae" / "decoder.npz").read_bytes()
    assert [hashlib.sha256(weights).digest()] == header.hashes
    return PlainVae(weights, header)


def open_residual(header: SimpleNamespace, with_base: bool, slice_index: int) -> ResidualDecoder:
    """The decoder of a group's residual layer."""
    size = header.rows, header.columns
    bounds, region = np.full(size, header.max_error, np.int64), header.region
    if region is not None and region.max_error >= 0:
        inside = region.inside[slice_index].repeat(16, 0).repeat(16, 1)
        bounds[inside[: header.rows, : header.columns]] = region.max_error
    return ResidualDecoder(*size, header.span, header.max_error, with_base, header.effort, bounds)


def decode_source_headers(data: bytes) -> tuple[bytes, dict[tuple[int, int], bytes]]:
    """The source header of the stream, and those of its frames by (slice, phase)."""
    header, first = read_header(data)
    packets = read_packets(data, first, header)
    frames = {
        place: unpack_source_header(layers[2], header.source)
        for place, (_, layers) in packets.items()
        if 2 in layers
    }
    return header.source, frames


def decode_notes(data: bytes) -> dict[tuple[int, int], dict[str, int]]:
    """The notes of live frames by (slice, phase)."""
    header, first = read_header(data)
    packets = read_packets(data, first, header)
    return {place: read_note(layers[5]) for place, (_, layers) in packets.items() if 5 in layers}


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
    assert model_data_size <= {3: 4096, 5: 7}.get(h.model, 0)
    assert h.model != 5 or (model_data_size == 7 and h.max_error == -1)
    h.spacing = struct.unpack_from("<3d", data, 80)
    h.slope, h.intercept = struct.unpack_from("<2d", data, 104)
    h.noise_sigma, h.snr_loss_percent = struct.unpack_from("<2d", data, 120)
    n_times, n_hashes, packed_size = struct.unpack_from("<3I", data, 136)
    h.times = struct.unpack_from(f"<{n_times}d", data, 148)
    at = 148 + 8 * n_times
    h.hashes = [data[at + 32 * i : at + 32 * i + 32] for i in range(n_hashes)]
    at += 32 * n_hashes
    assert not n_hashes or h.model in (0, 1, 4, 5)
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


# ---------------------------------------------------------------------- 7, 8: voxels, window


def to_voxels(samples: np.ndarray, header: SimpleNamespace) -> np.ndarray:
    """Samples as voxels of the source's dtype."""
    coded = [int(sample) + header.low for sample in samples.ravel()]
    if header.sample_format == 2:
        i = np.array(coded, np.int32)
        bits = np.where(i >= 0, i, i ^ np.int32(0x7FFFFFFF))
        return bits.view(np.float32).astype(header.dtype).reshape(samples.shape)
    return np.array(coded, header.dtype).reshape(samples.shape)


def frame_check(samples: np.ndarray) -> bytes:
    """The CRC that a layer begins with."""
    return struct.pack("<I", zlib.crc32(samples.astype("<u4").tobytes()))


def denormalize(codes: np.ndarray, header: SimpleNamespace) -> np.ndarray:
    """Window codes as samples."""
    codes = codes[: header.rows, : header.columns].astype(np.int64)
    samples = header.window_offset + (codes * header.window_width + 96) // 192
    return np.clip(samples, 0, header.span)


# ------------------------------------------------------------------------ 10: integer network


class Network:
    """The integer network of decoder.onnx."""

    def __init__(self, file: bytes) -> None:
        import onnx
        from onnx.numpy_helper import to_array

        graph = onnx.load_from_string(file).graph
        constants = {array.name: to_array(array) for array in graph.initializer}
        maker = {node.output[0]: node for node in graph.node}
        nodes = list(graph.node)
        (gather,) = (node for node in nodes if node.op_type == "Gather")
        self.codebook = constants[gather.input[0]]
        self.layers = []
        for place, conv in enumerate(nodes):
            if conv.op_type != "Conv":
                continue
            quantizer = next(n for n in nodes[place:] if n.op_type == "QuantizeLinear")
            weight_node = maker[conv.input[1]]
            input_scale = float(constants[maker[conv.input[0]].input[1]])
            scale = input_scale * constants[weight_node.input[1]].astype(np.float64)
            bias = constants[conv.input[2]].astype(np.float64) / scale
            assert (bias == np.rint(bias)).all()
            ratio = scale / float(constants[quantizer.input[1]])
            self.layers.append((constants[weight_node.input[0]], bias, ratio))

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """Window codes, shape (8h, 8w), of a grid of tokens."""
        image = self.codebook[tokens].transpose(2, 0, 1)
        for layer in self.layers[:5]:
            image = convolve(image, *layer)
        image = shuffle(image, 2)
        for layer in self.layers[5:]:
            image = convolve(image, *layer)
        return shuffle(image, 4)[0]


def convolve(
    image: np.ndarray, weight: np.ndarray, bias: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """One layer. Doubles hold all of its integers exactly."""
    k = weight.shape[2]
    _, height, width = image.shape
    padded = np.pad(image.astype(np.float64), ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    total = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for y in range(k):
        for x in range(k):
            part = padded[:, y : y + height, x : x + width]
            total += np.tensordot(weight[:, :, y, x].astype(np.float64), part, 1)
    return np.clip(np.rint(total * ratio[:, None, None]), 0, 255)


def shuffle(image: np.ndarray, n: int) -> np.ndarray:
    """Channels to pixels: n times the height and width."""
    channels, height, width = image.shape
    parts = image.reshape(n, n, channels // n**2, height, width)
    return parts.transpose(2, 3, 0, 4, 1).reshape(-1, height * n, width * n)

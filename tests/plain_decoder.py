"""A second decoder, written from docs/bitstream.md alone: plain, slow, and without edge_codec.

It serves one purpose: to prove that the document says everything. Section numbers are the
document's. It decodes complete, undamaged streams and refuses others with an AssertionError.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from plain_container import read_header, read_note, read_packets, unpack_source_header
from plain_order import coding_order
from plain_residual import ResidualDecoder
from plain_structure import HybridBase
from plain_titok import PlainTitok
from plain_tokens import TokenDecoder
from plain_vae import PlainVae


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

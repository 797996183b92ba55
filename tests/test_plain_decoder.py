"""The plain decoder, written from docs/bitstream.md alone, gives what the product gives."""

from __future__ import annotations

import ast
import io
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import plain_decoder
import pytest

import edge_codec
from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId
from edge_codec.cine import Cine
from edge_codec.codec import Encoder
from edge_codec.manifest import ZOO, load_manifest
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import CompressOptions
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId, SourceHeader, SourceKind, StreamSpec

TESTS = Path(__file__).parent
GOLDEN = sorted(TESTS.glob("golden/*/*.ecd"))


def beating_heart(shape: tuple[int, int, int, int], seed: int, noise: float) -> np.ndarray:
    """Smooth anatomy with a moving edge, a bright spot and noise; (slice, phase, row, column)."""
    phases, rows, columns = shape[1:]
    z, t, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    radius = 0.25 * rows * (1.2 + 0.3 * np.sin(2 * np.pi * t / max(phases, 2)) - 0.1 * z)
    inside = np.hypot(y - 0.5 * rows, x - 0.45 * columns) < radius
    image = 200 + 400 * inside + 3 * y + 2 * x
    image[..., 0, 0] += 900
    return image + np.random.default_rng(seed).normal(0, noise, shape)


def compress(cine: Cine, model: str, max_error: int | None, key_interval: int) -> bytes:
    file = io.BytesIO()
    options = CompressOptions(ModelId[model.upper()], max_error, key_interval)
    encode_stream(cine, file, options)
    return file.getvalue()


def assert_same(data: bytes, voxels: np.ndarray | None = None, **options: bool) -> None:
    """Both decoders give the same voxels; those of the source where it is given."""
    plain = plain_decoder.decode(data, ZOO / "vqvae", **options)
    product = edge_codec.decompress(data, **options).voxels
    assert plain.dtype == product.dtype
    assert plain.tobytes() == product.tobytes()
    if voxels is not None:
        assert plain.tobytes() == voxels.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_dtype_lossless(dtype: str) -> None:
    heart = np.rint(np.clip(beating_heart((1, 3, 9, 14), 1, 4.0) / 8, 0, 127)).astype(dtype)
    assert_same(edge_codec.compress(Cine.from_array(heart)), heart)


@pytest.mark.parametrize("dtype", ["u8", "i8", "u4", "i4"])
def test_wide_values(dtype: str) -> None:
    low = np.iinfo(dtype).min if dtype[0] == "i" else np.iinfo(dtype).max - (1 << 32) + 1
    noise = np.random.default_rng(2).integers(0, 1 << 32, (2, 2, 5, 7), np.uint64)
    wide = noise.astype(dtype) + np.array(low).astype(dtype)
    assert_same(edge_codec.compress(Cine.from_array(wide)), wide)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_by_their_bits(dtype: str) -> None:
    values = np.random.default_rng(3).normal(0, 1e3, (1, 2, 8, 8)).astype("f4")
    values[0, 0, 0, :4] = [np.inf, -np.inf, -0.0, 1e-45]
    assert_same(edge_codec.compress(Cine.from_array(values.astype(dtype))), values.astype(dtype))


@pytest.mark.parametrize("max_error", [0, 1, 7, 5000])
@pytest.mark.parametrize("key_interval", [1, 3])
@pytest.mark.parametrize("model", ["none", "vqvae"])
def test_residual_layer(model: str, key_interval: int, max_error: int) -> None:
    heart = beating_heart((2, 5, 17, 11), 4, 20.0).astype(np.int16)
    data = compress(Cine.from_array(heart), model, max_error, key_interval)
    assert_same(data, heart if max_error == 0 else None)


@pytest.mark.parametrize("shape", [(1, 4, 33, 50), (2, 3, 8, 8), (1, 2, 1, 1), (1, 1, 40, 7)])
def test_base_layer(shape: tuple[int, int, int, int]) -> None:
    heart = beating_heart(shape, 5, 10.0).astype(np.uint16)
    assert_same(compress(Cine.from_array(heart), "vqvae", None, 3))
    assert_same(compress(Cine.from_array(heart), "vqvae", 2, 3), preview=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(6).integers(0, 4, (1, 6, *size)).astype(np.uint8)
    assert_same(compress(Cine.from_array(noise), "none", 0, 4), noise)


@pytest.mark.parametrize("rows", [191, 192, 299, 770, 900])
def test_bands(rows: int) -> None:
    heart = beating_heart((1, 3, rows, 5), 10, 5.0).astype(np.int16)
    assert_same(compress(Cine.from_array(heart), "none", 0, 3), heart)
    assert_same(compress(Cine.from_array(heart), "vqvae", 1, 3))


def test_constant_and_raw_frames() -> None:
    rng = np.random.default_rng(7)
    frames = [np.full((16, 16), 7), rng.integers(0, 4096, (16, 16)), np.full((16, 16), 9)]
    cine = np.stack([frames[i] for i in (0, 1, 0, 2, 1, 1, 0)])[None].astype(np.uint16)
    assert_same(compress(Cine.from_array(cine), "none", 0, 32), cine)
    assert_same(edge_codec.compress(Cine.from_array(cine[:, :1])), cine[:, :1])


def test_source_headers() -> None:
    rng = np.random.default_rng(8)
    first = rng.bytes(40_000)
    headers = tuple(first[:50] + rng.bytes(20 + i) + first[70:] for i in range(4))
    cine = Cine.from_array(beating_heart((2, 2, 8, 8), 9, 1.0).astype(np.int16))
    info = replace(cine.info, source=SourceHeader(SourceKind.DICOM, first))
    data = edge_codec.compress(replace(cine, info=info, metadata=headers))
    assert len(data) < 50_000
    source, frames = plain_decoder.decode_source_headers(data)
    assert source == first
    assert frames == dict(zip([(0, 0), (1, 0), (0, 1), (1, 1)], headers, strict=True))


@pytest.mark.parametrize("model", ["none", "vqvae"])
def test_key_frames_at_any_phase_and_notes(model: str) -> None:
    heart = np.clip(beating_heart((2, 7, 17, 11), 11, 20.0), 0, 2000).astype(np.int16)
    keys = {(0, 2), (0, 3), (1, 5)}
    data, notes = live_stream(heart, model, keys)
    assert_same(data, heart)
    assert plain_decoder.decode_notes(data) == notes
    for place in [(0, 1), (0, 3), (0, 6), (1, 4), (1, 6)]:
        assert (edge_codec.read_frame(io.BytesIO(data), *place) == heart[place]).all()


def live_stream(
    heart: np.ndarray, model: str, keys: set[tuple[int, int]]
) -> tuple[bytes, dict[tuple[int, int], dict[str, int]]]:
    """A stream with further key frames and notes, and its notes."""
    info = Cine.from_array(heart).info
    spec = StreamSpec(info, 0, 2000, window_low=0, window_high=900, key_interval=4)
    loaded = None
    if model == "vqvae":
        hashes = load_manifest(ModelId.VQVAE).decoding_hashes()
        spec = replace(spec, model=ModelId.VQVAE, model_hashes=hashes)
        loaded = load_model(ModelId.VQVAE)
    file, notes = io.BytesIO(), {}
    encoder = Encoder(spec, loaded)
    with StreamWriter(file, spec) as writer:
        for count, (phase, i) in enumerate(np.ndindex(heart.shape[1], heart.shape[0])):
            packet = encoder.push(heart[i, phase], i, key=(i, phase) in keys)
            assert packet.key == ((i, phase) in keys or phase % 4 == 0)
            note = LiveNote(Policy(count % 4), count - 5, count, 2 * count, i, count == 3, i == 1)
            writer.write(replace(packet, layers={**packet.layers, LayerId.LIVE: note.pack()}))
            notes[i, phase] = {name: int(value) for name, value in asdict(note).items()}
    return file.getvalue(), notes


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(("span", "max_error"), [(2000, None), (2000, 3), (200_000, None)])
def test_hybrid_streams(archive: bool, span: int, max_error: int | None) -> None:
    heart = np.rint(beating_heart((2, 11, 22, 27), 5, 6.0) * span / 2000).astype(np.int32)
    info = Cine.from_array(heart).info
    spec = StreamSpec(
        info, 0, span, ModelId.DWT_CAL, max_error=max_error, key_interval=8, archive=archive
    )
    file = io.BytesIO()
    encoder = Encoder(spec, load_model(ModelId.DWT_CAL))
    with StreamWriter(file, spec) as writer:
        for i in range(2):
            for turn in range(11):
                phase = encoder.next_phase(i)
                key = not archive and turn in (3, 9)
                writer.write(encoder.push(heart[i, phase], i, key=key))
    assert_same(file.getvalue())


@pytest.mark.parametrize("shape", [(2, 3, 40, 26), (1, 2, 1, 1), (1, 2, 9, 17)])
def test_wavelet_and_vae_streams(shape: tuple[int, int, int, int]) -> None:
    heart = beating_heart(shape, 5, 10.0).astype(np.uint16)
    assert_same(compress(Cine.from_array(heart), "dwt_cal_vae", None, 2))
    assert_same(compress(Cine.from_array(40 * heart), "dwt_cal_vae", 3, 2), preview=True)


@pytest.mark.parametrize(("model", "archive"), [("vqvae", False), ("dwt_cal", True)])
@pytest.mark.parametrize("max_error", [0, 3])
def test_groups_without_base_layer(model: str, archive: bool, max_error: int) -> None:
    heart = np.clip(beating_heart((2, 5, 12, 14), 12, 30.0), 0, 2000).astype(np.int16)
    number = ModelId[model.upper()]
    hashes = load_manifest(number).decoding_hashes() if model == "vqvae" else ()
    spec = StreamSpec(
        Cine.from_array(heart).info, 0, 2000, number, hashes, max_error, 3,
        window_high=900, archive=archive,
    )  # fmt: skip
    file = io.BytesIO()
    encoders = Encoder(spec, load_model(number)), Encoder(spec, empty_base=True)
    with StreamWriter(file, spec) as writer:
        for turn, i in np.ndindex(5, 2):
            phase = encoders[0].next_phase(i)
            packets = [encoder.push(heart[i, phase], i) for encoder in encoders]
            chosen = packets[(turn // 3 + i) % 2]
            writer.write(replace(chosen, sequence=2 * turn + i))
    assert_same(file.getvalue(), heart if max_error == 0 else None)
    assert_same(file.getvalue(), preview=True)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"v{path.parent.name}-{path.stem}")
def test_released_streams(path: Path) -> None:
    assert_same(path.read_bytes())


def test_plain_decoder_knows_nothing_of_the_product() -> None:
    imported = set()
    for path in TESTS.glob("plain_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    own = {path.stem for path in TESTS.glob("plain_*.py")}
    assert imported <= own | {"numpy", "onnx"} | set(sys.stdlib_module_names)

"""Whole streams of the shipped model: tokens without pixels, golden stream, damage, refusals."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import plain_decoder
import pytest

import edge_codec
from edge_codec.base.titok import load_codebook, tokens_of
from edge_codec.base.titok.conditions import ClinicalFacts, unpack_facts
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId
from edge_codec.cine import Cine
from edge_codec.errors import BitstreamError, EngineError, SpecError
from edge_codec.manifest import ZOO, load_manifest
from edge_codec.runtime.float_network import FLOAT_BACKENDS
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import CompressOptions, DecompressOptions
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId

GOLDEN = Path(__file__).parents[2] / "golden" / "1" / "titok"
TOLERANCE = 1 / 192
"""Of the window's width: what pictures of the same tokens may differ by between machines."""


def cine(slices: int = 2, phases: int = 3) -> Cine:
    voxels = heart(slices * phases, 48, 40, np.dtype(np.uint16))
    return Cine.from_array(voxels.reshape(phases, slices, 48, 40).swapaxes(0, 1).copy())


def compress(source: Cine, patient: ClinicalFacts | None = None) -> bytes:
    file = io.BytesIO()
    options = CompressOptions(
        ModelId.TITOK, None, backend="onnxruntime", threads=1, patient=patient
    )
    encode_stream(source, file, options)
    return file.getvalue()


def decompress(data: bytes) -> np.ndarray:
    sink = MemorySink()
    options = DecompressOptions(backend="onnxruntime", threads=1)
    report = decode_stream(io.BytesIO(data), lambda _: sink, options)
    return sink.cine(report.spec.info).voxels


@pytest.fixture(scope="module")
def stream() -> bytes:
    return compress(cine())


def test_a_frame_takes_its_tokens_and_few_bytes(stream):
    reader = StreamReader(io.BytesIO(stream))
    sizes = [len(packet.layers[LayerId.BASE]) for packet in reader.packets()]
    assert len(sizes) == 6
    assert max(sizes) < 130
    spec = reader.spec
    assert spec.model_hashes == load_manifest(ModelId.TITOK).decoding_hashes()
    assert unpack_facts(spec.model_data) == ClinicalFacts(n_phases=3)


def test_tokens_are_read_alike_by_both_decoders(stream):
    tokens = tokens_of(io.BytesIO(stream))
    assert tokens.shape == (2, 3, 32)
    assert tokens.dtype == np.uint16
    assert np.array_equal(tokens, plain_decoder.decode_tokens(stream, ZOO / "titok"))


def test_reading_tokens_needs_no_backend():
    code = (
        "import io, sys; sys.modules['onnxruntime'] = sys.modules['openvino'] = None;"
        "from edge_codec.base.titok import tokens_of;"
        "print(tokens_of(open(sys.argv[1], 'rb')).shape, 'torch' in sys.modules)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, GOLDEN / "titok.ecd"],
        capture_output=True, text=True, check=True, cwd=ZOO.parents[1],
    )  # fmt: skip
    assert made.stdout == "(2, 5, 32) False\n"


def test_the_picture_has_the_shape_and_range_of_the_source(stream):
    back, source = decompress(stream), cine().voxels
    assert back.shape == source.shape
    assert back.dtype == source.dtype
    assert back.min() >= source.min()
    assert back.max() <= source.max()


def test_python_calls():
    source = cine(1, 1)
    data = edge_codec.compress(source, model="titok", max_error=None)
    assert edge_codec.decompress(data).voxels.shape == source.voxels.shape


def test_backends_show_about_the_same():
    data = (GOLDEN / "titok.ecd").read_bytes()
    reader = StreamReader(io.BytesIO(data))
    spec, shown = reader.spec, []
    for backend in FLOAT_BACKENDS:
        model = load_model(ModelId.TITOK, backend=backend, threads=1, decode_only=True)
        coders = [model.coder(spec) for _ in range(2)]
        shown.append(
            [
                coders[packet.slice_index].decode(
                    packet.layers[LayerId.BASE], packet.phase_index, packet.key
                )
                for packet in StreamReader(io.BytesIO(data)).packets()
            ]
        )
    one, two = np.array(shown, np.int64)
    assert np.abs(one - two).max() <= TOLERANCE * (spec.window_high - spec.window_low) + 1


def test_the_golden_stream():
    data = (GOLDEN / "titok.ecd").read_bytes()
    assert np.array_equal(tokens_of(io.BytesIO(data)), np.load(GOLDEN / "tokens.npy"))
    spec = StreamReader(io.BytesIO(data)).spec
    facts = ClinicalFacts(height_cm=172.5, weight_kg=80, group="HCM", n_phases=5)
    assert unpack_facts(spec.model_data) == facts
    voxels, expected = decompress(data), np.load(GOLDEN / "voxels.npy")
    assert voxels.dtype == expected.dtype
    difference = np.abs(voxels.astype(np.int64) - expected)
    assert difference.max() <= TOLERANCE * (spec.window_high - spec.window_low) + 1


def test_facts_are_kept_only_where_they_are_given():
    source = cine(1, 2)
    facts = ClinicalFacts(weight_kg=70, group="RV")
    told = compress(source, facts)
    found = unpack_facts(StreamReader(io.BytesIO(told)).spec.model_data)
    assert found == ClinicalFacts(weight_kg=70, group="RV", n_phases=2)
    with pytest.raises(SpecError, match="no facts"):
        edge_codec.compress(source, patient=facts)


@pytest.mark.parametrize("options", [{}, {"max_error": 2}, {"snr_loss_percent": 5.0}], ids=str)
def test_no_bound_can_be_asked_for(options):
    with pytest.raises(SpecError, match="takes no bound"):
        edge_codec.compress(cine(1, 1), model="titok", **options)


def test_other_streams_have_no_tokens_of_this_kind(stream):
    with pytest.raises(SpecError, match="compress with --model titok"):
        tokens_of(io.BytesIO(edge_codec.compress(cine(1, 1))))
    with pytest.raises(BitstreamError):
        tokens_of(io.BytesIO(stream[:-80]))
    hashes = load_manifest(ModelId.TITOK).decoding_hashes()
    other = stream.replace(hashes[0], bytes(32))
    with pytest.raises(BitstreamError, match="CRC"):
        tokens_of(io.BytesIO(other))


def test_streams_of_other_weights_are_refused(stream, monkeypatch):
    def other_hashes(manifest):
        return (bytes(32),) * len(manifest.decoding)

    monkeypatch.setattr(type(load_manifest(ModelId.TITOK)), "decoding_hashes", other_hashes)
    with pytest.raises(EngineError, match="other weights"):
        tokens_of(io.BytesIO(stream))
    with pytest.raises(EngineError, match="other weights"):
        edge_codec.decompress(stream)


def test_every_flipped_bit_of_a_frame_is_found(stream):
    reader = StreamReader(io.BytesIO(stream))
    payload = next(iter(reader.packets())).layers[LayerId.BASE]
    at = stream.index(payload)
    for offset in range(0, len(payload), 5):
        damaged = bytearray(stream)
        damaged[at + offset] ^= 4
        with pytest.raises(BitstreamError):
            tokens_of(io.BytesIO(bytes(damaged)))


@pytest.mark.parametrize(
    ("at", "raw", "message"),
    [
        (36, bytes(4), "takes no bound"),
        (78, b"\6\0", "add up to"),
        (-11, b"\x09", "group 9"),
        (-10, b"\xff\xff", "impossible facts"),
    ],
    ids=["a bound", "too few facts", "no such group", "a giant"],
)
def test_hostile_headers_are_refused(stream, at, raw, message):
    size = int.from_bytes(stream[12:16], "little")
    facts_end = size - 4 - int.from_bytes(stream[144:148], "little")
    place = at if at > 0 else facts_end + at + 4
    header = bytearray(stream[: size - 4])
    header[place : place + len(raw)] = raw
    hostile = bytes(header) + zlib.crc32(header).to_bytes(4, "little") + stream[size:]
    with pytest.raises(BitstreamError, match=message):
        decompress(hostile)


def test_the_codebook_is_on_the_unit_sphere():
    codebook = load_codebook()
    assert np.allclose(np.linalg.norm(codebook, axis=1), 1, atol=1e-4)

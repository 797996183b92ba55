"""Files of titok are refined whole; what is no whole cycle comes as it was painted."""

from __future__ import annotations

import io
import itertools
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.cine import Cine
from edge_codec.codec import Encoder
from edge_codec.errors import EngineError
from edge_codec.io import open_source
from edge_codec.runtime import whole_slices
from edge_codec.runtime.files import decompress_file
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import CompressOptions, DecompressOptions, TransferReport
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES, SLICES = 10, 2
ORT = DecompressOptions(backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def cine() -> Cine:
    """Every other phase of the heart of the example, two slices."""
    frames = list(open_source(EXAMPLE).frames())
    voxels = np.empty((SLICES, PHASES, 96, 96), np.int16)
    for frame in frames:
        if frame.phase_index % 2 == 0:
            shown = frame.samples[76:172, 76:172]
            voxels[frame.slice_index, frame.phase_index // 2] = shown
    return Cine.from_array(voxels)


def coded(cine: Cine) -> bytes:
    file = io.BytesIO()
    options = CompressOptions(ModelId.TITOK, None, backend="onnxruntime", threads=1)
    encode_stream(cine, file, options)
    return file.getvalue()


@pytest.fixture(scope="module")
def stream(cine) -> bytes:
    return coded(cine)


def decoded(data: bytes, options: DecompressOptions = ORT) -> tuple[np.ndarray, TransferReport]:
    sink = MemorySink()
    report = decode_stream(io.BytesIO(data), lambda _: sink, options)
    return sink.cine(report.spec.info).voxels, report


def test_a_file_is_refined_and_a_preview_is_not(cine, stream):
    refined, report = decoded(stream)
    painted, preview = decoded(stream, replace(ORT, preview=True))
    assert (report.refined_slices, preview.refined_slices) == (SLICES, 0)
    errors = [
        np.square(found.astype(float) - cine.voxels).mean(axis=(2, 3))
        for found in (painted, refined)
    ]
    gain_db = 10 * np.log10(errors[0] / errors[1])
    assert gain_db.mean() > 0.5
    assert gain_db[:, 0].min() > 1  # first frames have most to gain
    assert refined.min() >= report.spec.low
    assert refined.max() <= report.spec.high


def test_refining_is_the_same_again_and_on_both_backends(stream):
    first = decoded(stream)[0]
    assert np.array_equal(first, decoded(stream)[0])
    pytest.importorskip("openvino")
    other, report = decoded(stream, replace(ORT, backend="openvino"))
    width = report.spec.window_high - report.spec.window_low
    assert np.abs(other.astype(int) - first).max() <= width / 192


def test_the_time_of_refining_is_that_of_the_frames(stream, monkeypatch):
    refine = whole_slices.CineRefinement.refine

    def slow(*arguments):
        time.sleep(0.5)
        return refine(*arguments)

    monkeypatch.setattr(whole_slices.CineRefinement, "refine", slow)
    found = decoded(stream)[1].frame_ms
    assert len(found) == SLICES * PHASES
    assert min(found) > 500 / PHASES


def test_ages_are_counted_from_key_frames_between_the_intervals(cine, stream, monkeypatch):
    spec, file = StreamReader(io.BytesIO(stream)).spec, io.BytesIO()
    model = load_model(ModelId.TITOK, backend="onnxruntime", threads=1)
    encoder, writer = Encoder(spec, model), StreamWriter(file, spec)
    for phase, index in itertools.product(range(PHASES), range(SLICES)):
        frame = cine.voxels[index, phase]
        writer.write(encoder.push(frame, index, key=index == 1 and phase in (3, 4)))
    writer.close()
    told = []
    load_network = whole_slices.load_network

    def load(*arguments):
        network = load_network(*arguments)

        def run(inputs):
            told.append(inputs["age"].tolist())
            return network.run(inputs)

        return SimpleNamespace(name="told", run=run)

    monkeypatch.setattr(whole_slices, "load_network", load)
    assert decoded(file.getvalue())[1].refined_slices == SLICES
    assert told == [list(range(PHASES)), [0, 1, 2, 0, *range(PHASES - 4)]]


def test_what_is_no_whole_cycle_stays_as_it_was_painted(cine, monkeypatch):
    short = Cine.from_array(cine.voxels[:, :7])
    assert decoded(coded(short))[1].refined_slices == 0
    spec = decoded(coded(cine), replace(ORT, preview=True))[1].spec
    told_nothing = replace(spec, model_data=ClinicalFacts().pack())
    assert whole_slices.load_refinement(told_nothing, ORT) is None
    assert whole_slices.load_refinement(spec, ORT) is not None
    monkeypatch.setattr(whole_slices, "MOST_VOXELS", cine.voxels.size - 1)
    assert whole_slices.load_refinement(spec, ORT) is None


def test_a_slice_that_lacks_a_frame_is_left_alone(stream):
    whole, _ = decoded(stream)
    damaged = bytearray(stream)
    damaged[len(stream) // 2] ^= 0xFF  # a packet of one of the slices
    found, report = decoded(bytes(damaged), replace(ORT, recover=True))
    assert report.missing
    lost = {slice_index for slice_index, _ in report.missing}
    assert report.refined_slices == SLICES - len(lost)
    for index in set(range(SLICES)) - lost:
        assert np.array_equal(found[index], whole[index])


def test_an_altered_network_leaves_no_target(stream, tmp_path, monkeypatch):
    manifest = whole_slices.load_manifest(ModelId.TITOK)
    altered = replace(manifest, hashes={**manifest.hashes, "refiner.onnx": "00" * 32})
    monkeypatch.setattr(whole_slices, "load_manifest", lambda model: altered)
    (tmp_path / "a.ecd").write_bytes(stream)
    with pytest.raises(EngineError, match="was altered"):
        decompress_file(tmp_path / "a.ecd", tmp_path / "a.npy", ORT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ecd"]


def test_weights_that_have_no_refinement_are_no_error(stream, monkeypatch):
    manifest = whole_slices.load_manifest(ModelId.TITOK)
    hashes = {name: digest for name, digest in manifest.hashes.items() if name != "refiner.onnx"}
    bare = replace(manifest, hashes=hashes)
    monkeypatch.setattr(whole_slices, "load_manifest", lambda model: bare)
    assert decoded(stream)[1].refined_slices == 0

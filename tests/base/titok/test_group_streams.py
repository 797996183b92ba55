"""Whole streams of whole cines and exams: golden ones, a second decoder, damage, refusals."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import plain_container
import pytest
from plain_titok import PlainGroups

import edge_codec
from edge_codec.base.titok import group_tokens_of, tokens_of
from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.packet import LayerId
from edge_codec.cine import Cine
from edge_codec.errors import BitstreamError, EngineError, SpecError
from edge_codec.manifest import ZOO, load_manifest
from edge_codec.metrics.image import psnr
from edge_codec.retrieval.exam_tokens import read_exam
from edge_codec.runtime.arrays import read_frame
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions, parse_model
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.spec import ModelId, TokensPer

GOLDEN = Path(__file__).parents[2] / "golden" / "1" / "titok_groups"
TOLERANCE = 1 / 192
"""Of the window's width: what pictures of the same tokens may differ by between machines."""

PERS = pytest.mark.parametrize("per", ["cine", "exam"])
LEAST_PSNR = {"cine": 19.5, "exam": 17.5}
"""Of a phantom that the tables know nothing of, in dB; even gray of the best level has 13.1."""


def cine(slices: int = 3, phases: int = 8, side: tuple[int, int] = (48, 40)) -> Cine:
    voxels = heart(slices * phases, *side, np.dtype(np.uint16))
    return Cine.from_array(voxels.reshape(slices, phases, *side))


def compress(source: Cine, per: str) -> bytes:
    return edge_codec.compress(source, model="titok", max_error=None, tokens_per=per)


@pytest.fixture(scope="module")
def streams() -> dict[str, bytes]:
    return {per: compress(cine(), per) for per in ("cine", "exam")}


@PERS
def test_all_tokens_are_in_the_header(streams, per):
    data = streams[per]
    reader = StreamReader(io.BytesIO(data))
    packets = list(reader.packets())
    assert len(packets) == 24
    assert all(packet.layers == {LayerId.BASE: b""} for packet in packets)
    spec = reader.spec
    assert spec.model is ModelId.TITOK_GROUPS
    assert len(spec.model_data) == 3 + 48 * (3 if per == "cine" else 1)
    assert spec.model_hashes == load_manifest("titok_groups").decoding_hashes()
    found = group_tokens_of(io.BytesIO(data))
    assert (found.per.label, found.n_phases) == (per, 8)
    assert len(data) < 24 * 9 + 500


@PERS
def test_the_phantom_is_seen(streams, per):
    source, back = cine().voxels, edge_codec.decompress(streams[per]).voxels
    assert (back.shape, back.dtype) == (source.shape, source.dtype)
    assert source.min() <= back.min()
    assert back.max() <= source.max()
    error = np.mean((source.astype(float) - back) ** 2)
    assert psnr(float(error), float(source.max())) > LEAST_PSNR[per]
    gray = psnr(float(source.astype(float).var()), float(source.max()))
    assert gray < LEAST_PSNR[per] - 3


@PERS
def test_the_same_cine_gives_the_same_stream(streams, per):
    assert compress(cine(), per) == streams[per]
    one, two = (edge_codec.decompress(streams[per]).voxels for _ in range(2))
    assert np.array_equal(one, two)


@PERS
def test_a_frame_is_read_alone(streams, per):
    whole = edge_codec.decompress(streams[per]).voxels
    assert np.array_equal(read_frame(io.BytesIO(streams[per]), 2, 5), whole[2, 5])


@PERS
def test_the_golden_streams(per):
    data = (GOLDEN / f"{per}.ecd").read_bytes()
    voxels, expected = edge_codec.decompress(data).voxels, np.load(GOLDEN / f"{per}.npy")
    assert voxels.dtype == expected.dtype
    spec = StreamReader(io.BytesIO(data)).spec
    difference = np.abs(voxels.astype(np.int64) - expected)
    assert difference.max() <= TOLERANCE * (spec.window_high - spec.window_low) + 1


@PERS
def test_a_second_decoder_reads_and_paints_alike(per):
    data = (GOLDEN / f"{per}.ecd").read_bytes()
    header, _ = plain_container.read_header(data)
    plain = PlainGroups(header, (ZOO / "titok_groups" / "groups.npz").read_bytes())
    assert np.array_equal(plain.tokens, group_tokens_of(io.BytesIO(data)).tokens)
    voxels = edge_codec.decompress(data).voxels.astype(np.int64)
    for place in ((0, 0), (1, 3)):
        shown = plain.frame(*place) + header.low
        assert np.abs(shown - voxels[place]).max() <= 1


def test_frames_of_few_phases_and_slices_are_coded():
    for shape in ((1, 1), (1, 2), (2, 3)):
        source = cine(*shape, side=(30, 9))
        for per in ("cine", "exam"):
            back = edge_codec.decompress(compress(source, per)).voxels
            assert back.shape == source.voxels.shape


@PERS
def test_a_lost_packet_costs_no_other_slice(streams, per):
    reader = StreamReader(io.BytesIO(streams[per]))
    spec, damaged = reader.spec, bytearray(streams[per])
    writer = StreamWriter(io.BytesIO(), spec)
    for packet in reader.packets():
        if (packet.slice_index, packet.phase_index) == (1, 1):
            damaged[writer.offset + 1] ^= 255
        writer.write(packet)
    with pytest.raises(BitstreamError):
        edge_codec.decompress(bytes(damaged))
    sink = MemorySink()
    report = decode_stream(io.BytesIO(damaged), lambda _: sink, DecompressOptions(recover=True))
    assert sorted(report.missing) == [(1, phase) for phase in range(1, 8)]
    found, whole = sink.cine(spec.info).voxels, edge_codec.decompress(streams[per]).voxels
    assert np.array_equal(found[[0, 2]], whole[[0, 2]])
    assert np.array_equal(found[1, 0], whole[1, 0])


@PERS
def test_every_flipped_bit_of_the_tokens_is_found(streams, per):
    data = streams[per]
    spec = StreamReader(io.BytesIO(data)).spec
    at = data.index(spec.model_data)
    for offset in range(0, len(spec.model_data), 7):
        damaged = bytearray(data)
        damaged[at + offset] ^= 16
        for read in (edge_codec.decompress, lambda raw: group_tokens_of(io.BytesIO(raw))):
            with pytest.raises(BitstreamError, match="CRC"):
                read(bytes(damaged))
    with pytest.raises(BitstreamError):
        edge_codec.decompress(data[: at + 20])


def test_tokens_are_read_of_a_stream_cut_behind_its_header(streams):
    data = streams["cine"]
    head = data[: int.from_bytes(data[12:16], "little")]
    found, whole = (group_tokens_of(io.BytesIO(raw)).tokens for raw in (head, data))
    assert np.array_equal(found, whole)


@PERS
def test_tokens_of_frames_are_refused_of_groups_and_back(streams, per):
    for read in (tokens_of, read_exam):
        with pytest.raises(SpecError, match="compress with --tokens-per frame"):
            read(io.BytesIO(streams[per]))
    with pytest.raises(SpecError, match="no tokens of whole cines"):
        group_tokens_of(io.BytesIO(edge_codec.compress(cine(1, 1))))


def test_streams_of_other_weights_are_refused(streams, monkeypatch):
    def other_hashes(manifest):
        return (bytes(32),) * len(manifest.decoding)

    monkeypatch.setattr(type(load_manifest("titok_groups")), "decoding_hashes", other_hashes)
    with pytest.raises(EngineError, match="other weights of 'titok-groups'"):
        group_tokens_of(io.BytesIO(streams["exam"]))
    with pytest.raises(EngineError, match="other weights of 'titok-groups'"):
        edge_codec.decompress(streams["exam"])


def test_what_does_not_go_together_is_refused():
    source = cine(1, 2)
    with pytest.raises(SpecError, match="takes no bound"):
        edge_codec.compress(source, model="titok", tokens_per="cine")
    with pytest.raises(SpecError, match="it is model titok that takes tokens_per"):
        edge_codec.compress(source, model="vqvae", max_error=None, tokens_per="cine")
    with pytest.raises(SpecError, match="use one of frame, cine, exam"):
        edge_codec.compress(source, model="titok", max_error=None, tokens_per="slice")
    with pytest.raises(SpecError, match="no facts about the patient"):
        CompressOptions(ModelId.TITOK, None, patient=ClinicalFacts(70), tokens_per=TokensPer.EXAM)
    with pytest.raises(SpecError, match="need no network"):
        CompressOptions(ModelId.TITOK, None, backend="openvino", tokens_per=TokensPer.CINE)
    with pytest.raises(SpecError, match="unknown"):
        parse_model("titok-groups")
    with pytest.raises(SpecError, match="takes tokens_per"):
        CompressOptions(ModelId.TITOK_GROUPS, None)
    with pytest.raises(SpecError, match="only when its last frame is"):
        LiveOptions(ModelId.TITOK_GROUPS, None)
    with pytest.raises(SpecError, match="86 groups"):
        compress(cine(86, 1, (2, 2)), "cine")


def test_no_network_and_no_training_library_is_needed():
    code = (
        "import sys; sys.modules['onnxruntime'] = sys.modules['openvino'] = None;"
        "import edge_codec; cine = edge_codec.decompress(open(sys.argv[1], 'rb').read());"
        "print(cine.voxels.shape, 'torch' in sys.modules)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, GOLDEN / "exam.ecd"],
        capture_output=True, text=True, check=True, cwd=ZOO.parents[1],
    )  # fmt: skip
    assert made.stdout == "(2, 5, 40, 30) False\n"

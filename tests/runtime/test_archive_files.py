"""Whole files whose heart cycles are coded as a hierarchy, over a base layer that is a toy."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from toy_base import STEP, ToyModel

from edge_codec import Cine
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.io import open_sink, open_source
from edge_codec.runtime import arrays, files, stream_decoding, stream_encoding
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions, TransferReport
from edge_codec.runtime.progress import silent
from edge_codec.runtime.stream_spec import make_spec
from edge_codec.spec import ModelId, SourceHeader, SourceKind

SLICES, PHASES, INTERVAL = 2, 11, 8
VOXELS = np.random.default_rng(8).integers(0, 900, (SLICES, PHASES, 16, 10)).astype(np.int16)
ARCHIVE = CompressOptions(
    ModelId.DWT_CAL,
    0,
    INTERVAL,
    archive=True,
    base_cost_percent=1e9,  # toys cost what they like
)


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Make the model a toy, and keep all that are made."""
    made = []

    def load_model(*_, **__):
        made.append(ToyModel())
        return made[-1]

    for module in (arrays, stream_decoding, stream_encoding):
        monkeypatch.setattr(module, "load_model", load_model)
    return made


def compress(cine: Cine, options: CompressOptions = ARCHIVE) -> tuple[bytes, TransferReport]:
    file = io.BytesIO()
    report = stream_encoding.encode_stream(cine, file, options)
    return file.getvalue(), report


def test_a_cine_comes_back_in_the_order_of_its_file(tmp_path):
    cine = Cine.from_array(VOXELS)
    headers = tuple(b"header of frame %d" % number for number in range(SLICES * PHASES))
    info = replace(cine.info, source=SourceHeader(SourceKind.DICOM, b"header of frame"))
    data, report = compress(replace(cine, info=info, metadata=headers))
    assert report.spec.archive
    found = []

    class Sink(MemorySink):
        def write(self, slice_index, phase_index, samples, metadata):
            found.append(metadata)
            super().write(slice_index, phase_index, samples, metadata)

    sink = Sink()
    stream_decoding.decode_stream(io.BytesIO(data), lambda _: sink, DecompressOptions())
    np.testing.assert_array_equal(sink.cine(report.spec.info).voxels, VOXELS)
    assert found == list(headers)
    packets = list(StreamReader(io.BytesIO(data)).packets())
    order = PhaseOrder(report.spec)
    turns = [order.phase_at(turn) for turn in range(PHASES)]
    assert turns != sorted(turns)
    for index in range(SLICES):
        assert [p.phase_index for p in packets if p.slice_index == index] == turns


def test_files_on_the_disk(tmp_path):
    source, target, back = (tmp_path / name for name in ("a.nii.gz", "a.ecd", "b.nii.gz"))
    cine = Cine.from_array(VOXELS)
    with open_sink(source, make_spec(cine, CompressOptions(), silent)) as sink:
        for frame in cine.frames():
            sink.write(frame.slice_index, frame.phase_index, frame.samples)
    files.compress_file(source, target, ARCHIVE)
    files.decompress_file(target, back, DecompressOptions())
    found = [frame.samples for frame in open_source(back).frames()]
    np.testing.assert_array_equal(np.stack(found), VOXELS.swapaxes(0, 1).reshape(-1, 16, 10))


def test_one_frame_is_decoded_with_what_leads_to_it(models):
    data, report = compress(Cine.from_array(VOXELS))
    order = PhaseOrder(report.spec)
    for phase in range(PHASES):
        models.clear()
        frame = arrays.read_frame(io.BytesIO(data), 1, phase)
        np.testing.assert_array_equal(frame, VOXELS[1, phase])
        (coder,) = models[0].coders
        first, last = phase - phase % INTERVAL, order.turn_of(phase)
        assert [seen for seen, _ in coder.seen] == list(map(order.phase_at, range(first, last + 1)))


def test_what_damage_leaves_of_an_archive():
    data, report = compress(Cine.from_array(VOXELS))
    reader = StreamReader(io.BytesIO(data))
    lost = next(p for p in reader.packets() if (p.slice_index, p.phase_index) == (1, 2))
    order = PhaseOrder(report.spec)
    damaged = bytearray(data)
    at = data.index(lost.layers[1])  # its residual layer
    damaged[at + 50] ^= 8
    with pytest.raises(BitstreamError, match="--recover"):
        stream_decoding.decode_stream(
            io.BytesIO(damaged), lambda _: MemorySink(), DecompressOptions()
        )
    written = {}

    class Sink(MemorySink):
        def write(self, slice_index, phase_index, samples, metadata):
            written[slice_index, phase_index] = samples
            super().write(slice_index, phase_index, samples, metadata)

    sink = Sink()
    report = stream_decoding.decode_stream(
        io.BytesIO(damaged), lambda _: sink, DecompressOptions(recover=True)
    )
    gone = {(1, order.phase_at(turn)) for turn in range(order.turn_of(2), INTERVAL)}
    assert set(report.missing) == gone
    found = sink.cine(report.spec.info).voxels
    for place in np.ndindex(SLICES, PHASES):
        expected = np.zeros((16, 10)) if place in gone else VOXELS[place]
        np.testing.assert_array_equal(found[place], expected)
    placeholders = {id(written[place]): written[place] for place in gone}
    (placeholder,) = placeholders.values()  # one for all: a hostile stream may lack many
    assert not placeholder.flags.writeable


@pytest.mark.parametrize(
    ("phases", "interval"), [(1, 1), (20, 20), (64, 64), (65, 33), (129, 43), (200, 50)]
)
def test_a_group_is_as_long_as_the_cycle_allows(phases, interval):
    cine = Cine.from_array(np.zeros((phases, 2, 2), np.int16))
    options = replace(ARCHIVE, key_interval=None)
    assert make_spec(cine, options, silent).key_interval == interval
    assert make_spec(cine, replace(options, archive=False), silent).key_interval == 32


def test_groups_that_are_too_long_are_refused():
    with pytest.raises(SpecError, match="at most 64"):
        compress(Cine.from_array(VOXELS), replace(ARCHIVE, key_interval=65))


def test_the_psnr_of_a_base_layer_alone_is_reported():
    cine = Cine.from_array(VOXELS)
    _, report = compress(cine, replace(ARCHIVE, max_error=None, base_cost_percent=None))
    error = (VOXELS % STEP).astype(float)
    peak = int(VOXELS.max())
    assert report.base_psnr_db == pytest.approx(10 * np.log10(peak**2 / (error**2).mean()))
    assert compress(cine)[1].base_psnr_db is None
    assert compress(cine, CompressOptions())[1].base_psnr_db is None


def test_a_source_that_lacks_a_frame_is_noticed():
    cine = Cine.from_array(VOXELS)

    class Source:
        info = cine.info

        def frames(self):
            return (f for f in cine.frames() if (f.slice_index, f.phase_index) != (1, 3))

    with pytest.raises(FrameError, match="its header says 22"):
        compress(Source())

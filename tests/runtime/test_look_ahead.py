"""Key frames that are filtered with what follows them: files, memory, and who does not do it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from toy_base import ToyModel

import edge_codec
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.codec import Encoder
from edge_codec.errors import FrameError, SpecError
from edge_codec.io import SourceFrame
from edge_codec.metrics.image import psnr
from edge_codec.runtime import stream_encoding
from edge_codec.runtime.coding_order import looking_ahead
from edge_codec.runtime.options import CompressOptions
from edge_codec.spec import CineInfo, ModelId, StreamSpec

SLICES, PHASES = 2, 12
ORDERS = {"low delay": False, "archive": True}


def noisy_cine() -> edge_codec.Cine:
    """Slices in which little moves and noise is all that differs."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:48, 0:64]
    frames = [
        500 + 200 * np.sin(x / 7) + 300 * (np.hypot(y - 24, x - 30) < 10 + 2 * np.sin(phase / 2))
        for phase in range(PHASES)
    ]
    voxels = np.stack(frames)[None] + rng.normal(0, 12, (SLICES, PHASES, 48, 64))
    return edge_codec.Cine.from_array(np.rint(voxels).astype(np.int16))


CINE = noisy_cine()


def spec_of(interval: int, archive: bool = False, phases: int = PHASES) -> StreamSpec:
    info = CineInfo(SLICES, phases, 1, 1, np.dtype(np.int16))
    return StreamSpec(
        info, 0, 999, ModelId.DWT_CAL, max_error=None, key_interval=interval, archive=archive
    )


def source(phases: int = PHASES) -> list[SourceFrame]:
    """Frames whose one voxel says which they are."""
    return [
        SourceFrame(s, p, np.array([[100 * s + p]], np.int16), b"%d %d" % (s, p))
        for p in range(phases)
        for s in range(SLICES)
    ]


@pytest.mark.parametrize("look_ahead", [0, 1, 3, 16])
@pytest.mark.parametrize("interval", [2, 5, 32])
def test_key_frames_come_with_the_next_phases_of_their_group(interval, look_ahead):
    found = list(looking_ahead(source(), spec_of(interval), look_ahead))
    assert [f.metadata for f in found] == [f.metadata for f in source()]
    for frame in found:
        first = frame.phase_index + 1
        end = min(first + look_ahead, first - 1 + interval, PHASES)
        due = range(first, end) if not (first - 1) % interval else ()
        assert [int(a[0, 0]) for a in frame.ahead] == [100 * frame.slice_index + p for p in due]


@pytest.mark.parametrize("look_ahead", [0, 1, 4, 16])
def test_key_frames_of_an_archive_come_with_what_is_nearest_around_the_cycle(look_ahead):
    nearest = {0: (1, 6, 2, 5, 3, 4), 7: (8, 11, 9, 10)}  # by key frame; 12 phases in groups of 7
    found = list(looking_ahead(source(), spec_of(7, archive=True), look_ahead))
    assert [f.metadata for f in found] == [f.metadata for f in source()]
    for frame in found:
        due = nearest.get(frame.phase_index, ())[:look_ahead]
        assert [int(a[0, 0]) for a in frame.ahead] == [100 * frame.slice_index + p for p in due]


def test_key_frames_from_which_nothing_is_predicted_are_left_as_they_are():
    for frame in looking_ahead(source(), spec_of(1), 6):
        assert frame.ahead == ()


def test_no_more_frames_are_kept_than_are_looked_at():
    frames, taken = iter(source()), 0

    def counted():
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    found = looking_ahead(counted(), spec_of(5), 3)
    for number, frame in enumerate(found, 1):
        kept = taken - number
        assert kept <= 3 * SLICES
        if frame.phase_index == 4:
            assert kept == 0  # none is read for frames that do not look ahead
    assert taken == number == SLICES * PHASES


def test_a_source_that_lacks_frames_is_not_read_to_its_end():
    frames = iter([frame for frame in source() if frame.slice_index or not frame.phase_index])
    first = next(looking_ahead(frames, spec_of(32), 3))
    assert first.ahead == ()
    assert len(list(frames)) == PHASES - 3 * SLICES


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_a_coder_is_told_of_what_follows_in_time(archive, monkeypatch):
    made = []
    monkeypatch.setattr(
        stream_encoding, "load_model", lambda *_, **__: made.append(ToyModel()) or made[-1]
    )
    options = CompressOptions(ModelId.DWT_CAL, None, 7, archive=archive, look_ahead=4)
    stream_encoding.encode_stream(CINE, io.BytesIO(), options)
    order = PhaseOrder(spec_of(7, archive))
    for index, coder in enumerate(made[0].coders):
        assert [key for _, key in coder.seen].count(True) == 2
        for (phase, key), ahead in zip(coder.seen, coder.ahead, strict=True):
            phases = (phase + i for i in ((1, 6, 2, 5) if archive else (1, 2, 3, 4)))
            if archive and phase == 7:  # the last group has five phases
                phases = iter((8, 11, 9, 10))
            due = [CINE.voxels[index, other] for other in phases] if key else ()
            low = int(CINE.voxels.min())
            assert len(ahead) == len(due)
            for frame, expected in zip(ahead, due, strict=True):
                np.testing.assert_array_equal(frame, expected - low)
        assert [phase for phase, _ in coder.seen] == [order.phase_at(t) for t in range(PHASES)]
    del made[:]
    options = CompressOptions(ModelId.DWT_CAL, None, 7, archive=archive, look_ahead=0)
    stream_encoding.encode_stream(CINE, io.BytesIO(), options)
    assert not any(ahead for coder in made[0].coders for ahead in coder.ahead)


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_a_noisy_cine_takes_fewer_bits_for_the_same_quality(archive):
    sizes, levels = [], []
    for look_ahead in (0, None):
        data = edge_codec.compress(
            CINE, model="dwt-cal", max_error=None, effort="fast", archive=archive, quality=30,
            look_ahead=look_ahead,
        )  # fmt: skip
        assert StreamReader(io.BytesIO(data)).n_packets == SLICES * PHASES
        error = edge_codec.decompress(data).voxels.astype(float) - CINE.voxels
        sizes.append(len(data))
        levels.append(psnr(float((error**2).mean()), int(CINE.voxels.max())))
    assert abs(levels[1] - levels[0]) < 0.3  # less than half a step of quality
    assert sizes[1] < 0.8 * sizes[0]


def test_a_filtered_key_frame_lies_below_any_promise():
    usual, same, other = (
        edge_codec.compress(CINE, model="dwt-cal", effort="fast", look_ahead=n)
        for n in (None, 16, 0)
    )
    assert usual == same != other
    np.testing.assert_array_equal(edge_codec.decompress(usual).voxels, CINE.voxels)


def test_a_target_psnr_is_reached_with_the_filter():
    data = edge_codec.compress(CINE, model="dwt-cal", max_error=None, effort="fast", psnr_db=34)
    error = edge_codec.decompress(data).voxels.astype(float) - CINE.voxels
    assert 34 <= psnr(float((error**2).mean()), int(CINE.voxels.max())) < 36


def test_frames_ahead_are_checked_before_anything_is_coded():
    spec, model = spec_of(32), ToyModel()
    encoder = Encoder(spec, model)
    frame = np.array([[3]], np.int16)
    for ahead, what in ((frame + 1000, "opened for 0..999"), (np.zeros((2, 1), int), r"\(2, 1\)")):
        with pytest.raises(FrameError, match=what):
            encoder.push(frame, ahead=[frame, ahead])
    assert encoder.push(frame, ahead=[frame]).phase_index == 0


def test_who_does_not_look_ahead_says_so():
    for model in (ModelId.NONE, ModelId.VQVAE, ModelId.VIDEO):
        with pytest.raises(SpecError, match="does not look ahead; use model dwt-cal"):
            CompressOptions(model, look_ahead=0)
        assert CompressOptions(model, None).key_look_ahead == 0
    for number in (-1, 17, 2.5):
        with pytest.raises(SpecError, match="use 0 to 16 phases"):
            CompressOptions(ModelId.DWT_CAL, look_ahead=number)
    assert CompressOptions(ModelId.DWT_CAL, None).key_look_ahead == 16
    assert CompressOptions(ModelId.DWT_CAL, 0, snr_loss_percent=5).key_look_ahead == 16
    assert CompressOptions(ModelId.DWT_CAL, 2, look_ahead=16).key_look_ahead == 16
    assert CompressOptions(ModelId.DWT_CAL, 2, look_ahead=0).key_look_ahead == 0

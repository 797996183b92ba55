from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.base.hybrid.coder import HybridCoder
from edge_codec.base.hybrid.depth import DepthMap
from edge_codec.base.hybrid.model import HybridModel, HybridSettings
from edge_codec.base.hybrid.quantizer import (
    FILTERED_OFFSET,
    LOW_DELAY_OFFSETS,
    level_of,
    quantizer_at,
)
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.io import open_source
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

EXAM = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES = 7


@lru_cache
def heart() -> NDArray[np.uint32]:
    """Frames around the heart, of sides that are no multiples of 8."""
    frames = [frame.samples for frame in open_source(EXAM).frames() if frame.slice_index == 0]
    return np.stack(frames)[:, 96:146, 98:159].astype(np.uint32)


def spec_of(n_phases: int = PHASES, key_interval: int = 32, **changes: Any) -> StreamSpec:
    frames = heart()
    info = CineInfo(1, n_phases, *frames.shape[1:], np.dtype(np.int16))
    high = int(frames.max())
    return StreamSpec(
        info, 0, high, ModelId.DWT_CAL, max_error=None, key_interval=key_interval, **changes
    )


def coder(spec: StreamSpec, quality: int = 32, effort: Effort = Effort.FAST) -> HybridCoder:
    return HybridModel(HybridSettings(quality, effort=effort)).coder(spec)


def encoded(
    spec: StreamSpec, encoder: HybridCoder, n: int = PHASES, keys: tuple[int, ...] = ()
) -> list[tuple[bytes, int, bool, NDArray[np.uint32]]]:
    """Payload, phase, whether it is a key frame, and base of each frame, in coding order."""
    out = []
    for turn in range(n):
        phase = PhaseOrder(spec).phase_at(turn)
        key = phase % spec.key_interval == 0 or phase in keys
        payload, base = encoder.encode(heart()[phase], phase, key)
        out.append((payload, phase, key, base.copy()))
    return out


def psnr(frames: list[tuple[bytes, int, bool, NDArray[np.uint32]]]) -> float:
    errors = [np.mean((base.astype(float) - heart()[phase]) ** 2) for _, phase, _, base in frames]
    return float(10 * np.log10(heart().max() ** 2.0 / np.mean(errors)))


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("key_interval", [1, 3, 32])
def test_a_decoder_gives_what_the_encoder_reported(archive: bool, key_interval: int) -> None:
    spec = spec_of(key_interval=key_interval, archive=archive)
    decoder = HybridModel().coder(spec)
    frames = encoded(spec, coder(spec))
    for payload, phase, key, base in frames:
        assert np.array_equal(decoder.decode(payload, phase, key), base)
    assert psnr(frames) > 35


@pytest.mark.parametrize("effort", list(Effort))
def test_effort_is_the_encoders_affair(effort: Effort) -> None:
    spec = spec_of()
    decoder = HybridModel().coder(spec)
    for payload, phase, key, base in encoded(spec, coder(spec, effort=effort), 3):
        assert np.array_equal(decoder.decode(payload, phase, key), base)


def test_the_finest_quality_is_nearly_exact() -> None:
    spec = spec_of(3)
    frames = encoded(spec, coder(spec, 63), 3)
    worst = max(np.abs(base.astype(int) - heart()[phase]).max() for _, phase, _, base in frames)
    assert worst <= 2
    assert psnr(frames) > psnr(encoded(spec, coder(spec, 40), 3)) + 10


def test_a_lower_quality_is_smaller() -> None:
    spec = spec_of()
    sizes = [sum(len(f[0]) for f in encoded(spec, coder(spec, q))) for q in (10, 25, 40, 55)]
    assert sizes == sorted(sizes)
    assert sizes[0] * 10 < sizes[-1]


def test_the_quantizer_is_the_first_byte() -> None:
    spec = spec_of()
    layers = [0, 3, 2, 3, 1, 3, 2]
    written = [payload[0] for payload, *_ in encoded(spec, coder(spec, 30))]
    assert written == [level_of(30) + LOW_DELAY_OFFSETS[layer] for layer in layers]


@pytest.mark.parametrize("archive", [False, True])
def test_a_filtered_key_frame_has_a_finer_quantizer(archive: bool) -> None:
    spec = spec_of(archive=archive)
    frame, *others = heart()
    plain, filtered = (coder(spec, 30).encode(frame, 0, True, ahead)[0] for ahead in ((), others))
    assert filtered[0] == plain[0] + FILTERED_OFFSET
    assert filtered[0] < plain[0]


def test_threads_make_no_difference() -> None:
    spec = spec_of()
    alone = encoded(spec, coder(spec))
    with ThreadPoolExecutor(3) as pool:
        together = encoded(
            spec, HybridModel(HybridSettings(effort=Effort.FAST)).coder(spec, pool.map)
        )
    assert [frame[0] for frame in together] == [frame[0] for frame in alone]


def test_threads_that_come_late_after_a_failure_find_a_coder_at_rest() -> None:
    late: list[Any] = []

    def broken(function: Any, items: Any) -> Any:
        late.extend((function, item) for item in items)
        raise KeyError("no threads")

    spec = spec_of()
    failing = HybridModel(HybridSettings(effort=Effort.FAST)).coder(spec, broken)
    with pytest.raises(KeyError, match="no threads"):
        failing.encode(heart()[0], 0, True)
    assert late
    for function, item in late:
        assert function.__self__ is not failing._native
        function(item)
    payload, phase, key, base = encoded(spec, coder(spec), 1)[0]
    np.testing.assert_array_equal(failing.decode(payload, phase, key), base)


def test_a_key_frame_may_come_early_and_a_decoder_may_begin_there() -> None:
    spec = spec_of(n_phases=0, key_interval=100)
    frames = encoded(spec, coder(spec), keys=(4,))
    decoder = HybridModel().coder(spec)
    for payload, phase, key, base in frames[4:]:
        assert np.array_equal(decoder.decode(payload, phase, key), base)


def test_a_stream_may_begin_again() -> None:
    spec = spec_of()
    encoder = coder(spec)
    first = encoded(spec, encoder)
    again = encoded(spec, encoder)
    decoder = HybridModel().coder(spec)
    for payload, phase, key, base in first + again:
        assert np.array_equal(decoder.decode(payload, phase, key), base)


def test_frames_out_of_order_are_refused_and_harm_nothing() -> None:
    spec = spec_of()
    encoder = coder(spec)
    with pytest.raises(FrameError, match="before any key frame"):
        encoder.encode(heart()[1], 1, False)
    encoder.encode(heart()[0], 0, True)
    with pytest.raises(FrameError, match="does not follow"):
        encoder.encode(heart()[2], 2, False)
    with pytest.raises(FrameError, match="as no key frame"):
        encoder.encode(heart()[0], 0, False)
    encoder.encode(heart()[1], 1, False)


def test_an_archive_takes_frames_in_its_own_order_only() -> None:
    spec = spec_of(archive=True)
    encoder = coder(spec)
    encoder.encode(heart()[0], 0, True)
    with pytest.raises(FrameError, match="does not follow"):
        encoder.encode(heart()[1], 1, False)
    with pytest.raises(FrameError, match="as a key frame"):
        encoder.encode(heart()[3], 3, True)
    encoder.encode(heart()[3], 3, False)


def test_a_frame_of_another_shape_is_refused() -> None:
    spec = spec_of()
    with pytest.raises(FrameError, match="the stream holds"):
        coder(spec).encode(heart()[0][1:], 0, True)


def test_after_a_damaged_frame_only_a_key_frame_goes_on() -> None:
    spec = spec_of(n_phases=0, key_interval=100)
    frames = encoded(spec, coder(spec), keys=(3,))
    decoder = HybridModel().coder(spec)
    decoder.decode(*frames[0][:3])
    with pytest.raises(BitstreamError, match="damaged"):
        decoder.decode(frames[1][0] + b"more", 1, False)
    with pytest.raises(BitstreamError, match="before any key frame"):
        decoder.decode(*frames[1][:3])
    for payload, phase, key, base in frames[3:]:
        assert np.array_equal(decoder.decode(payload, phase, key), base)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xff\x00\x00"])
def test_payloads_of_no_quantizer_are_refused(payload: bytes) -> None:
    with pytest.raises(BitstreamError):
        HybridModel().coder(spec_of()).decode(payload, 0, True)


def test_the_next_frame_takes_the_memory_again() -> None:
    spec = spec_of()
    encoder = coder(spec)
    _, first = encoder.encode(heart()[0], 0, True)
    _, second = encoder.encode(heart()[1], 1, False)
    assert np.shares_memory(first, second)


def test_a_model_codes_slices_as_their_coders_would() -> None:
    spec = spec_of()
    model = HybridModel(HybridSettings(effort=Effort.FAST))
    coders = [model.coder(spec), model.coder(spec)]
    frames = [heart()[0], heart()[3]]
    many = model.encode_frames(coders, frames, [0, 0], [True, True])
    for (payload, base), frame in zip(many, frames, strict=True):
        alone, expected = model.coder(spec).encode(frame, 0, True)
        assert payload == alone
        assert np.array_equal(base, expected)


@given(span=st.integers(0, 2**32 - 1), seed=st.integers(0, 2**32 - 1))
def test_samples_of_any_range_pass_through_twelve_bits(span: int, seed: int) -> None:
    depth = DepthMap(span)
    samples = np.random.default_rng(seed).integers(0, span, (3, 4), np.uint32, endpoint=True)
    samples[0, :2] = 0, span
    inside, back = np.empty((3, 4), np.int16), np.empty((3, 4), np.uint32)
    depth.narrow(samples, inside)
    assert inside.min() >= 0
    assert inside.max() <= 4095
    depth.widen(inside, back)
    assert back.max() <= span
    coarse = 1 << max(0, span.bit_length() - 12)
    # The greatest of 12 bits stands for all that would be rounded beyond it.
    allowed = np.where(inside == 4095, coarse, coarse // 2)
    assert (np.abs(back.astype(np.int64) - samples) <= allowed).all()
    if span < 4096:
        assert np.array_equal(back, samples)


def test_reconstructions_between_two_samples_go_to_the_nearer_one() -> None:
    depth = DepthMap(1000)  # shifted up by 2
    inside = np.array([[0, 1, 2, 5, 6, 4001, 4095]], np.int16)
    back = np.empty(inside.shape, np.uint32)
    depth.widen(inside, back)
    assert back.tolist() == [[0, 0, 1, 1, 2, 1000, 1000]]


@pytest.mark.parametrize("quality", [-1, 64, 3.0, True])
def test_qualities_that_there_are_not_are_refused(quality: Any) -> None:
    with pytest.raises(SpecError, match="0 to 63"):
        HybridModel(HybridSettings(quality)).coder(spec_of())


def test_levels_beyond_the_quantizers_take_the_last_one() -> None:
    assert [quantizer_at(level, 4) for level in (-9, 60, 126)] == [24, 64, 127]

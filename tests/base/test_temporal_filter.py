"""The filter over time: its plain twin, noise, and frames of something else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hybrid_samples import moving_frames, native_modules
from numpy.typing import NDArray

MODULES = native_modules()
SIDE, RANGE, LENGTH, ONE = 8, 5, 128, 1024
TOLERANCE, PERCENTILE, UNLIKE = 3, 15, 4
COARSE = 100  # a quantizer that adds more than any noise
MODERATE = 64  # one that adds about as much as a standard deviation of 30
SHAPES = ((1, 1), (1, 40), (9, 7), (16, 24), (37, 51))


def filtered(module, frame, others, quantizer=COARSE) -> NDArray[np.int16]:
    out = np.full_like(frame, -1)
    module.filter_over_time(frame, others, quantizer, out)
    return out


def moved(frame: NDArray[np.int64], dy: int, dx: int) -> NDArray[np.int64]:
    """Return the frame seen from (dy, dx), its edges continued."""
    rows, columns = (np.arange(side) + by for side, by in zip(frame.shape, (dy, dx), strict=True))
    return frame[np.ix_(rows.clip(0, frame.shape[0] - 1), columns.clip(0, frame.shape[1] - 1))]


def by_blocks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over blocks, smaller at the ends."""
    starts = [np.arange(0, side, SIDE) for side in values.shape]
    return np.add.reduceat(np.add.reduceat(values, starts[0], 0), starts[1], 1)


def search(frame, other):
    """Errors of blocks as if all had 64 pixels, and their vectors."""
    counts, best = by_blocks(np.ones_like(frame)), None
    for dy in range(-RANGE, RANGE + 1):
        for dx in range(-RANGE, RANGE + 1):
            errors = by_blocks((frame - moved(other, dy, dx)) ** 2)
            around = np.pad(errors, 1, mode="edge")
            cost = LENGTH * (dx * dx + dy * dy) + sum(
                around[i : i + errors.shape[0], j : j + errors.shape[1]]
                for i in range(3)
                for j in range(3)
            )
            if best is None:
                best = [cost, errors, np.full_like(cost, dy), np.full_like(cost, dx)]
                continue
            better = cost < best[0]
            for kept, now in zip(best, (cost, errors, dy, dx), strict=True):
                kept[better] = now[better] if isinstance(now, np.ndarray) else now
    return best[1] * SIDE * SIDE // counts, best[2], best[3]


def typical(frame, errors) -> int:
    bright = by_blocks(frame) * frame.size > frame.sum() * by_blocks(np.ones_like(frame))
    values = np.sort(errors[bright])
    return max(1, int(values[len(values) * PERCENTILE // 100])) if len(values) else 1


def plain_filter(frame, others, quantizer=COARSE) -> NDArray[np.int64]:
    """What `filter_over_time` makes, in plain NumPy."""
    frame, others = frame.astype(np.int64), [other.astype(np.int64) for other in others]
    counts = by_blocks(np.ones_like(frame))
    found = [search(frame, other) for other in others]
    levels = [typical(frame, errors) for errors, _, _ in found]
    noise = min(levels[:2])
    shifts = (by_blocks((frame - moved(frame, *by)) ** 2) * 64 // counts for by in ((1, 0), (0, 1)))
    bound = UNLIKE * min(typical(frame, errors) for errors in shifts)
    added = round(64 * 2 ** ((quantizer - 24) / 6)) ** 2 // 384
    most, excess = min(ONE, ONE * added // noise), TOLERANCE * (noise + added // 2)
    sums, totals = ONE * frame, np.full_like(frame, ONE)
    for other, level, (errors, rows, columns) in zip(others, levels, found, strict=True):
        if level > bound:
            continue
        for by, bx in np.ndindex(errors.shape):
            part = np.s_[by * SIDE : (by + 1) * SIDE, bx * SIDE : (bx + 1) * SIDE]
            steps = max(0, int(errors[by, bx]) - noise) * 8 // excess
            weight = most * round(ONE * math.exp(-steps / 8)) // ONE if steps < 64 else 0
            sums[part] += weight * moved(other, rows[by, bx], columns[by, bx])[part]
            totals[part] += weight
    return (sums + totals // 2) // totals


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_modules_do_what_the_plain_filter_does(shape):
    cine = moving_frames(*shape, 4)
    noise = np.random.default_rng(3).integers(0, 4096, (2, *shape)).astype(np.int16)
    for frames in (cine, [cine[0], noise[0], cine[1]], [noise[0], noise[1], noise[0]]):
        for quantizer in (COARSE, 44, 36, 0):
            expected = plain_filter(frames[0], frames[1:], quantizer)
            for module in MODULES:
                found = filtered(module, frames[0], list(frames[1:]), quantizer)
                np.testing.assert_array_equal(found, expected)


def test_the_twin_sees_motion_and_noise():
    frames = moving_frames(37, 51, 4)
    _, rows, columns = search(frames[0].astype(np.int64), frames[2].astype(np.int64))
    assert len(np.unique(rows)) > 1
    assert len(np.unique(columns)) > 1
    assert (plain_filter(frames[0], frames[1:]) != frames[0]).mean() > 0.3


@pytest.mark.parametrize("module", MODULES)
def test_equal_frames_and_no_frames_change_nothing(module):
    for frame in (moving_frames(30, 41, 1)[0], np.full((5, 9), 4095, np.int16)):
        np.testing.assert_array_equal(filtered(module, frame, [frame] * 16), frame)
        np.testing.assert_array_equal(filtered(module, frame, ()), frame)
        in_place = frame.copy()
        module.filter_over_time(in_place, [frame], COARSE, in_place)
        np.testing.assert_array_equal(in_place, frame)


def test_frames_of_something_else_change_nothing():
    y, x = np.mgrid[0:64, 0:80]
    frame = (2000 + 1000 * np.sin(x / 9) * np.cos(y / 7)).astype(np.int16)
    other = (2000 + 1000 * np.cos(x / 5 + y / 11)).astype(np.int16)
    for others in ([other], [other, other[::-1].copy()], [frame, other, other]):
        for quantizer in (30, 60, COARSE):
            out = filtered(MODULES[0], frame, others, quantizer)
            np.testing.assert_array_equal(out, frame)


def test_noise_falls_and_what_moves_stays():
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:96, 0:128]
    clean = [
        1500 + 600 * np.sin(x / 11) + 1200 * (np.hypot(y - 48, x - 50 - 2 * i) < 15)
        for i in range(7)
    ]
    frames = [np.rint(frame + rng.normal(0, 30, frame.shape)).astype(np.int16) for frame in clean]
    out = filtered(MODULES[0], frames[0], frames[1:], MODERATE)
    before, after = (float(((f - clean[0]) ** 2).mean()) for f in (frames[0], out))
    assert after < 0.5 * before
    changes = [
        np.abs(
            filtered(MODULES[0], frames[0], frames[1:], quantizer).astype(int) - frames[0]
        ).mean()
        for quantizer in (70, 60, 54, 48, 30)
    ]
    assert changes[0] > 10
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 0.3


def test_bad_arguments_are_refused():
    module, frame = MODULES[0], np.zeros((8, 9), np.int16)
    out = frame.copy()
    for others in ([frame[:, :8].copy()], [frame.astype(np.uint16)], [frame.ravel()], [out.T]):
        with pytest.raises((ValueError, BufferError)):
            module.filter_over_time(frame, others, COARSE, out)
    for wrong in (frame.astype(np.int32), frame[:0], np.zeros((9, 8), np.int16)):
        with pytest.raises(ValueError, match="no int16 frame"):
            module.filter_over_time(frame, [], COARSE, wrong)
    with pytest.raises(ValueError, match="17 other frames; expected 16"):
        module.filter_over_time(frame, [frame] * 17, COARSE, out)
    for value in (-1, 4096):
        beyond = np.full_like(frame, value)
        for arguments in ((beyond, [frame]), (frame, [frame, beyond])):
            with pytest.raises(ValueError, match="from 0 to 4095"):
                module.filter_over_time(*arguments, COARSE, out)
    with pytest.raises(TypeError):
        module.filter_over_time(frame, 3, COARSE, out)
    for quantizer in (-1, 128):
        with pytest.raises(ValueError, match="expected 0 to 127"):
            module.filter_over_time(frame, [frame], quantizer, out)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        module.filter_over_time(frame, [frame], COARSE, out)

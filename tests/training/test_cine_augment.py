from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.errors import FrameError, SpecError
from edge_codec.training.cine_augment import (
    CONTRAST_RANGE,
    MAX_ROTATION_DEGREES,
    SCALE_RANGE,
    TEMPO_RANGE,
    ChangedCine,
    CineChange,
    CineLimits,
    change_cine,
    draw_change,
    resample_times,
)

ROWS, COLUMNS = 96, 128  # not square: turning must not shear


def blob(row: float, column: float, radius: float) -> torch.Tensor:
    """A soft disk, (rows, columns), half at its radius; places from the middle of the image."""
    y = torch.arange(ROWS) - (ROWS - 1) / 2 - row
    x = torch.arange(COLUMNS) - (COLUMNS - 1) / 2 - column
    return torch.sigmoid(2 * (radius - torch.hypot(y[:, None], x[None, :])))


def place(image: torch.Tensor) -> tuple[float, float]:
    """Middle of what is bright, from the middle of the image."""
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    total = image.sum()
    return (
        float((image * y).sum() / total) - (ROWS - 1) / 2,
        float((image * x).sum() / total) - (COLUMNS - 1) / 2,
    )


def line_angle(change: CineChange) -> float:
    """Degrees that a horizontal line is turned by, measured on its two ends."""
    ends = torch.stack([blob(0, -40, 3), blob(0, 40, 3)])
    (y0, x0), (y1, x1) = map(place, change_cine(ends, change).frames)
    return math.degrees(math.atan2(y0 - y1, x1 - x0))


@pytest.mark.parametrize("degrees", [-5.0, -2.0, 0.5, 5.0])
def test_a_line_turns_counterclockwise_by_the_angle(degrees: float) -> None:
    assert line_angle(CineChange(rotation_degrees=degrees)) == pytest.approx(degrees, abs=0.05)


@pytest.mark.parametrize(("row", "column"), [(30, 0), (0, 40), (-30, 40)])
def test_places_turn_about_the_middle_without_shear(row: float, column: float) -> None:
    change = CineChange(rotation_degrees=5.0)
    cosine, sine = math.cos(math.radians(5.0)), math.sin(math.radians(5.0))
    found = place(change_cine(blob(row, column, 4)[None], change).frames[0])
    assert found[0] == pytest.approx(cosine * row - sine * column, abs=0.05)
    assert found[1] == pytest.approx(sine * row + cosine * column, abs=0.05)


def test_scales_go_along_rows_and_columns() -> None:
    change = CineChange(scale=(1.1, 0.9))
    row, column = place(change_cine(blob(30, 40, 4)[None], change).frames[0])
    assert row == pytest.approx(33.0, abs=0.05)
    assert column == pytest.approx(36.0, abs=0.05)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_what_is_drawn_keeps_the_limits(seed: int) -> None:
    change = draw_change(np.random.default_rng(seed), CineLimits())
    assert abs(change.rotation_degrees) <= MAX_ROTATION_DEGREES
    for value, (low, high) in (
        (change.scale[0], SCALE_RANGE),
        (change.scale[1], SCALE_RANGE),
        (change.tempo, TEMPO_RANGE),
        (change.contrast, CONTRAST_RANGE),
    ):
        assert low <= value <= high
    # On the images: lengths along any direction, and angles to the axes of the heart.
    still = CineChange(change.rotation_degrees, change.scale)
    ends = change_cine(torch.stack([blob(24, -30, 3), blob(-24, 30, 3)]), still).frames
    (y0, x0), (y1, x1) = map(place, ends)
    assert 0.9 - 0.005 <= math.hypot(y1 - y0, x1 - x0) / math.hypot(48, 60) <= 1.1 + 0.005
    assert abs(line_angle(still)) <= MAX_ROTATION_DEGREES + 0.05


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_labels_follow_the_image(seed: int) -> None:
    """Labels that are moved are those that would be drawn on the moved image."""
    change = draw_change(np.random.default_rng(seed), CineLimits(contrast=(1.0, 1.0)))
    frames = torch.stack([blob(18, -35, 20 - phase) for phase in range(10)])
    labels = (frames[[0, 6]] > 0.5).to(torch.uint8) * 3
    changed = change_cine(frames, change, labels, (0, 6))
    assert changed.labels is not None
    for label, phase in zip(changed.labels, changed.label_phases, strict=True):
        drawn = changed.frames[phase] > 0.5
        assert math.dist(place(drawn), place(label == 3)) < 0.3
        both = int((drawn & (label == 3)).sum())
        assert 2 * both / int(drawn.sum() + (label == 3).sum()) > 0.97
    assert set(changed.labels.unique().tolist()) == {0, 3}


def test_no_class_comes_up_between_two_others() -> None:
    """A ventricle within background has no ring of myocardium after the change."""
    labels = (blob(3, 4, 12)[None] > 0.5).to(torch.uint8) * 3
    labels[0, :10, :10] = 1
    change = CineChange(4.0, (0.95, 1.05))
    changed = change_cine(torch.zeros(3, ROWS, COLUMNS), change, labels, (1,)).labels
    assert changed is not None
    assert changed.dtype == torch.uint8
    assert set(changed.unique().tolist()) == {0, 1, 3}


def test_all_frames_move_alike() -> None:
    frames = blob(-10, 20, 6).repeat(8, 1, 1)
    changed = change_cine(frames, draw_change(np.random.default_rng(5), CineLimits())).frames
    assert (changed == changed[0]).all()


def test_seeds() -> None:
    limits = CineLimits()
    changes = [draw_change(np.random.default_rng(seed), limits) for seed in (1, 1, 2)]
    assert changes[0] == changes[1] != changes[2]


def test_no_change_is_none() -> None:
    frames = torch.rand(5, 8, 9, generator=torch.Generator().manual_seed(1))
    labels = torch.ones(2, 8, 9, dtype=torch.uint8)
    changed = change_cine(frames, CineChange(), labels, (0, 3))
    torch.testing.assert_close(changed.frames, frames)
    assert torch.equal(changed.labels, labels)  # type: ignore[arg-type]
    assert changed.phase_of == {0: 0, 3: 3}
    limits = CineLimits(0.0, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    assert draw_change(np.random.default_rng(1), limits) == CineChange()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 40),
    tempo=st.floats(*TEMPO_RANGE),
    data=st.data(),
)
def test_times(count: int, tempo: float, data: st.DataObject) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=3)))
    times, places = resample_times(count, tempo, kept)
    assert TEMPO_RANGE[0] * count - 1e-6 <= len(times) <= TEMPO_RANGE[1] * count + 1e-6
    assert times[0] == 0
    assert times[-1] == count - 1
    assert (np.diff(times) > 0).all()
    assert [times[place] for place in places] == kept  # exactly


def test_tempo_and_its_frames() -> None:
    times, places = resample_times(30, 0.8, [0, 11])
    assert (len(times), places) == (24, [0, 9])
    times, places = resample_times(30, 1.2, [11])
    assert (len(times), places) == (36, [13])
    assert len(resample_times(30, 1.2, [4, 5, 6])[0]) == 36
    assert len(resample_times(30, 0.8, range(5, 15))[0]) == 30  # they would fall together


def marked_cine(tempo: float) -> tuple[torch.Tensor, ChangedCine]:
    """Frames of one gray value each, as the phase number says."""
    frames = torch.arange(20.0)[:, None, None].expand(20, 4, 5).contiguous()
    labels = torch.full((2, 4, 5), 1, dtype=torch.uint8)
    labels[1] = 2
    return frames, change_cine(frames, CineChange(tempo=tempo), labels, (2, 9), marked={5})


@pytest.mark.parametrize("tempo", [0.8, 0.9, 1.1, 1.2])
def test_marked_phases_stay_whole_frames(tempo: float) -> None:
    frames, changed = marked_cine(tempo)
    assert len(changed.frames) == round(20 * tempo)
    assert sorted(changed.phase_of) == [2, 5, 9]
    for before, after in changed.phase_of.items():
        torch.testing.assert_close(changed.frames[after], frames[before])
    assert changed.label_phases == (changed.phase_of[2], changed.phase_of[9])
    assert changed.labels is not None
    assert changed.labels[:, 0, 0].tolist() == [1, 2]
    np.testing.assert_allclose(changed.frames[:, 0, 0].numpy(), changed.times, atol=1e-5)


@pytest.mark.parametrize("tempo", [0.8, 1.2])
def test_labels_of_every_phase(tempo: float) -> None:
    frames = torch.zeros(20, 4, 5)
    frames[:, 0, 0] = torch.arange(20.0)
    labels = torch.arange(20, dtype=torch.uint8)[:, None, None].expand(20, 4, 5).contiguous()
    changed = change_cine(frames, CineChange(tempo=tempo), labels, range(20), marked=(3,))
    assert changed.labels is not None
    assert changed.label_phases == tuple(range(round(20 * tempo)))
    assert changed.labels[:, 0, 0].tolist() == np.rint(changed.times).astype(int).tolist()
    assert changed.labels[changed.phase_of[3], 0, 0] == 3


@pytest.mark.parametrize("contrast", [0.8, 1.2])
def test_contrast(contrast: float) -> None:
    frames = torch.tensor([10.0, 45.0, 50.0, 55.0, 90.0]).reshape(1, 1, 5).repeat(3, 1, 1)
    changed = change_cine(frames, CineChange(contrast=contrast)).frames
    middle = changed[0, 0, 1:4]
    torch.testing.assert_close(middle, 50 + contrast * torch.tensor([-5.0, 0.0, 5.0]))
    assert changed.min() >= 10.0  # the range of values is kept
    assert changed.max() <= 90.0


def test_edges_are_extended() -> None:
    frames = torch.full((2, 20, 30), 7.0)
    frames[:, 10, 10] = 1.0
    changed = change_cine(frames, CineChange(5.0, (0.9, 0.9))).frames
    corners = changed[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full((2, 4), 7.0))  # none is empty


@pytest.mark.parametrize(
    "limits",
    [
        {"rotation_degrees": 5.1},
        {"rotation_degrees": -1.0},
        {"scale": (0.8, 1.0)},
        {"scale": (1.05, 1.1)},
        {"tempo": (0.8, 1.3)},
        {"contrast": (0.5, 1.0)},
        {"contrast": (float("nan"), 1.0)},
    ],
)
def test_limits_cannot_be_widened(limits: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="safe for anatomy"):
        CineLimits(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "labels", "phases", "marked", "message"),
    [
        (torch.zeros(4, 5), None, (), (), "a cine of shape"),
        (torch.zeros(3, 4, 5).double(), None, (), (), "float64; expected"),
        (torch.zeros(3, 4, 5), torch.zeros(1, 4, 4), (0,), (), "labels of shape"),
        (torch.zeros(3, 4, 5), None, (0,), (), "labels of shape"),
        (torch.zeros(3, 4, 5), torch.zeros(2, 4, 5), (2, 0), (), "put them in order"),
        (torch.zeros(3, 4, 5), torch.zeros(1, 4, 5), (3,), (), "phase 3 is outside"),
        (torch.zeros(3, 4, 5), None, (), (-1,), "phase -1 is outside"),
    ],
)
def test_what_does_not_fit(
    frames: torch.Tensor,
    labels: torch.Tensor | None,
    phases: tuple[int, ...],
    marked: tuple[int, ...],
    message: str,
) -> None:
    with pytest.raises(FrameError, match=message):
        change_cine(frames, CineChange(), labels, phases, marked)

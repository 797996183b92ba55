"""The window copies, moves and finds motion; subbands are embedded each by itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.cross_attention import (  # noqa: E402
    RADIUS,
    SCORES,
    WEIGHTS,
    SubbandAttention,
    attend_window,
    find_motion,
    match_scores,
    motion_weights,
    window_errors,
)
from edge_codec.nn.lifting import BANDS, COEFFICIENTS  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_no_weights_copy_the_frame() -> None:
    frame = torch.randn(2, 1, 16, 24)
    assert torch.equal(attend_window(frame, torch.zeros(2, WEIGHTS, 2, 3)), frame)


@pytest.mark.parametrize("offset", [-3, -1, 1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_weight_moves_the_frame(offset: int, axis: int) -> None:
    frame = torch.randn(1, 1, 16, 24)
    weights = torch.zeros(1, WEIGHTS, 2, 3)
    position = offset + RADIUS - (offset > 0)
    weights[:, axis * WEIGHTS // 2 + position] = 1.0
    moved = attend_window(frame, weights)
    expected = frame.roll(-offset, 2 + axis)
    inner = slice(RADIUS, -RADIUS)
    torch.testing.assert_close(moved[..., inner, inner], expected[..., inner, inner])


def test_constant_frames_stay_constant_under_any_weights() -> None:
    frame = torch.full((1, 1, 16, 16), 0.7)
    moved = attend_window(frame, torch.randn(1, WEIGHTS, 2, 2))
    torch.testing.assert_close(moved, frame)


def test_scores_find_the_displacement() -> None:
    previous = torch.randn(1, 1, 48, 48)
    current = previous.roll((-2, 1), (2, 3))  # the pixel was 2 below and 1 to the left
    errors = window_errors(current, previous)
    scores = match_scores(errors)
    assert scores.shape == (1, SCORES, 6, 6)
    scores[:, SCORES // 2] = 0.0
    best = scores[0, :, 2, 2].argmax()
    width = 2 * RADIUS + 1
    assert divmod(int(best), width) == (RADIUS + 2, RADIUS - 1)
    assert float(scores.max()) <= 1.0
    motion = find_motion(errors, torch.full((1, 1, 1, 1), 1e3))
    assert motion[0, :, 2, 2].tolist() == [4.0, -2.0]
    assert not bool(find_motion(errors, torch.zeros(1, 1, 1, 1)).any())  # not worth its bits


def test_still_frames_score_no_displacement_better() -> None:
    frame = torch.randn(1, 1, 32, 32)
    errors = window_errors(frame, frame)
    assert float(match_scores(errors).max()) <= 0.0
    assert not bool(find_motion(errors, torch.full((1, 1, 1, 1), 1e6)).any())


def test_motion_of_half_pixels_is_found_and_undone() -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    wave = torch.sin(x / 3) + torch.cos(y / 2.5) + torch.sin((x + y) / 5)
    previous = wave[None, None]
    y, x = y + 1.5, x - 2.0
    current = (torch.sin(x / 3) + torch.cos(y / 2.5) + torch.sin((x + y) / 5))[None, None]
    motion = find_motion(window_errors(current, previous), torch.full((1, 1, 1, 1), 1e4))
    assert motion[0, :, 3, 3].tolist() == [3.0, -4.0]
    found = attend_window(previous, motion_weights(motion))[..., 16:32, 16:32]
    still = (previous - current)[..., 16:32, 16:32].square().mean()
    assert float((found - current[..., 16:32, 16:32]).square().mean()) < 0.02 * float(still)


def test_subbands_are_embedded_by_themselves() -> None:
    attention = SubbandAttention(6)
    x = torch.randn(1, COEFFICIENTS, 2, 2)
    before = attention._per_band(attention.query, x, 1)
    x[:, sum(BANDS[:4]) : sum(BANDS[:5])] += 1.0
    changed = (attention._per_band(attention.query, x, 1) != before).flatten(2).any(dim=2)[0]
    assert changed.tolist() == [band == 4 for band in range(len(BANDS))]


def test_attention_sees_the_reference() -> None:
    attention = SubbandAttention(6)
    x, reference = torch.randn(1, COEFFICIENTS, 2, 2), torch.randn(1, COEFFICIENTS, 2, 2)
    first = attention(x, reference)
    assert first.shape == (1, 6, 2, 2)
    assert not torch.equal(first, attention(x, reference + 1.0))

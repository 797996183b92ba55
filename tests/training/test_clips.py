"""Clips are cut from cycles, depend on the step alone, and are changed plausibly."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_codec.errors import SourceError  # noqa: E402
from edge_codec.training import sequences as clips  # noqa: E402
from edge_codec.training.augment import add_noise, vary_intensity, warp  # noqa: E402
from edge_codec.training.pack import CineSequence, sequences_of  # noqa: E402
from edge_codec.training.sequences import ClipOptions, ClipSource, batches  # noqa: E402

PLAIN = {
    "warp_chance": 0.0,
    "intensity_chance": 0.0,
    "noise_chance": 0.0,
    "skip_chance": 0.0,
}


def cine(phases: int = 5, group: str = "acdc") -> list[CineSequence]:
    """Phase t holds t + 1 everywhere, but for the voxels that set the window to 1000."""
    voxels = np.ones((1, phases, 40, 30), np.int64) * np.arange(1, phases + 1)[:, None, None]
    voxels[:, :, :2] = 1000
    voxels[:, :, -1, -1] = 0
    heart = np.zeros((1, 40, 30), bool)
    heart[:, 30, 20] = True
    return sequences_of(voxels, "case", group, heart)


def test_batches_depend_on_seed_and_step_alone() -> None:
    options = ClipOptions(size=16, batch=3, frames=(2, 4))
    first, second = (ClipSource(cine(), options, 7) for _ in range(2))
    second.batch(0)
    for one, other in zip(first.batch(5), second.batch(5), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.batch(5)[0][:, 0], first.batch(6)[0][:, 0])


def test_clips_go_round_the_cycle() -> None:
    options = ClipOptions(size=24, batch=6, frames=(8,), **PLAIN)
    frames, weights = ClipSource(cine(), options, 0).batch(0)
    assert frames.shape == (6, 8, 24, 24)
    assert weights.shape == (6, 1, 24, 24)
    for clip in frames:
        phases = (1000 * clip.flatten(1).median(dim=1).values).round()
        steps = (phases[1:] - phases[:-1]) % 5
        assert set(steps.tolist()) in ({1.0}, {4.0})


def test_heart_weighs_more_with_a_margin() -> None:
    options = ClipOptions(size=40, batch=1, frames=(1,), heart_weight=0.5, **PLAIN)
    _, weights = ClipSource(cine(), options, 0).batch(0)
    assert set(weights.unique().tolist()) == {1.0, 1.5}
    side = 2 * clips.HEART_MARGIN_PX + 1
    assert int((weights > 1).sum()) >= side * side


def test_single_frames_are_set_in_motion() -> None:
    rng = np.random.default_rng(0)
    exam = sequences_of(rng.integers(0, 1000, (1, 1, 40, 40)), "case", "fullfov")
    options = ClipOptions(size=16, batch=1, frames=(3,), shares={"fullfov": 1.0}, **PLAIN)
    frames, _ = ClipSource(exam, options, 0).batch(0)
    assert not torch.equal(frames[:, 0], frames[:, 2])


def test_no_sequence_of_a_shared_group_is_refused() -> None:
    with pytest.raises(SourceError, match="sunnybrook"):
        ClipSource(cine(), ClipOptions(shares={"sunnybrook": 1.0}), 0)


def test_warp_without_chance_of_change_is_a_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Middle:
        """A generator whose every draw changes nothing."""

        def uniform(self, low: float, high: float, size: tuple[int, ...] | None = None) -> object:
            return 0.0 if size is None else np.zeros(size)

    frames = torch.randn(2, 40, 40)
    rng = Middle()
    cut = warp(frames, (19.5, 15.5), 16, rng, 0.0)  # type: ignore[arg-type]
    torch.testing.assert_close(cut, frames[:, 12:28, 8:24], atol=1e-3, rtol=0)


def test_intensity_and_noise_stay_plausible() -> None:
    rng = np.random.default_rng(0)
    frames = torch.rand(4, 32, 32)
    changed = vary_intensity(frames, rng)
    order = frames.flatten().argsort()
    assert bool((changed.flatten()[order].diff() >= 0).all())
    noisy = add_noise(torch.zeros(4, 32, 32), rng)
    assert float(noisy.min()) >= 0
    assert 0.003 < float(noisy.square().mean().sqrt()) < 0.03


def test_threads_change_no_batch() -> None:
    source = ClipSource(cine(), ClipOptions(size=16, batch=1, frames=(2,)), 0)
    alone = [frames for frames, _ in batches(source, 3, 9, 0)]
    ahead = [frames for frames, _ in batches(source, 3, 9, 4)]
    assert len(alone) == len(ahead) == 6
    assert all(map(torch.equal, alone, ahead))
    assert len(list(batches(source, 3, 5, 4))) == 2

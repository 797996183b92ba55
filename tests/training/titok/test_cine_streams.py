"""Streams play cines frame by frame, depend on the seed alone, and go on where they were."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from titok_training_samples import beating_hearts  # noqa: E402

from edge_codec.spec import WINDOW_ONE  # noqa: E402
from edge_codec.training.cine_augment import CineLimits  # noqa: E402
from edge_codec.training.titok.cines import FittedCine, Library, fit_sequence  # noqa: E402
from edge_codec.training.titok.config import StreamOptions  # noqa: E402
from edge_codec.training.titok.streams import Batch, Streams  # noqa: E402

PLAIN = StreamOptions(batch=2, life=(9, 9), change_chance=0.0)
VARIED = StreamOptions(
    batch=2,
    rounds=2,
    life=(2, 5),
    change_chance=1.0,
    reverse_chance=0.5,
    mirror_chance=0.5,
    shift=0.1,
)


def library(phases: int = 6) -> Library:
    cines = [fit_sequence(one) for one in beating_hearts(phases)]
    return Library([lambda one=one: one for one in cines])  # type: ignore[misc]


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in Batch.__slots__)


def test_a_stream_plays_consecutive_phases_around_and_around() -> None:
    found = library()
    streams = Streams(found, PLAIN, 1)
    shown = [streams.next() for _ in range(9)]
    cine = _of(found, shown[0].frame[0, 0].numpy())
    first = next(
        k for k in range(6) if np.array_equal(cine.codes[k], _codes(shown[0].frame[0, 0].numpy()))
    )
    for step, batch in enumerate(shown):
        assert np.array_equal(_codes(batch.frame[0, 0].numpy()), cine.codes[(first + step) % 6])
        before = cine.codes[(first + max(step - 1, 0)) % 6]
        assert np.array_equal(_codes(batch.before[0, 0].numpy()), before)
        assert batch.cycle.tolist() == [6 if step >= 6 else 0] * 2
        assert batch.fresh.tolist() == [step == 0] * 2
        expected = cine.facts.vector((first + step) % 6)
        assert np.allclose(batch.clinical[0].numpy(), expected)
    assert streams.next().fresh.tolist() == [True, True]


def test_streams_depend_on_the_seed_alone() -> None:
    one, other, different = (Streams(library(), VARIED, seed) for seed in (5, 5, 6))
    batches = [(one.next(), other.next(), different.next()) for _ in range(5)]
    assert all(same(a, b) for a, b, _ in batches)
    assert not any(same(a, c) for a, _, c in batches)


def test_all_streams_have_a_turn_before_any_has_its_next() -> None:
    streams = Streams(library(), dataclasses.replace(PLAIN, rounds=3), 5)
    batches = [streams.next() for _ in range(6)]
    for turn, steps in enumerate((batches[:3], batches[3:])):
        members = torch.cat([batch.members for batch in steps])
        assert sorted(members.tolist()) == list(range(6))
        assert all(batch.turn.tolist() == [turn] * 2 for batch in steps)
        assert all(batch.fresh.tolist() == [turn == 0] * 2 for batch in steps)
    orders = [[b.members.tolist() for b in steps] for steps in (batches[:3], batches[3:])]
    assert orders[0] != orders[1]


def test_each_life_of_a_stream_is_drawn_anew() -> None:
    options = dataclasses.replace(PLAIN, life=(1, 1), change_chance=1.0)
    streams = Streams(library(), options, 5)
    assert not torch.equal(streams.next().frame, streams.next().frame)


@pytest.mark.parametrize("steps", [1, 5])
def test_streams_go_on_from_a_saved_state(steps: int) -> None:
    whole = Streams(library(), VARIED, 5)
    for _ in range(steps):
        whole.next()
    resumed = Streams(library(), VARIED, 5)
    resumed.load(whole.state())
    for _ in range(6):
        assert same(whole.next(), resumed.next())


def test_reversed_streams_play_backward() -> None:
    options = dataclasses.replace(PLAIN, reverse_chance=1.0)
    streams = Streams(library(), options, 1)
    first, second = streams.next(), streams.next()
    angle = [float(torch.atan2(b.clinical[0, 4], b.clinical[0, 5])) for b in (first, second)]
    assert (angle[0] - angle[1]) % (2 * np.pi) == pytest.approx(2 * np.pi / 6, abs=1e-5)


def test_mirror_and_shift_move_frame_mask_and_heart_together() -> None:
    options = dataclasses.replace(PLAIN, mirror_chance=1.0)
    plain, mirrored = (Streams(library(), one, 1).next() for one in (PLAIN, options))
    assert torch.equal(mirrored.frame.flip(3), plain.frame)
    assert torch.equal(mirrored.heart.flip(3), plain.heart)
    assert torch.equal(mirrored.inside.flip(3), plain.inside)
    shifted = Streams(library(), dataclasses.replace(PLAIN, shift=0.1), 1).next()
    assert not torch.equal(shifted.frame, plain.frame)
    bright = (shifted.frame * shifted.inside > 0.5).float()
    overlap = (bright * shifted.heart).sum() / bright.sum()
    assert overlap > 0.99


def test_changes_stay_within_the_limits() -> None:
    gentle = CineLimits(0.0, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    plain = Streams(library(), PLAIN, 1).next()
    options = dataclasses.replace(PLAIN, change_chance=1.0, limits=gentle)
    assert torch.equal(Streams(library(), options, 1).next().frame, plain.frame)
    wild = Streams(library(), dataclasses.replace(PLAIN, change_chance=1.0), 1).next().frame
    assert not torch.equal(wild, plain.frame)
    assert 0.0 <= float(wild.min()) <= float(wild.max()) <= 255 / WINDOW_ONE


def test_a_still_becomes_a_cycle() -> None:
    streams = Streams(library(1), dataclasses.replace(PLAIN, life=(40, 40)), 2)
    shown = [streams.next() for _ in range(40)]
    period = next(int(batch.cycle[0]) for batch in shown if batch.cycle[0] > 0)
    assert 12 <= period <= 30
    assert not torch.equal(shown[0].frame, shown[period // 4].frame)
    assert torch.equal(shown[0].frame[0], shown[period].frame[0])


def _codes(frame: np.ndarray) -> np.ndarray:
    return np.rint(frame * WINDOW_ONE).astype(np.uint8)


def _of(found: Library, frame: np.ndarray) -> FittedCine:
    cines = [found[k] for k in range(len(found))]
    return next(one for one in cines if (one.codes == _codes(frame)).all(axis=(1, 2)).any())

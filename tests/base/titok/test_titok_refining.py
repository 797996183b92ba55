"""What is done around the network that refines whole cines."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.base.titok.refining import AGES, CineRefinement, ages_of, places_near
from edge_codec.spec import CineInfo, ModelId, StreamSpec


class Recorder:
    """Adds a number to the frames, and keeps what it was given."""

    name = "recorder"

    def __init__(self, change: float) -> None:
        self.change = change

    def run(self, inputs):
        self.inputs = inputs
        return inputs["frames"] + np.float32(self.change)


def keys_of(phases: int, *later: int) -> list[bool]:
    """Return which phases are key frames: the first one and the later ones."""
    return [phase in (0, *later) for phase in range(phases)]


def spec_of(shape: tuple[int, int], **fields: int) -> StreamSpec:
    info = CineInfo(1, 40, *shape, np.dtype(np.int16))
    return StreamSpec(
        info, -50, 900, ModelId.TITOK, max_error=None, window_low=-50, window_high=718,
        model_data=ClinicalFacts().pack(), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 200), (40, 31), (128, 128)])
def test_a_network_that_changes_nothing_changes_no_voxel(shape):
    frames = np.random.default_rng(0).integers(-50, 901, (9, *shape)).astype(np.int16)
    refined = CineRefinement(Recorder(0.0)).refine(frames, keys_of(9), spec_of(shape))
    assert refined.dtype == frames.dtype
    assert np.array_equal(refined, frames)


def test_changes_are_in_units_of_the_window_and_stay_in_range():
    frames = np.full((8, 60, 60), 100, np.int16)
    frames[0] = 890
    refined = CineRefinement(Recorder(0.25)).refine(frames, keys_of(8), spec_of((60, 60)))
    assert (refined[1:] == 100 + 192).all()
    assert (refined[0] == 900).all()


def test_integers_of_64_bits_lose_nothing():
    far = (1 << 63) - 2000
    for dtype, low in ((np.int64, far), (np.uint64, (1 << 64) - 2000), (np.int64, -far)):
        info = replace(spec_of((30, 20)).info, dtype=np.dtype(dtype))
        spec = replace(
            spec_of((30, 20)), info=info, low=low, high=low + 950,
            window_low=low, window_high=low + 768,
        )  # fmt: skip
        steps = np.random.default_rng(0).integers(0, 951, (8, 30, 20))
        frames = np.array(low, dtype) + steps.astype(dtype)
        refined = CineRefinement(Recorder(0.0)).refine(frames, keys_of(len(frames)), spec)
        assert refined.dtype == dtype
        assert np.array_equal(refined, frames)
        darker = CineRefinement(Recorder(-9.0)).refine(frames, keys_of(len(frames)), spec)
        assert (darker == low).all()


def test_a_hostile_window_gives_the_network_no_huge_numbers():
    spec = replace(spec_of((30, 20)), window_low=-50 - (1 << 47), window_high=-49 - (1 << 47))
    network, frames = Recorder(0.5), np.full((8, 30, 20), 7, np.int16)
    refined = CineRefinement(network).refine(frames, keys_of(8), spec)
    assert np.abs(network.inputs["frames"]).max() <= 3
    assert spec.low <= refined.min() <= refined.max() <= spec.high


def test_large_frames_are_worked_on_one_by_one():
    frames = np.full((16, 512, 512), 300, np.int16)
    refinement, spec = CineRefinement(Recorder(0.0)), spec_of((512, 512))
    tracemalloc.start()
    refinement.refine(frames, keys_of(len(frames)), spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * frames.nbytes


def test_the_network_is_told_ages_and_neighbors():
    network = Recorder(0.0)
    frames = np.zeros((40, 30, 30), np.int16)
    CineRefinement(network).refine(frames, keys_of(40, 16, 32), spec_of((30, 30)))
    assert network.inputs["age"].tolist() == [phase % 16 for phase in range(40)]
    assert network.inputs["frames"].shape == (40, 1, 128, 128)
    assert network.inputs["frames"].dtype == np.float32
    assert network.inputs["inside"].sum() == 60 * 60  # enlarged twice
    CineRefinement(network).refine(frames, keys_of(40), spec_of((30, 30)))
    assert network.inputs["age"].max() == AGES - 1


def test_ages_are_those_of_the_key_frames_that_are_there():
    ages = ages_of(keys_of(9, 3, 4))
    assert ages.dtype == np.int64
    assert ages.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]


def test_near_phases_go_around_the_cycle():
    near = places_near(10)
    assert near.shape == (4, 2, 10)
    assert near[0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert near[3, 1, 0] == 2
    assert near[3, 0, 9] == 7

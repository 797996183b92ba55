"""Rankings of made-up exams: what was altered least comes first."""

import numpy as np
import pytest
from retrieval_samples import altered, describe, make_exam, search_model

from edge_codec.errors import EngineError, FrameError
from edge_codec.retrieval.descriptor import DIM, Axes
from edge_codec.retrieval.ranking import exams_like, frame_of, frames_like, slice_of, slices_like

MODEL = search_model()
QUERY = make_exam(10, 3, 6)


def gallery():
    exams = {f"stranger-{seed}": make_exam(seed, 4, 5) for seed in range(20, 26)}
    exams["cousin"] = altered(QUERY, 1, 0.6)
    exams["sibling"] = altered(QUERY, 2, 0.3)
    return {name: describe(MODEL, exam) for name, exam in sorted(exams.items())}


def test_descriptors_have_length_one_and_are_the_same_every_time():
    first, again = describe(MODEL, QUERY), describe(MODEL, QUERY)
    assert first.frames.shape == (3, 6, DIM)
    assert first.slices.shape == (3, DIM)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.slices, again.slices)
    lengths = np.linalg.norm(first.frames.astype(np.float32), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)


def test_exams_are_ranked_by_likeness():
    found = exams_like(describe(MODEL, QUERY), gallery(), 3)
    assert [match.stream for match in found[:2]] == ["sibling", "cousin"]
    assert len(found) == 3
    assert found[0].slice_index is None
    assert 1 > found[0].similarity > found[1].similarity > found[2].similarity


def test_an_exam_is_most_like_its_copy():
    query = describe(MODEL, QUERY)
    found = exams_like(query, {**gallery(), "copy": query}, 1)
    assert found[0].stream == "copy"
    assert found[0].similarity == pytest.approx(1, abs=2e-3)


def test_slices_are_found_at_their_place():
    query = describe(MODEL, QUERY)
    for index in range(3):
        best = slices_like(slice_of(query, index), gallery(), 2)[0]
        assert (best.stream, best.slice_index, best.phase_index) == ("sibling", index, None)


def test_frames_are_found_at_their_place_and_once_in_each_slice():
    query = describe(MODEL, QUERY)
    found = frames_like(frame_of(query, 1, 4), gallery(), 100)
    assert (found[0].stream, found[0].slice_index) == ("sibling", 1)
    places = [(match.stream, match.slice_index) for match in found]
    assert len(places) == len(set(places)) == 6 * 4 + 2 * 3
    assert frames_like(frame_of(query, 1, 4), {"itself": query}, 1)[0].phase_index == 4


def test_equals_stay_in_the_order_of_their_names():
    query = describe(MODEL, QUERY)
    found = exams_like(query, dict.fromkeys("abc", query), 3)
    assert [match.stream for match in found] == ["a", "b", "c"]


@pytest.mark.parametrize("place", [(-1, 0), (3, 0), (0, 6), (0, -1)])
def test_places_that_the_query_lacks_are_refused(place):
    with pytest.raises(FrameError, match="3 slices x 6 phases"):
        frame_of(describe(MODEL, QUERY), *place)


@pytest.mark.parametrize("index", [-1, 3])
def test_slices_that_the_query_lacks_are_refused(index):
    with pytest.raises(FrameError, match="no slice"):
        slice_of(describe(MODEL, QUERY), index)


def test_axes_of_another_size_are_refused():
    with pytest.raises(EngineError, match="axes are"):
        Axes(np.zeros(5, np.float32), np.zeros((5, DIM + 1), np.float32))

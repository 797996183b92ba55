"""The head on sizes that are known, and what it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from retrieval_samples import make_exam, search_model, weight_arrays

from edge_codec.errors import EngineError
from edge_codec.retrieval.disease_head import FEATURES, GROUPS, GroupGuess, features_of
from edge_codec.retrieval.token_reader import TokenReader
from edge_codec.retrieval.weights import make_search_model

HEAD = search_model().head


def beating_shares(n_phases=20):
    """Two slices whose LV halves with a beat, whose RV does not move."""
    beat = 0.75 + 0.25 * np.cos(2 * np.pi * np.arange(n_phases) / n_phases)
    shares = np.zeros((2, n_phases, 32, 3), np.float32)
    shares[..., 0], shares[..., 1] = 0.1, 0.2
    shares[..., 2] = 0.4 * beat[:, None]
    return shares


def test_features_are_sizes_at_largest_and_smallest_lv():
    features = features_of(beating_shares())
    assert features.shape == (FEATURES,)
    logs = [math.log(share) for share in (0.1, 0.2, 0.4, 0.1, 0.2, 0.2)]
    np.testing.assert_allclose(features[:6], logs, atol=0.02)
    np.testing.assert_allclose(features[6:], [0, 0.5, 0], atol=0.02)


def test_features_of_a_heart_that_is_not_there_are_finite():
    assert np.isfinite(features_of(np.zeros((1, 1, 32, 3), np.float32))).all()


def test_probabilities_are_those_of_the_regression():
    exam = make_exam(3)
    known = search_model().listener.listen(exam)
    guess = HEAD.guess(exam, known)
    scaled = features_of(HEAD.reader.shares(known)) + 3
    likely = np.exp(scaled @ HEAD.weights + HEAD.bias)
    np.testing.assert_allclose(guess.probabilities, likely / likely.sum(), atol=1e-3)
    assert guess.group == GROUPS[likely.argmax()]
    assert guess.confidence == max(guess.probabilities)
    assert HEAD.guess(exam, known) == guess


def test_an_exam_far_from_all_others_is_unusual():
    exam = make_exam(3)
    known = search_model().listener.listen(exam)
    assert not HEAD.guess(exam, known).unusual
    assert replace(HEAD, farthest=1e-9).guess(exam, known).unusual


def test_an_exam_of_one_phase_is_unusual_as_it_shows_no_beat():
    exam = make_exam(3, n_phases=1)
    assert HEAD.guess(exam, search_model().listener.listen(exam)).unusual


def test_a_group_that_the_encoder_was_told_is_passed_on():
    exam = make_exam(3, told_group="HCM")
    assert HEAD.guess(exam, search_model().listener.listen(exam)).told_group == "HCM"


def test_shares_of_a_slice_do_not_depend_on_the_others():
    known = search_model().listener.listen(make_exam(5, 3, 100))
    shares = HEAD.reader.shares(known)
    assert shares.shape == (3, 100, 32, 3)
    assert 0 <= shares.min() <= shares.max() <= 1
    np.testing.assert_allclose(HEAD.reader.shares(known[1:2]), shares[1:2], atol=1e-6)


def test_a_guess_comes_back_from_its_fields():
    guess = GroupGuess((0.1, 0.2, 0.3, 0.4, 0.0), True, "RV")
    assert GroupGuess.of_fields(guess.fields()) == guess


@pytest.mark.parametrize("name", ["reader_enter", "head_weights", "frame_axes", "slice_mean"])
def test_missing_and_misshapen_weights_are_refused(name):
    arrays = weight_arrays()
    codes = search_model().listener.codebook
    with pytest.raises(EngineError, match="reinstall"):
        make_search_model({**arrays, name: arrays[name][:-1]}, codes, "w")
    del arrays[name]
    with pytest.raises(EngineError, match="reinstall"):
        make_search_model(arrays, codes, "w")


def test_a_reader_without_a_weight_is_refused():
    with pytest.raises(EngineError, match="expected"):
        TokenReader({})

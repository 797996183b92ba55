from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.entropy.cdf import CDF_TOTAL, check_cdfs, normalize_counts
from edge_codec.errors import SpecError


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1 << 29), min_size=1, max_size=40), st.booleans())
def test_normalized_counts_are_a_valid_table(counts: list[int], keep_all: bool) -> None:
    cdfs = normalize_counts(np.array(counts), keep_all=keep_all)
    check_cdfs(cdfs)
    frequencies = np.diff(cdfs[0].astype(np.int64))
    assert frequencies.sum() == CDF_TOTAL
    for count, frequency in zip(counts, frequencies.tolist(), strict=True):
        assert frequency >= 1 or (not keep_all and count == 0)
        if not keep_all and any(counts) and count == 0:
            assert frequency == 0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 1 << 29), min_size=1, max_size=40))
def test_frequencies_are_within_one_of_their_share(counts: list[int]) -> None:
    frequencies = np.diff(normalize_counts(np.array(counts))[0].astype(np.int64))
    n, total = len(counts), sum(counts)
    for count, frequency in zip(counts, frequencies.tolist(), strict=True):
        assert abs(frequency - 1 - count * (CDF_TOTAL - n) / total) <= 1


def test_equal_remainders_go_to_the_lower_symbol() -> None:
    frequencies = np.diff(normalize_counts(np.array([5, 5, 5]))[0].astype(np.int64))
    assert frequencies.tolist() == [21846, 21845, 21845]


def test_full_alphabet_and_single_symbol() -> None:
    assert normalize_counts(np.zeros(1, np.int64)).tolist() == [[0, CDF_TOTAL]]
    full = normalize_counts(np.arange(CDF_TOTAL))
    assert (np.diff(full[0]) == 1).all()


@pytest.mark.parametrize(
    "counts",
    [
        np.array([1.0, 2.0]),
        np.array([-1, 2]),
        np.zeros((1, 0), np.int64),
        np.zeros((1, 1, 2), np.int64),
        np.zeros(CDF_TOTAL + 1, np.int64),
        np.array([1 << 46]),
    ],
)
def test_wrong_counts_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(SpecError):
        normalize_counts(counts)


@pytest.mark.parametrize(
    "cdfs",
    [
        np.array([[0, 65536]], np.int64),
        np.array([[1, 65536]], np.uint32),
        np.array([[0, 65535]], np.uint32),
        np.array([[0, 65537]], np.uint32),
        np.array([[0, 9, 8, 65536]], np.uint32),
        np.array([[0]], np.uint32),
        np.zeros((0, 2), np.uint32),
        np.zeros((1, 1, 2), np.uint32),
        [[0, 65536]],
    ],
)
def test_wrong_tables_are_refused(cdfs: np.ndarray) -> None:
    with pytest.raises(SpecError):
        check_cdfs(cdfs)

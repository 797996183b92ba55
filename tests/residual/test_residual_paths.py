"""Code paths of processors, and the curves that all machines must compute alike."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from types import ModuleType
from unittest import mock

import numpy as np
import plain_mixing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from residual_samples import (
    BOUNDS,
    EFFORTS,
    KINDS,
    SPANS,
    Frame,
    Pair,
    Slice,
    check_round_trip,
    draw_frames,
    encode_all,
)

from edge_codec.native_build import FEATURES
from edge_codec.residual import _residual, coder
from edge_codec.spec import Effort

WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129]


def find_paths() -> list[ModuleType]:
    """The modules that this processor can run, the one for all processors first."""
    present = _residual.features()
    names = ["_residual", *(f"_residual_{name}" for name in FEATURES if present[name])]
    return [importlib.import_module(f"edge_codec.residual.{name}") for name in names]


PATHS = find_paths()


def check_paths(slice_: Slice, kinds: list[str], seed: int, late: list[bool] | None = None) -> None:
    """Each path codes the same bytes, and decodes what another one coded."""
    if len(PATHS) == 1:
        pytest.skip("this processor has one path")
    frames = draw_frames(slice_, kinds, seed)
    with mock.patch.object(coder, "native", PATHS[0]):
        coded = encode_all(slice_, frames, late=late)
    for path in PATHS[1:]:
        with mock.patch.object(coder, "native", path):
            again = encode_all(slice_, frames, late=late)
            check_decoder(slice_, frames, coded)
        for (payload, expected), (same, frame) in zip(coded, again, strict=True):
            assert payload == same
            np.testing.assert_array_equal(frame, expected)
        with mock.patch.object(coder, "native", PATHS[0]):
            check_decoder(slice_, frames, again)


def check_decoder(slice_: Slice, frames: list[Pair], coded: list[tuple[bytes, Frame]]) -> None:
    """What was coded comes back."""
    decoder = slice_.decoder()
    for i, (payload, expected) in enumerate(coded):
        np.testing.assert_array_equal(decoder.decode(payload, frames[i][1], i == 0), expected)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("rows", [1, 9, 24])
def test_paths_agree_at_every_width(effort: Effort, rows: int, columns: int) -> None:
    slice_ = Slice(rows, columns, 4095, 0, rows == 9, effort)
    check_paths(slice_, ["wave", "wave", "walk", "wave", "sparse", "wave"], columns)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("rows", WIDTHS)
def test_paths_agree_at_every_height(effort: Effort, rows: int) -> None:
    check_paths(Slice(rows, 1, 1000, 1, False, effort), ["wave"] * 5, rows)


@pytest.mark.parametrize("effort", EFFORTS)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 70),
    st.one_of(st.sampled_from(SPANS), st.integers(0, 2**32 - 1)),
    st.one_of(st.sampled_from(BOUNDS), st.integers(0, 2**31 - 1)),
    st.booleans(),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_paths_agree_on_all_content(
    effort: Effort,
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    kinds: list[str],
    late: list[bool],
    seed: int,
) -> None:
    check_paths(Slice(rows, columns, span, max_error, with_base, effort), kinds, seed, late)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("kind", ["noise", "saturated"])
@pytest.mark.parametrize("span", [2047, 65535])
def test_paths_agree_where_sums_are_largest(effort: Effort, kind: str, span: int) -> None:
    """Differences at their limits in whole windows, in a band of more than 16,384 voxels too."""
    check_paths(Slice(130, 129, span, 0, True, effort), [kind] * 3, 7)


@pytest.mark.parametrize("effort", [Effort.DEFAULT, Effort.BEST])
def test_sums_of_products_keep_to_their_integers(effort: Effort) -> None:
    """Stripes make every difference the largest there is, in every voxel of a window."""
    slice_ = Slice(40, 40, 2047, 0, False, effort)
    y, x = np.mgrid[:40, :40]
    stripes = (2047 * ((x + y) % 2)).astype(np.uint32)
    flat = np.zeros_like(stripes)
    frames = [flat, stripes, 2047 - stripes, stripes, flat] if effort == Effort.BEST else []
    frames += [stripes, 2047 - stripes, stripes]
    check_round_trip(slice_, [(frame.astype(np.uint32), None) for frame in frames])


@pytest.mark.parametrize(
    "values",
    [
        plain_mixing.curve_values,
        plain_mixing.mantissa_log_values,
        plain_mixing.logistic_values,
    ],
)
def test_no_entry_of_a_curve_is_near_a_half(values: Callable[[], list[float]]) -> None:
    """Libraries may compute exp and log2 a little differently: the tables are the same."""
    assert min(abs(value - math.floor(value) - 0.5) for value in values()) > 1e-6

"""Connected components of any dimension against a flood fill, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from edge_codec.runtime.components import count_components, largest_component

masks = arrays(np.bool_, array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.booleans())


def flood(mask: NDArray[np.bool_]) -> list[set[tuple[int, ...]]]:
    """The components in the order of their first elements."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    for start in map(tuple, np.argwhere(mask).tolist()):
        if start not in left:
            continue
        left.remove(start)
        part, waiting = {start}, [start]
        while waiting:
            here = waiting.pop()
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    there = (*here[:axis], here[axis] + step, *here[axis + 1 :])
                    if there in left:
                        left.remove(there)
                        part.add(there)
                        waiting.append(there)
        found.append(part)
    return found


@given(masks)
def test_the_largest_component_is_that_of_a_flood_fill(mask: NDArray[np.bool_]) -> None:
    parts = flood(mask)
    assert count_components(mask) == len(parts)
    expected = max(parts, key=len, default=set())  # the first of equal ones
    found = largest_component(mask)
    assert found.shape == mask.shape
    assert set(map(tuple, np.argwhere(found).tolist())) == expected


def test_a_long_winding_path_is_one_component() -> None:
    mask = np.zeros((41, 41), bool)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    assert count_components(mask) == 1
    assert np.array_equal(largest_component(mask), mask)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 2)])
def test_masks_without_elements(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, bool)
    assert count_components(mask) == 0
    assert largest_component(mask).shape == shape

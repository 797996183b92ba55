"""Products in parts are products, wherever they are written."""

from __future__ import annotations

import numpy as np
import pytest

from edge_codec.base.titok.products import Parts
from edge_codec.base.titok.token_prior import weights


@pytest.mark.parametrize(("k", "n"), [(12, 4096), (32, 4096), (192, 128), (5, 7)])
def test_parts_make_the_whole_product_with_and_without_a_place_for_it(k: int, n: int) -> None:
    rng = np.random.default_rng(k)
    rows, matrix = rng.integers(-99, 99, (32, k)), rng.integers(-99, 99, (k, n))
    parts, expected = Parts(matrix.astype(np.float32)), rows @ matrix
    assert np.array_equal(parts.of(rows.astype(np.float32)), expected)
    out = np.full((32, n), 7, np.int32)
    assert parts.of(rows.astype(np.float32), out) is out
    assert np.array_equal(out, expected)


def test_weights_are_the_same_in_a_place_for_them() -> None:
    logits = np.random.default_rng(1).integers(-9000, 9000, (32, 4096)).astype(np.int32)
    expected = weights(logits.copy())
    out = np.empty_like(logits)
    found = weights(logits, out)
    assert np.array_equal(found, expected)
    assert np.shares_memory(found, out)

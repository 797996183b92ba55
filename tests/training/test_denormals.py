"""Flushing small numbers ends with what asked for it."""

import numpy as np
import pytest

from edge_codec.training.denormals import flushed_denormals

SMALL = np.float32(1e-30)


def test_small_numbers_are_zero_for_as_long_as_it_lasts():
    assert SMALL * np.float32(1e-10) > 0
    with flushed_denormals():
        assert SMALL * np.float32(1e-10) == 0
    assert SMALL * np.float32(1e-10) > 0
    with pytest.raises(ZeroDivisionError), flushed_denormals():
        raise ZeroDivisionError
    assert SMALL * np.float32(1e-10) > 0

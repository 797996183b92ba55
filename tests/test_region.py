from __future__ import annotations

import numpy as np
import pytest

from edge_codec.errors import SpecError
from edge_codec.region import MAX_SQUARES, Region
from edge_codec.spec import CineInfo, ModelId, StreamSpec

INFO = CineInfo(2, 0, 33, 50, np.dtype(np.int16))


def small_mask() -> np.ndarray:
    mask = np.zeros((2, 33, 50), bool)
    mask[1, 17, 31:33] = True  # two squares side by side
    mask[1, 32, 49] = True  # the last one, cut off at both edges
    return mask


def test_squares_are_those_with_a_voxel_inside() -> None:
    region = Region.of_mask(small_mask(), 3)
    assert region.squares == bytes(12) + bytes([0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1])
    found = region.mask(2, 33, 50)
    expected = np.zeros((2, 33, 50), bool)
    expected[1, 16:32, 16:48] = expected[1, 32:, 48:] = True
    np.testing.assert_array_equal(found, expected)


def test_a_slice_has_its_own_squares_or_none() -> None:
    region = Region.of_mask(small_mask(), 3, 1)
    assert region.of_slice(0, 2) is None
    assert region.of_slice(1, 2) == Region.of_mask(small_mask()[1:], 3, 1)


@pytest.mark.parametrize(
    ("squares", "gain", "bound", "message"),
    [
        (b"\0\0", 3, None, "no square"),
        (b"", 3, None, "no square"),
        (b"\0\2", 3, None, "neither inside"),
        (b"\1", 0, None, "nothing holds"),
        (b"\1", 64, None, "quality_gain"),
        (b"\1", -1, None, "quality_gain"),
        (b"\1", True, None, "quality_gain"),
        (b"\1", 0, -1, "max_error"),
        (b"\1", 0, 1 << 31, "max_error"),
    ],
)
def test_what_is_no_region_is_refused(
    squares: bytes, gain: int, bound: int | None, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Region(squares, gain, bound)


def stream(region: Region, **fields: object) -> StreamSpec:
    return StreamSpec(INFO, 0, 99, region=region, **fields)  # type: ignore[arg-type]


def test_a_stream_has_a_region_of_its_size() -> None:
    with pytest.raises(SpecError, match=r"3 squares; .* have 24"):
        stream(Region(b"\0\1\0", 0, 0), max_error=1)
    with pytest.raises(SpecError, match=str(MAX_SQUARES)):
        Region(bytes(1) + bytes([1]) * MAX_SQUARES, 1).check(1, 1, 16 * (MAX_SQUARES + 1))


@pytest.mark.parametrize(
    ("gain", "bound", "fields", "message"),
    [
        (3, None, {"max_error": 0}, "no finer quality"),
        (3, None, {"model": ModelId.VQVAE, "max_error": None}, "no finer quality"),
        (0, 2, {"max_error": 2}, "lower there"),
        (0, 0, {"model": ModelId.DWT_CAL, "max_error": None}, "lower there"),
        (3, 5, {"model": ModelId.DWT_CAL, "max_error": 2}, "lower there"),
    ],
)
def test_a_region_has_to_fit_the_promise(
    gain: int, bound: int | None, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        stream(Region.of_mask(small_mask(), gain, bound), **fields)


def test_a_slice_alone_is_a_stream_of_its_own() -> None:
    spec = stream(Region.of_mask(small_mask(), 0, 0), max_error=2)
    assert spec.of_slice(0).region is None
    assert spec.of_slice(1).region == Region.of_mask(small_mask()[1:], 0, 0)
    assert spec.of_slice(1).info.n_slices == 1
    plain = StreamSpec(INFO, 0, 99)
    assert plain.of_slice(1) is plain

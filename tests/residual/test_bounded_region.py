"""A lower bound in a region: kept by every voxel, at every effort, and read by both decoders."""

from __future__ import annotations

import numpy as np
import pytest
from plain_residual import ResidualDecoder as PlainDecoder
from residual_samples import EFFORTS, Slice, draw_frames

from edge_codec.errors import BitstreamError, SpecError
from edge_codec.residual import BoundedRegion, ResidualDecoder, ResidualEncoder
from edge_codec.residual.native import native
from edge_codec.spec import Effort

CASES = [  # rows, columns, span, bound, bound of the region, base
    (20, 30, 1000, 5, 0, False),
    (192, 4, 4095, 3, 1, True),
    (9, 33, 65535, 1000, 3, True),
    (17, 40, 2**32 - 1, 2**31 - 1, 7, False),
    (16, 16, 255, 1, 0, True),
]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_voxel_keeps_its_bound(case: int, effort: Effort) -> None:
    rows, columns, span, outer, inner, with_base = CASES[case]
    voxels = np.random.default_rng(case).random((rows, columns)) < 0.5
    voxels[: rows // 2, : columns // 2] = True
    region = BoundedRegion(voxels, inner)
    parameters = Slice(rows, columns, span, outer, with_base, effort)
    plain = PlainDecoder(*parameters, np.where(voxels, inner, outer))
    encoder, decoder = parameters.encoder(region=region), parameters.decoder(region=region)
    kinds = ["wave", "wave", "walk", "noise", "wave", "flat"]
    bounds = [None, None, max(inner, outer // 2), min(inner, outer), None, None]
    for i, (frame, base) in enumerate(draw_frames(parameters, kinds, case)):
        give_up = 0 if i == 4 else None  # coded as FAST
        payload, decoded = encoder.encode(frame, base, i == 0, bounds[i], give_up)
        encoder.commit()
        np.testing.assert_array_equal(decoder.decode(payload, base, i == 0), decoded)
        np.testing.assert_array_equal(plain.decode(payload, base, i == 0), decoded)
        error = np.abs(frame.astype(np.int64) - decoded)
        assert error[voxels].max() <= inner
        assert error.max() <= outer


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_region_of_all_voxels_is_a_stream_of_its_bound(effort: Effort) -> None:
    """But for the head, which tells which effort and bound there is."""
    parameters, whole = Slice(20, 30, 1000, 5, effort=effort), np.ones((20, 30), bool)
    lower = Slice(20, 30, 1000, 1, effort=effort)
    encoder, other = parameters.encoder(region=BoundedRegion(whole, 1)), lower.encoder()
    for i, (frame, _) in enumerate(draw_frames(parameters, ["wave"] * 3, 1)):
        assert encoder.encode(frame, None, i == 0)[0] == other.encode(frame, None, i == 0)[0]
        encoder.commit()
        other.commit()


def test_a_region_costs_less_than_its_bound_everywhere() -> None:
    voxels = np.zeros((64, 64), bool)
    voxels[20:40, 20:40] = True
    sizes = []
    for bound, region in ((4, None), (4, BoundedRegion(voxels, 0)), (0, None)):
        parameters = Slice(64, 64, 1000, bound)
        frames = draw_frames(parameters, ["wave"], 3)
        sizes.append(len(parameters.encoder(region=region).encode(*frames[0], True)[0]))
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("voxels", "bound", "message"),
    [
        (np.ones((5, 6), bool), 1, "expected"),
        (np.ones((6, 5), np.uint8), 1, "expected"),
        (np.ones((6, 5), bool), 3, "lower one"),
        (np.ones((6, 5), bool), -1, "lower one"),
    ],
)
def test_a_region_that_does_not_fit_is_refused(
    voxels: np.ndarray, bound: int, message: str
) -> None:
    for coder in (ResidualEncoder, ResidualDecoder):
        with pytest.raises(SpecError, match=message):
            coder(6, 5, 9, 3, False, region=BoundedRegion(voxels, bound))


def test_the_native_coder_refuses_a_region_of_another_size() -> None:
    with pytest.raises(ValueError, match="29 voxels"):
        native.new(6, 5, 9, 3, False, 1, bytes(29), 1)
    with pytest.raises(ValueError, match="region"):
        native.new(6, 5, 9, 3, False, 1, bytes(30), 1 << 31)


@pytest.mark.parametrize("effort", EFFORTS)
def test_damage_is_an_error_or_a_frame(effort: Effort) -> None:
    parameters = Slice(20, 30, 1000, 5, effort=effort)
    region = BoundedRegion(np.indices((20, 30)).sum(0) % 16 < 8, 1)
    ((frame, _),) = draw_frames(parameters, ["wave"], 5)
    payload, _ = parameters.encoder(region=region).encode(frame, None, True)
    rng, refused = np.random.default_rng(effort), 0
    for _ in range(60):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        try:
            found = parameters.decoder(region=region).decode(bytes(damaged), None, True)
        except BitstreamError:
            refused += 1
            continue
        assert found.max() <= 1000
    assert refused

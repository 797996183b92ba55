"""A round trip is believed only when it was verified."""

import math

import numpy as np
import pytest

from edge_codec.bench.rd.measure import FAILED, NOT_APPLICABLE, OK, SKIPPED, measure
from edge_codec.bench.rd.trial import (
    Codec,
    Coded,
    NotApplicableError,
    Tier,
    Trial,
    UnavailableError,
)

CODEC = Codec("made-up", "a codec for tests", (), lambda threads: [])


def run(case, decoded, max_error, *, size=1000):
    """Measure a codec that decodes to given voxels, or raises."""

    def code(case):
        if isinstance(decoded, Exception):
            raise decoded
        return Coded(size, decoded, [3.0, 1.0, 2.0], [0.5, 0.25], "frame", ("a note",))

    return measure(case, CODEC, Trial("set", Tier.LOSSY, code, max_error, threads=3))


def test_a_codec_that_lies_by_one_voxel_is_caught(heart_case):
    wrong = heart_case.voxels.copy()
    wrong[1, 2, 40, 30] -= 1
    result = run(heart_case, wrong, 0)
    assert result.status == FAILED
    assert result.reason == "a voxel is off by 1, every voxel must come back exactly"
    assert result.figures is None
    assert run(heart_case, heart_case.voxels.copy(), 0).status == OK


def test_a_codec_that_exceeds_its_bound_is_caught(heart_case):
    wrong = heart_case.voxels.copy()
    wrong[0, 0, 0, 0] += 3
    assert run(heart_case, wrong, 3).status == OK
    result = run(heart_case, wrong, 2)
    assert (result.status, result.reason) == (FAILED, "a voxel is off by 3, 2 is promised")


def test_differences_do_not_wrap(make_case):
    voxels = np.array([[0, 65535]], np.uint16)
    result = run(make_case(voxels), np.array([65535, 65535], np.uint16).reshape(1, 1, 1, 2), 1)
    assert "off by 65535" in result.reason


def test_a_missing_phase_is_caught(heart_case):
    assert "shape" in run(heart_case, heart_case.voxels[:, :2], None).reason


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (UnavailableError("not built"), SKIPPED, "not built"),
        (NotApplicableError("too wide"), NOT_APPLICABLE, "too wide"),
        (RuntimeError("some\nlibrary's  words"), FAILED, "RuntimeError: some library's words"),
    ],
)
def test_every_end_has_a_row(heart_case, error, status, reason):
    result = run(heart_case, error, 0)
    assert (result.status, result.reason, result.figures) == (status, reason, None)
    record = result.record()
    assert record["psnr_db"] is record["stream_bytes"] is None


def record_of_heart(case, decoded):
    """PSNR over the heart's region, voxel by voxel."""
    errors = [
        float(decoded[index, phase, row, column] - case.voxels[index, phase, row, column]) ** 2
        for index, row, column in np.argwhere(case.heart.region)
        for phase in range(case.voxels.shape[1])
    ]
    return 10 * math.log10(case.peak**2 / np.mean(errors))


def test_figures_are_those_of_their_definitions(heart_case):
    moving = heart_case.region[:, None] & np.ones_like(heart_case.voxels, dtype=bool)
    decoded = heart_case.voxels + np.where(moving, 2, 1)
    record = run(heart_case, decoded, None, size=500).record()
    voxels = heart_case.voxels.size
    share = moving.mean()
    error = 4 * share + (1 - share)
    assert record["bpp"] == 8 * 500 / voxels
    assert record["ratio_to_16_bit"] == pytest.approx(2 * voxels / 500)
    assert record["psnr_db"] == pytest.approx(10 * math.log10(heart_case.peak**2 / error))
    assert record["psnr_p995_db"] == pytest.approx(10 * math.log10(heart_case.peak_p995**2 / error))
    assert record["psnr_roi_db"] == pytest.approx(20 * math.log10(heart_case.peak / 2))
    assert record["psnr_heart_db"] == pytest.approx(record_of_heart(heart_case, decoded))
    assert 0.9 < record["ssim"] < 1
    assert (record["max_error"], record["encode_ms"], record["decode_ms"]) == (2, 2.0, 0.375)
    assert (record["threads"], record["timed"], record["notes"]) == (3, "frame", ["a note"])


def test_figures_that_do_not_exist_are_null(make_case):
    case = make_case(np.array([[0, 9], [0, 0]], np.int16))
    record = run(case, case.voxels, 0).record()
    assert record["status"] == OK
    assert record["ssim"] is None  # smaller than the window
    assert record["psnr_roi_db"] is None  # one phase has no motion
    assert record["psnr_heart_db"] is None
    assert record["psnr_db"] is None  # no error

"""PSNR and SSIM against their formulas, worked out by other means."""

import math

import numpy as np
import pytest

from edge_codec.metrics.image import psnr, squared_error, ssim


def test_psnr_of_a_known_error():
    original = np.full((8, 8), 100, np.int16)
    decoded = original + np.int16(2)
    error = squared_error(original, decoded) / original.size
    assert error == 4
    assert psnr(error, peak=200) == pytest.approx(40.0)


def test_psnr_of_equal_images_is_infinite():
    assert psnr(0.0, peak=1.0) == math.inf


def test_squared_error_does_not_wrap():
    assert squared_error(np.array([0], np.uint16), np.array([65535], np.uint16)) == 65535.0**2


def ssim_by_definition(x, y, data_range):
    """Loop over every 7x7 window: slow, obvious."""
    values = []
    for row in range(x.shape[0] - 6):
        for column in range(x.shape[1] - 6):
            a = x[row : row + 7, column : column + 7].ravel()
            b = y[row : row + 7, column : column + 7].ravel()
            covariance = np.cov(a, b)
            c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
            values.append(
                (2 * a.mean() * b.mean() + c1)
                * (2 * covariance[0, 1] + c2)
                / (a.mean() ** 2 + b.mean() ** 2 + c1)
                / (covariance[0, 0] + covariance[1, 1] + c2)
            )
    return np.mean(values)


def test_ssim_matches_its_definition():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 1000, (19, 16)).astype(np.float64)
    y = x + rng.normal(0, 90, x.shape)
    assert ssim(x, y, 1000.0) == pytest.approx(ssim_by_definition(x, y, 1000.0), abs=1e-12)


def test_ssim_of_equal_frames_is_one():
    frame = np.random.default_rng(2).integers(0, 4096, (16, 16))
    assert ssim(frame, frame, 4095.0) == pytest.approx(1.0)

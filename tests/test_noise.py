"""The noise estimate on images of known noise, and the bounds that follow from it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.noise import NoiseMeter, allowed_variance, bound_of

SHAPE = (120, 140)


def anatomy(scale=1.0):
    """Smooth structure without noise, 200 to 800."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 500 + 300 * scale * np.sin(x / 14) * np.cos(y / 17)


def heart(level=600):
    """A bright disc with a darker one in it, on air of 0."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot(y - 60, x - 70)
    return level * (radius < 50) - level / 2 * (radius < 15)


def sigma_of(*frames):
    meter = NoiseMeter()
    for frame in frames:
        meter.add(frame)
    return meter.sigma()


def noisy(image, sigma, seed=0, dtype=np.int16):
    return np.rint(image + np.random.default_rng(seed).normal(0, sigma, SHAPE)).astype(dtype)


@pytest.mark.parametrize("sigma", [0.7, 1, 1.6, 3, 10, 60])
@pytest.mark.parametrize("image", [anatomy(), anatomy(0), heart() + 2000])
def test_gaussian_noise_is_measured(sigma, image):
    frames = [noisy(image, sigma, seed) for seed in range(3)]
    # Rounding to integers adds a twelfth to the variance.
    assert sigma_of(*frames) == pytest.approx(math.hypot(sigma, math.sqrt(1 / 12)), rel=0.1)


@pytest.mark.parametrize("sigma", [3, 10, 40])
def test_rician_noise_is_measured_where_there_is_signal(sigma):
    rng = np.random.default_rng(1)
    real, imaginary = rng.normal(0, sigma, (2, 4, *SHAPE))
    frames = np.rint(np.hypot(heart() + real, imaginary)).astype(np.uint16)
    assert sigma_of(*frames) == pytest.approx(sigma, rel=0.1)


def test_air_that_was_set_to_zero_does_not_count():
    frame = noisy(heart() + 50, 8) * (heart() > 0)
    assert sigma_of(frame.astype(np.int16)) == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("step", [3, 8])
def test_sparse_values(step):
    """Rescaled files use every n-th number only."""
    frame = step * np.rint(noisy(anatomy(), 20) / step)
    assert sigma_of(frame.astype(np.int16)) == pytest.approx(20, rel=0.1)


def test_saturated_voxels_make_it_smaller_at_most():
    frame = noisy(anatomy(), 10)
    clipped = [sigma_of(np.minimum(frame, largest)) for largest in (800, 700, 600, 500)]
    assert clipped == sorted(clipped, reverse=True)
    assert clipped[0] < 10.5
    assert clipped[-1] == 0


@pytest.mark.parametrize(
    "frame",
    [
        np.full(SHAPE, 7),
        np.zeros((2, 90), int),
        np.zeros((1, 1), int),
        np.rint(np.add.outer(np.arange(120) * 3, np.arange(140) * 5)),  # a ramp
        heart(),
        (np.indices(SHAPE).sum(0) // 40 % 2) * 1000,  # stripes: edges, and no noise
    ],
)
def test_images_without_noise_have_none(frame):
    assert sigma_of(frame.astype(np.int16)) == 0


def test_interpolation_makes_it_smaller():
    spectrum = np.fft.fftshift(np.fft.fft2(noisy(anatomy(0), 20)))
    padded = np.pad(spectrum, [(side // 2, side // 2) for side in SHAPE])
    frame = np.abs(np.fft.ifft2(np.fft.ifftshift(padded))) * 4
    assert sigma_of(np.rint(frame).astype(np.int16)) < 4


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_every_dtype_and_offset_gives_the_same(dtype):
    frame = noisy(anatomy(), 9) // 5
    bounds = np.iinfo(dtype)
    frame = frame - frame.min()
    for offset in {bounds.min, bounds.max - int(frame.max())}:
        moved = (frame.astype(object) + offset).astype(dtype)
        assert sigma_of(moved) == sigma_of(frame)


def test_order_of_frames_does_not_matter():
    frames = [noisy(anatomy(), sigma, seed) for seed, sigma in enumerate((2, 9, 30))]
    assert sigma_of(*frames) == sigma_of(*reversed(frames))


def test_memory_is_flat():
    meter = NoiseMeter()
    counts = set()
    for seed in range(5):
        meter.add(noisy(anatomy(), 10, seed))
        counts.add(meter._magnitudes.counts()[0].size)
    assert max(counts) < 1000


def test_allowed_variance_is_that_of_the_loss():
    for percent in (0.5, 1, 10, 50):
        variance = allowed_variance(7.0, percent)
        snr_ratio = 1 / math.sqrt(1 + variance / 7.0**2)
        assert 100 * (1 - snr_ratio) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("variance", "bound"),
    [(0, 0), (0.66, 0), (2 / 3, 1), (1.99, 1), (2, 2), (3.99, 2), (4, 3), (1e30, (1 << 31) - 1)],
)
def test_bound(variance, bound):
    assert bound_of(variance) == bound


@settings(derandomize=True, max_examples=300)
@given(st.floats(0, 1e18))
def test_bound_is_the_largest(variance):
    bound = bound_of(variance)
    assert bound * (bound + 1) <= 3 * variance < (bound + 1) * (bound + 2)


def test_one_percent_of_ten():
    # 100 * (1 / 0.99^2 - 1) = 2.03: 2 * 3 / 3 fits, 3 * 4 / 3 does not.
    assert bound_of(allowed_variance(10, 1)) == 2

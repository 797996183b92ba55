"""The promise of `--snr-loss`: derived from the exam, and true for every frame."""

import io
import math

import numpy as np
import pytest

import edge_codec
import edge_codec.codec.encoder_slice
from edge_codec.bitstream.container import StreamReader
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import FrameError, SpecError
from edge_codec.noise import allowed_variance
from edge_codec.runtime.options import CompressOptions
from edge_codec.spec import CineInfo, StreamSpec


def noisy_heart(sigma, dtype=np.int16):
    """Smooth structure with noise, shape (2, 3, 40, 50)."""
    y, x = np.mgrid[:40, :50]
    noise = np.random.default_rng(0).normal(0, sigma, (2, 3, 40, 50))
    return np.rint(500 + 200 * np.sin(x / 9) * np.cos(y / 8) + noise).astype(dtype)


def spec_of(frames, sigma, percent, max_error):
    info = CineInfo(1, len(frames), *frames.shape[1:], dtype=frames.dtype)
    return StreamSpec(
        info, int(frames.min()), int(frames.max()), max_error=max_error, noise_sigma=sigma,
        snr_loss_percent=percent,
    )  # fmt: skip


def mean_squares(frames, back):
    return ((back.astype(float) - frames) ** 2).mean(axis=(-2, -1))


@pytest.mark.parametrize("percent", [1, 5, 20, 50])
def test_bound_follows_the_noise_and_every_frame_keeps_it(percent):
    voxels = noisy_heart(12)
    data = edge_codec.compress(edge_codec.Cine.from_array(voxels), snr_loss_percent=percent)
    spec = StreamReader(io.BytesIO(data)).spec
    assert spec.snr_loss_percent == percent
    assert spec.noise_sigma == pytest.approx(12, rel=0.1)
    allowed = allowed_variance(spec.noise_sigma, percent)
    bound = spec.max_error
    assert bound * (bound + 1) <= 3 * allowed < (bound + 1) * (bound + 2)
    back = edge_codec.decompress(data).voxels
    assert 0 < np.abs(back.astype(int) - voxels).max() <= bound
    assert mean_squares(voxels, back).max() <= allowed
    snr_kept = 1 / math.sqrt(1 + mean_squares(voxels, back).max() / spec.noise_sigma**2)
    assert 100 * (1 - snr_kept) <= percent


def test_flat_and_quiet_exams_are_lossless():
    for voxels in (np.full((1, 2, 9, 9), 7, np.uint8), noisy_heart(0.5)):
        data = edge_codec.compress(edge_codec.Cine.from_array(voxels), snr_loss_percent=1)
        assert StreamReader(io.BytesIO(data)).spec.lossless
        np.testing.assert_array_equal(edge_codec.decompress(data).voxels, voxels)


def test_a_frame_of_two_values_gets_a_smaller_bound():
    """Bound 1 turns 0 and 2 into 1: a mean squared error of 1, where 0.7 is allowed."""
    frames = (2 * np.random.default_rng(0).integers(0, 2, (3, 32, 32))).astype(np.int16)
    promised, free = spec_of(frames, 0.483, 50.0, 1), spec_of(frames, 0.0, 0.0, 1)
    errors = []
    for spec in (free, promised):
        encoder, decoder = Encoder(spec), Decoder(spec)
        back = np.stack([decoder.push(encoder.push(frame)) for frame in frames])
        errors.append(mean_squares(frames, back).max())
    assert errors[0] > allowed_variance(0.483, 50.0) >= errors[1]


def test_frames_after_one_with_a_smaller_bound():
    rng = np.random.default_rng(1)
    smooth = 40 + np.add.outer(np.arange(32), np.arange(32)) + rng.normal(0, 3, (5, 32, 32))
    frames = np.rint(smooth).astype(np.int16)
    frames[2] = 2 * rng.integers(0, 2, (32, 32))
    spec = spec_of(frames, 0.483, 50.0, 1)
    encoder, decoder = Encoder(spec), Decoder(spec)
    back = np.stack([decoder.push(encoder.push(frame)) for frame in frames])
    assert np.abs(back - frames).max() <= 1
    assert mean_squares(frames, back).max() <= allowed_variance(0.483, 50.0)


class WorstCoder:
    """A residual coder whose every error is as large as its bound times a factor."""

    factor = 1.0

    def __init__(self, *arguments):
        del arguments
        self.bounds, self.commits = [], 0

    def encode(self, samples, base, key, bound, give_up_ns, out):
        del base, key, give_up_ns, out
        self.bounds.append(bound)
        return b"", samples + np.uint32(self.factor * bound)

    def commit(self):
        self.commits += 1


@pytest.fixture
def worst(monkeypatch):
    coder = WorstCoder()
    monkeypatch.setattr(edge_codec.codec.encoder_slice, "ResidualEncoder", lambda *_: coder)
    return coder


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0, 1e4])
def test_trials_end_soon_with_a_bound_that_is_kept(worst, sigma):
    frames = np.zeros((1, 8, 8), np.int16)
    largest = int(math.sqrt(3 * allowed_variance(sigma, 10.0)))
    Encoder(spec_of(frames, sigma, 10.0, largest)).push(frames[0])
    assert worst.bounds[0] == largest
    assert worst.bounds[-1] == int(math.sqrt(allowed_variance(sigma, 10.0)))
    assert worst.bounds == sorted(set(worst.bounds), reverse=True)
    assert len(worst.bounds) <= 4
    assert worst.commits == 1


def test_no_noise_allows_no_error(worst):
    frames = np.zeros((1, 8, 8), np.int16)
    Encoder(spec_of(frames, 0.0, 10.0, 5)).push(frames[0])
    assert (worst.bounds, worst.commits) == ([5, 0], 1)


def test_without_the_promise_the_first_trial_holds(worst):
    frames = np.zeros((1, 8, 8), np.int16)
    Encoder(spec_of(frames, 0.0, 0.0, 5)).push(frames[0])
    assert (worst.bounds, worst.commits) == ([5], 1)


@pytest.mark.parametrize("percent", [0.0, 50.0])
def test_a_defective_coder_is_found_at_the_first_frame(worst, percent):
    worst.factor = 2.0
    frames = np.zeros((1, 8, 8), np.int16)
    with pytest.raises(FrameError, match="breaks its bound of 5"):
        Encoder(spec_of(frames, 9.0 if percent else 0.0, percent, 5)).push(frames[0])
    assert worst.commits == 0


@pytest.mark.parametrize("percent", [0, -1, 50.1, math.nan, math.inf])
def test_impossible_losses_are_refused(percent):
    cine = edge_codec.Cine.from_array(noisy_heart(5))
    with pytest.raises(SpecError, match="no promise"):
        edge_codec.compress(cine, snr_loss_percent=percent)


@pytest.mark.parametrize("max_error", [2, None])
def test_it_goes_with_no_other_bound(max_error):
    cine = edge_codec.Cine.from_array(noisy_heart(5))
    with pytest.raises(SpecError, match="leave max_error"):
        edge_codec.compress(cine, model="vqvae", max_error=max_error, snr_loss_percent=5)
    assert CompressOptions().snr_loss_percent is None


def test_floats_that_are_no_integers_have_no_noise():
    cine = edge_codec.Cine.from_array(noisy_heart(5, np.float32) + np.float32(0.25))
    with pytest.raises(SpecError, match="floats"):
        edge_codec.compress(cine, snr_loss_percent=5)

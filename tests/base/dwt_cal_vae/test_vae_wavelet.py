"""The integer wavelet: near its float model, nearly its own inverse, and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from edge_codec.base.dwt_cal_vae.networks import load_networks
from edge_codec.base.dwt_cal_vae.numbers import (
    BALANCE,
    LATENT_LIMIT,
    depth_to_space,
    from_output,
    space_to_depth,
    to_input,
)
from edge_codec.base.dwt_cal_vae.wavelet import SIGNAL_LIMIT, Wavelet, check_steps
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId


@pytest.fixture(scope="module")
def wavelet() -> Wavelet:
    return load_networks(load_manifest(ModelId.DWT_CAL_VAE).read("decoder.npz")).wavelet


def test_the_inverse_gives_the_frame_back(wavelet):
    frame = np.random.default_rng(1).integers(0, 2048, (24, 40)).astype(np.int16)
    coefficients = wavelet.forward(frame)
    assert coefficients.shape == (3, 5, 64)
    assert np.abs(wavelet.inverse(coefficients) - frame).max() <= 4


def test_it_is_the_trained_one(wavelet):
    torch = pytest.importorskip("torch")
    from edge_codec.nn.lifting import Lifting

    rng = np.random.default_rng(2)
    frame = np.kron(rng.integers(0, 2048, (4, 3)), np.ones((8, 8), int)).astype(np.int16)
    with torch.no_grad():
        exact = Lifting("9/7")(torch.from_numpy(frame[None, None].astype(np.float32)))
    found = wavelet.forward(frame)
    exact = exact[0].permute(1, 2, 0).numpy()
    assert (np.abs(found - exact) < 12 + 0.002 * np.abs(exact)).all()


def test_constant_frames_have_a_mean_alone(wavelet):
    found = wavelet.forward(np.full((16, 16), 1000, np.int16))
    assert np.ptp(found[..., 0]) == 0
    assert 7500 < found[0, 0, 0] < 8500
    assert np.abs(found[..., 1:]).max() < 12


def test_sums_stay_in_32_bits_whatever_the_latents(wavelet):
    """The same in 64 bits."""
    rng = np.random.default_rng(3)
    latents = rng.choice([-LATENT_LIMIT, LATENT_LIMIT], (4, 4, 64)).astype(np.int32)
    wide = Wavelet(wavelet.steps.astype(np.int64), wavelet.gains, wavelet.inverse_gains)
    assert np.abs(wavelet.inverse(latents)).max() < 4 * SIGNAL_LIMIT
    assert np.array_equal(wavelet.inverse(latents), wide.inverse(latents.astype(np.int64)))


def test_steps_that_could_leave_32_bits_are_known(wavelet):
    assert check_steps(wavelet.steps)
    assert not check_steps(wavelet.steps * 2)
    assert not check_steps(wavelet.steps[:, :3])
    assert not check_steps(wavelet.steps[:2])


def test_networks_see_and_give_the_same_scale():
    latents = np.random.default_rng(4).integers(-2000, 2000, (2, 2, 64)).astype(np.int32)
    assert np.abs(from_output(to_input(latents).astype(np.int32)) - latents).max() <= 2
    assert np.array_equal(
        from_output(to_input(latents).astype(np.int32))[..., 1:], latents[..., 1:]
    )
    assert np.bincount(BALANCE).tolist()[4] == 3


def test_blocks_become_channels_and_come_back():
    image = np.arange(6 * 4).reshape(6, 4)
    blocks = space_to_depth(image, 2)
    assert blocks[0, 1].tolist() == [2, 3, 6, 7]
    assert np.array_equal(depth_to_space(blocks, 2)[..., 0], image)
    wide = depth_to_space(np.arange(8).reshape(1, 1, 8), 2)
    assert wide[:, :, 1].tolist() == [[1, 3], [5, 7]]

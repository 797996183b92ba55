"""Slices of the wavelet and VAE layer: what is decoded, by whom, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_vae import DamagedError, PlainVae
from vae_builds import builds

from edge_codec.base.dwt_cal_vae import layers, reading
from edge_codec.base.dwt_cal_vae.coder import VaeCoder
from edge_codec.base.dwt_cal_vae.model import VaeModel
from edge_codec.base.dwt_cal_vae.networks import Networks, load_networks
from edge_codec.base.dwt_cal_vae.pixels import PixelWindow
from edge_codec.errors import BitstreamError, EngineError, FrameError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.phantom import heart
from edge_codec.spec import CineInfo, ModelId, StreamSpec

MANIFEST = load_manifest(ModelId.DWT_CAL_VAE)
DECODER = MANIFEST.read("decoder.npz")
ENCODER = MANIFEST.read("encoder.npz")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_networks(DECODER, ENCODER)


def make_spec(rows: int = 40, columns: int = 26, span: int = 2000, **window: int) -> StreamSpec:
    info = CineInfo(1, 0, rows, columns, np.dtype(np.uint32))
    bounds = {"window_low": 10, "window_high": 10 + span // 2} | window
    return StreamSpec(info, 0, span, ModelId.DWT_CAL_VAE, max_error=None, **bounds)


def make_frames(spec: StreamSpec, count: int = 4) -> np.ndarray:
    frames = heart(count, *spec.info.frame_shape, np.dtype(np.uint16)).astype(np.uint64)
    return (frames * spec.high // max(int(frames.max()), 1)).astype(np.uint32)


def plain_decoder(spec: StreamSpec) -> PlainVae:
    rows, columns = spec.info.frame_shape
    return PlainVae(
        DECODER,
        SimpleNamespace(
            rows=rows,
            columns=columns,
            window_offset=spec.window_low - spec.low,
            window_width=spec.window_high - spec.window_low,
            span=spec.high - spec.low,
        ),
    )


SIZES = [(1, 1), (8, 8), (17, 9), (40, 26), (3, 50)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("quality", [0, 30, 63])
def test_the_decoder_has_what_the_encoder_has(networks, size, quality):
    spec = make_spec(*size)
    encoder, decoder = (VaeModel(networks, quality).coder(spec) for _ in range(2))
    plain = plain_decoder(spec)
    for phase, frame in enumerate(make_frames(spec)):
        key = phase in (0, 2)
        payload, base = encoder.encode(frame, phase, key)
        assert base.shape == size
        assert np.array_equal(decoder.decode(payload, phase, key), base)
        assert np.array_equal(plain.decode(payload, 0, key), base)


@pytest.mark.parametrize(
    ("span", "low", "high"),
    [(255, 0, 200), (4095, 300, 900), (65535, 0, 60000), (2**32 - 1, 5, 2**31)],
)
def test_windows_of_all_widths(networks, span, low, high):
    spec = make_spec(16, 24, span, window_low=low, window_high=high)
    window = PixelWindow(spec)
    samples = np.linspace(0, span, 16 * 24).astype(np.uint32).reshape(16, 24)
    pixels = window.narrow(samples)
    exact = np.clip((samples.astype(float) - low) * 2048 / (high - low), -1024, 7168)
    assert np.abs(pixels - exact).max() <= 0.5 + 1e-6
    inside = np.abs(exact - 3072) < 4000
    error = np.abs(window.widen(pixels).astype(float) - samples)[inside]
    assert error.max() <= (high - low) / 4096 + 1


def test_quality_costs_bits_and_buys_likeness(networks):
    spec = make_spec(64, 64)
    frames = make_frames(spec)
    sizes, errors = [], []
    for quality in (4, 24, 44):
        coder = VaeModel(networks, quality).coder(spec)
        coded = [coder.encode(frame, i, i == 0) for i, frame in enumerate(frames)]
        sizes.append(sum(len(payload) for payload, _ in coded))
        bases = np.stack([base for _, base in coded])
        errors.append(((bases.astype(float) - frames) ** 2).mean())
    assert sizes[0] < sizes[1] < sizes[2]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


@pytest.mark.parametrize(
    ("quality", "expected"),
    [(40, [48, 38, 40, 38, 42, 38, 48]), (62, [63, 60, 62, 60, 63, 60, 63])],
)
def test_qualities_follow_the_place_in_the_group(networks, quality, expected):
    spec = make_spec(8, 8)
    coder = VaeModel(networks, quality).coder(spec)
    keys = [True, False, False, False, False, False, True]
    frame = make_frames(spec, 1)[0]
    assert [coder.encode(frame, i, key)[0][0] for i, key in enumerate(keys)] == expected


def test_every_build_makes_the_same(monkeypatch, networks):
    spec = make_spec()
    made = []
    for native in builds():
        monkeypatch.setattr(layers, "native", native)
        monkeypatch.setattr(reading, "native", native)
        coder = VaeModel(load_networks(DECODER, ENCODER), 33).coder(spec)
        coded = [coder.encode(frame, i, i == 0) for i, frame in enumerate(make_frames(spec))]
        made.append([(payload, base.tobytes()) for payload, base in coded])
    assert all(other == made[0] for other in made)


def test_damaged_payloads_are_refused_or_decoded_alike(networks):
    spec = make_spec(16, 16)
    encoder = VaeModel(networks, 40).coder(spec)
    frames = make_frames(spec)
    payloads = [encoder.encode(frame, i, i == 0)[0] for i, frame in enumerate(frames)]
    rng = np.random.default_rng(1)
    refused = 0
    plain = plain_decoder(spec)
    plain.decode(payloads[0], 0, True)
    state = plain.decoded, plain.features
    for index in range(20):
        damaged = bytearray(payloads[1])
        if index % 4 == 0:
            damaged += bytes(range(1, 99))
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        decoder = VaeModel(networks, 0).coder(spec)
        decoder.decode(payloads[0], 0, True)
        plain.decoded, plain.features = state
        try:
            expected = plain.decode(bytes(damaged), 0, False)
        except DamagedError:
            refused += 1
            with pytest.raises(BitstreamError):
                decoder.decode(bytes(damaged), 1, False)
            with pytest.raises(BitstreamError, match="before any key frame"):
                decoder.decode(payloads[2], 2, False)
        else:
            assert np.array_equal(decoder.decode(bytes(damaged), 1, False), expected)
    assert refused >= 4


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 63))
def test_whatever_is_no_payload_gives_a_frame_or_an_error(symbols, quality):
    spec = make_spec(9, 12)
    coder = VaeModel(load_cached(), 0).coder(spec)
    try:
        frame = coder.decode(bytes([quality]) + symbols, 0, True)
    except BitstreamError:
        return
    assert frame.shape == (9, 12)
    assert frame.max() <= spec.high


def load_cached(cache: list[Networks] = []) -> Networks:  # noqa: B006 (loaded once)
    if not cache:
        cache.append(load_networks(DECODER))
    return cache[0]


def test_wrong_beginnings_are_refused(networks):
    spec = make_spec(8, 8)
    coder = VaeModel(networks, 20).coder(spec)
    frame = make_frames(spec, 1)[0]
    with pytest.raises(FrameError, match="begin with a key frame"):
        coder.encode(frame, 1, False)
    with pytest.raises(BitstreamError, match="before any key frame"):
        coder.decode(b"\0", 1, False)
    with pytest.raises(BitstreamError, match="begins with no byte"):
        coder.decode(b"", 0, True)
    with pytest.raises(BitstreamError, match="begins with quality 64"):
        coder.decode(b"\x40", 0, True)
    with pytest.raises(FrameError, match="crop or pad"):
        coder.encode(frame[:4], 0, True)
    with pytest.raises(EngineError, match="decoding only"):
        VaeCoder(load_networks(DECODER), spec, 20).encode(frame, 0, True)


def test_files_that_lack_a_part_are_refused(tmp_path):
    with np.load(MANIFEST.folder / "decoder.npz") as content:
        arrays = {name: content[name] for name in content.files}

    def load(**changes: np.ndarray | None) -> None:
        kept = {name: value for name, value in (arrays | changes).items() if value is not None}
        np.savez(tmp_path / "changed.npz", **kept)
        load_networks((tmp_path / "changed.npz").read_bytes())

    load()
    for name in ("table", "key.context", "inter.prior.step", "features_limit", "wavelet.gains"):
        with pytest.raises(EngineError, match="lack a part"):
            load(**{name: None})
    with pytest.raises(EngineError, match="32 bits"):
        load(**{"wavelet.steps": arrays["wavelet.steps"] * 3})

"""Streams of model `video` of a moving picture."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-codec[video]'")

from edge_codec.base.video.model import VideoModel
from edge_codec.spec import CineInfo, Effort, ModelId, StreamSpec

ENCODERS = ("x265", "x265-main10", "svt-av1")


def make_model(encoder="x265", quality=32):
    """Return an encoder that is done soon."""
    return VideoModel(encoder, quality, Effort.FAST)


def make_spec(model, shape=(64, 72), span=830, **changes):
    info = CineInfo(3, 0, *shape, np.dtype(np.int64))
    spec = StreamSpec(
        info,
        low=-5,
        high=span - 5,
        model=ModelId.VIDEO,
        max_error=None,
        effort=Effort.FAST,
        model_data=model.model_data(shape),
    )
    return replace(spec, **changes)


def make_frames(n=4, shape=(64, 72), span=830, seed=1):
    """Return uint32 frames 0..span of a moving, noisy picture."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(seed)
    frames = []
    for time in range(n):
        wave = np.sin(rows / 7 + time / 3) * np.cos(columns / 9 - time / 5)
        level = 0.5 + 0.4 * wave + rng.normal(0, 0.01, shape)
        frames.append((np.clip(level, 0, 1) * span).astype(np.uint32))
    return frames


def encode(model, spec, frames, keys=(0,)):
    """Return the payloads of frames and what the encoder says they decode to."""
    coder = model.coder(spec)
    pairs = [coder.encode(frame, i, i in keys) for i, frame in enumerate(frames)]
    return [payload for payload, _ in pairs], [base.copy() for _, base in pairs]


def decode(spec, payloads, keys=(0,)):
    coder = VideoModel().coder(spec)
    return [coder.decode(data, i, i in keys).copy() for i, data in enumerate(payloads)]


@cache
def coded(encoder):
    """Return a stream of six frames, two of them key frames."""
    model = make_model(encoder)
    spec = make_spec(model)
    return spec, *encode(model, spec, make_frames(6), keys=(0, 3))

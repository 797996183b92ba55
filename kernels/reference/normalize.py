"""What `edge_codec.kernels.normalize` computes, and the tables that it reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.spec import StreamSpec
from edge_codec.window import Window

N_SAMPLES = 1 << 16
N_CODES = 256


def code_table(spec: StreamSpec) -> NDArray[np.uint8]:
    """Return the code of every 16-bit sample, shape (65536,); beyond the stream's bound it repeats.

    Raises
    ------
    EngineError
        If the stream's samples have more than 16 bits.
    """
    samples = np.minimum(np.arange(N_SAMPLES), _span(spec)).astype(np.uint32)
    return Window(spec).normalize(samples)


def sample_table(spec: StreamSpec) -> NDArray[np.uint16]:
    """Return the sample that stands for each code, shape (256,).

    Raises
    ------
    EngineError
        If the stream's samples have more than 16 bits.
    """
    _span(spec)
    return Window(spec).denormalize(np.arange(N_CODES, dtype=np.uint8)).astype(np.uint16)


def normalize(
    frames: NDArray[np.uint16], to_code: NDArray[np.uint8], stride: int = 8
) -> NDArray[np.uint8]:
    """Make codes of frames, (n, rows, columns) to (n, height, width)."""
    _, rows, columns = frames.shape
    pad = ((0, 0), (0, -rows % stride), (0, -columns % stride))
    return to_code[np.pad(frames, pad, mode="edge")]


def denormalize(
    codes: NDArray[np.uint8], to_sample: NDArray[np.uint16], rows: int, columns: int
) -> NDArray[np.uint16]:
    """Make frames of codes, (n, height, width) to (n, rows, columns)."""
    return to_sample[codes[:, :rows, :columns]]


def _span(spec: StreamSpec) -> int:
    span = spec.high - spec.low
    if span >= N_SAMPLES:
        raise EngineError(f"samples span {span + 1} values; the GPU path takes {N_SAMPLES} at most")
    return span

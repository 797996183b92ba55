"""A whole codec of frames from single networks: encoder, codebook lookup, decoder.

What quantizing one network costs shows at the end of the chain it stands in: in decoded frames and
in the tokens' bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.tokens import TokenCoder
from edge_codec.calibration.run import Runner
from edge_codec.errors import CalibrationError

KEY_INTERVAL = 32
"""Phases from one key frame to the next, as the codec has it by default."""

_TOKENS = ("tensor(int32)", "tensor(int64)")

Rate = Callable[[NDArray[Any]], float]
"""Tokens (slices, phases, h, w) of an exam -> bits."""


class Stage(Protocol):
    """One step of a chain."""

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return what the next stage gets."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """What came out of a chain.

    Attributes
    ----------
    frames : ndarray, shape (n, 1, rows, columns), uint8
        Decoded window codes.
    tokens : ndarray, shape (n, h, w), or None
        Tokens on the way, if there are any.
    """

    frames: NDArray[np.uint8]
    tokens: NDArray[Any] | None


class NetworkStage:
    """A network with one input and one output.

    Parameters
    ----------
    model : bytes
        ONNX file.
    threads : int

    Raises
    ------
    CalibrationError
        If it has more inputs or outputs.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        self._runner = Runner(model, threads=threads)
        if len(self._runner.inputs) != 1 or len(self._runner.outputs) != 1:
            raise CalibrationError(
                f"the network has {len(self._runner.inputs)} inputs and "
                f"{len(self._runner.outputs)} outputs; a chain is made of networks with one of each"
            )
        self.input, info = next(iter(self._runner.inputs.items()))
        self.takes = str(info.type)
        self.gives = self._runner.output_types[0]

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run the network."""
        if self.takes == "tensor(int64)":
            values = values.astype(np.int64)
        return self._runner.run({self.input: values})[0]


class LookupStage:
    """Latents to the index of the nearest code; the lowest of equals.

    Parameters
    ----------
    codebook : ndarray, shape (codes, dim)
    """

    def __init__(self, codebook: NDArray[Any]) -> None:
        if codebook.ndim != 2 or codebook.dtype.kind not in "iuf" or not codebook.size:
            raise CalibrationError(
                f"the codebook is {codebook.dtype} {codebook.shape}, expected numbers (codes, dim)"
            )
        self._codes = codebook.astype(np.float32)
        self._half_norms = 0.5 * np.square(self._codes).sum(axis=1)

    def run(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Return tokens (..., h, w) of latents (..., h, w, dim)."""
        if values.shape[-1] != self._codes.shape[1]:
            raise CalibrationError(
                f"latents of {values.shape[-1]} numbers do not fit a codebook of "
                f"{self._codes.shape[1]}"
            )
        rows = values.astype(np.float32).reshape(-1, values.shape[-1])
        tokens: NDArray[np.int64] = (rows @ self._codes.T - self._half_norms).argmax(axis=1)
        return tokens.astype(np.int32).reshape(values.shape[:-1])


class Chain:
    """Networks in a row, from frames to frames.

    Parameters
    ----------
    models : sequence of bytes
        ONNX files; the first takes frames (n, 1, rows, columns) uint8 and the last gives them.
    codebook : ndarray, shape (codes, dim), optional
        Stands where latents meet a network that takes tokens.
    threads : int

    Raises
    ------
    CalibrationError
        If one network does not take what the one before it gives.
    """

    def __init__(
        self, models: Sequence[bytes], codebook: NDArray[Any] | None = None, threads: int = 1
    ) -> None:
        networks = [NetworkStage(model, threads) for model in models]
        stages: list[Stage] = [networks[0]]
        for before, after in itertools.pairwise(networks):
            if after.takes in _TOKENS and before.gives not in _TOKENS:
                if codebook is None:
                    raise CalibrationError(
                        f"one network gives {before.gives}, the next takes tokens; name the "
                        "codebook between them with --codebook"
                    )
                stages.append(LookupStage(codebook))
            elif after.takes != before.gives and after.takes not in _TOKENS:
                raise CalibrationError(
                    f"one network gives {before.gives}, the next takes {after.takes}; they do not "
                    "form a chain"
                )
            stages.append(after)
        if networks[0].takes != "tensor(uint8)":
            raise CalibrationError(
                f"the first network takes {networks[0].takes}; expected frames of uint8 window "
                "codes. Name the network before it with --before"
            )
        self.closed = networks[-1].gives == "tensor(uint8)"
        self._stages = stages

    def inputs(self, frames: NDArray[np.uint8], stage: int) -> NDArray[Any]:
        """Return what the network number `stage`, from 0, is given for some frames."""
        values: NDArray[Any] = frames
        networks = 0
        for item in self._stages:
            if isinstance(item, NetworkStage):
                if networks == stage:
                    break
                networks += 1
            values = item.run(values)
        return values

    def run(self, frames: NDArray[np.uint8]) -> Passed:
        """Code and decode frames (n, 1, rows, columns).

        Raises
        ------
        CalibrationError
            If what comes out is no frame of the same size.
        """
        values: NDArray[Any] = frames
        tokens = None
        for stage in self._stages:
            values = stage.run(values)
            if values.dtype in (np.int32, np.int64):
                tokens = values
        if values.dtype != np.uint8 or values.shape != frames.shape:
            raise CalibrationError(
                f"the chain makes {values.dtype} {values.shape} of frames {frames.shape}; expected "
                "frames. Name the network behind it with --after"
            )
        return Passed(values, tokens)


def token_rate(coder: TokenCoder) -> Rate:
    """Return what counts the bits of an exam's tokens: slice by slice, with key frames."""

    def bits(tokens: NDArray[Any]) -> float:
        size = 0
        for phases in tokens.astype(np.uint16):
            for phase, frame in enumerate(phases):
                previous = phases[phase - 1] if phase % KEY_INTERVAL else None
                size += len(coder.encode(frame, previous))
        return 8.0 * size

    return bits

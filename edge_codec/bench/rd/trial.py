"""What one measurement is: a codec at one setting, and what it makes of a case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.errors import EdgeCodecError

T = TypeVar("T")


class UnavailableError(EdgeCodecError):
    """The installed library lacks the encoder or the setting; the trial is skipped."""


class NotApplicableError(EdgeCodecError):
    """The codec has no way to hold this case's voxels."""


class Tier(str, Enum):
    """What a setting promises."""

    LOSSLESS = "lossless"
    BOUNDED = "bounded"
    LOSSY = "lossy"


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """What a codec made of a case.

    Attributes
    ----------
    stream_bytes : int
        Every byte that the decoder was given.
    voxels : ndarray, shape and units of `Case.voxels`, integer
        What the decoder made of those bytes.
    encode_ms, decode_ms : list of float
        Milliseconds per frame, one entry for each thing that was coded by itself.
    timed : str
        What that thing is: 'frame', or 'stream' of several frames that are timed together.
    notes : tuple of str
        What a reader must know, such as a scale.
    """

    stream_bytes: int
    voxels: NDArray[Any]
    encode_ms: list[float]
    decode_ms: list[float]
    timed: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A codec at one setting.

    Attributes
    ----------
    setting : str
        The setting in words, unique within the codec.
    tier : Tier
        What it promises.
    code : callable
        Encodes and decodes a case. Raises `UnavailableError` or `NotApplicableError` where that
        is why it cannot, and whatever else the library raises.
    max_error : int or None
        The promise to verify, in stored units: 0 for lossless, None where there is none.
    threads : int
        Threads that the codec was allowed.
    """

    setting: str
    tier: Tier
    code: Callable[[Case], Coded]
    max_error: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """A codec and its settings.

    Attributes
    ----------
    name : str
        As `--codecs` takes it; the name of its curve.
    summary : str
        What it is, for `--list`.
    modules : tuple of str
        Import names that it needs.
    trials : callable
        Number of threads allowed -> the trials, in the order of falling rate.
    fine : callable, optional
        The same with every setting that there is to choose a rate by, where these are more.
    """

    name: str
    summary: str
    modules: tuple[str, ...]
    trials: Callable[[int], Sequence[Trial]]
    fine: Callable[[int], Sequence[Trial]] | None = None


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns, and how long it took in ms."""
    start = time.perf_counter()
    result = call()
    return result, 1e3 * (time.perf_counter() - start)

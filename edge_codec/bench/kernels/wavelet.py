"""Wavelets on the GPU against the same lifting in eager torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError
from edge_codec.kernels import wavelet
from edge_codec.kernels.reference import wavelet as reference

SHAPES = ((1, 256, 256), (30, 512, 512), (30, 255, 257))
SMALL_SHAPES = ((2, 4, 12), (1, 5, 7))


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield the cases on a device; see `KernelCase`."""
    for shape in SMALL_SHAPES if small else SHAPES:
        frames = _random(shape, device)
        yield _analysis(frames, time=False)
        yield _synthesis(frames, time=False)
        if shape[0] > 1:
            yield _analysis(frames, time=True)
            yield _synthesis(frames, time=True)
            yield _time_alone(frames)


def _random(shape: tuple[int, ...], device: torch.device) -> Tensor:
    frames = np.random.default_rng().integers(-(1 << 15), 1 << 15, shape, dtype=np.int16)
    return torch.from_numpy(frames).to(device)


def _analysis(frames: Tensor, *, time: bool) -> KernelCase:
    function = wavelet.analyze3d if time else wavelet.analyze2d
    expected = _bands(frames, time=time)
    out = wavelet.Subbands(*(torch.empty_like(band) for band in expected))

    def run() -> object:
        return function(frames, out=out)

    def eager() -> object:
        return _eager_level(torch.cat(_eager_haar(frames)) if time else frames)

    name = "analyze3d" if time else "analyze2d"
    return _case(name, frames, run, out, expected, eager)


def _synthesis(frames: Tensor, *, time: bool) -> KernelCase:
    function = wavelet.synthesize3d if time else wavelet.synthesize2d
    bands = _bands(frames, time=time)
    out = torch.empty_like(frames)

    def run() -> object:
        return function(bands, out=out)

    return _case("synthesize3d" if time else "synthesize2d", frames, run, (out,), (frames,), None)


def _time_alone(frames: Tensor) -> KernelCase:
    parts = reference.analyze_time(frames.cpu().numpy())
    expected = tuple(torch.from_numpy(part).to(frames.device) for part in parts)
    out = torch.empty_like(expected[0]), torch.empty_like(expected[1])

    def run() -> object:
        return wavelet.analyze_time(frames, out=out)

    return _case("time", frames, run, out, expected, lambda: _eager_haar(frames))


def _case(
    name: str,
    frames: Tensor,
    run: Callable[[], object],
    out: tuple[Tensor, ...],
    expected: tuple[Tensor, ...],
    eager: Callable[[], Any] | None,
) -> KernelCase:
    def check() -> str:
        for tensor, correct in zip(out, expected, strict=True):
            torch.bitwise_not(correct, out=tensor)
        run()
        wrong = sum(int((t != e).sum()) for t, e in zip(out, expected, strict=True))
        if wrong:
            raise EngineError(f"wavelet {name}: {wrong} samples differ from the reference")
        return "exact"

    shape = "x".join(map(str, frames.shape))
    # Frames of 16 bits on one side, 32 bits of subbands for each of their samples on the other.
    moved = (2 + 4) * frames.numel()
    baselines = {} if eager is None else {"eager torch": eager}
    return KernelCase("wavelet", f"{name} {shape}", "i16", run, check, moved, 0, "none", baselines)


def _bands(frames: Tensor, *, time: bool) -> wavelet.Subbands:
    analyze = reference.analyze3d if time else reference.analyze2d
    bands = analyze(frames.cpu().numpy())
    return wavelet.Subbands(*(torch.from_numpy(band).to(frames.device) for band in bands))


def _eager_haar(frames: Tensor) -> tuple[Tensor, Tensor]:
    x = frames.int()
    high = x[1::2] - x[0::2][: len(x) // 2]
    low = x[0::2].clone()
    low[: len(high)] += high >> 1
    return low, high


def _eager_level(frames: Tensor) -> tuple[Tensor, ...]:
    low, high = _eager_lift(frames.int(), 1)
    return (*_eager_lift(low, 2), *_eager_lift(high, 2))


def _eager_lift(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Lift along an axis of at least two samples."""
    even, odd = x.movedim(axis, 0)[0::2], x.movedim(axis, 0)[1::2]
    after = torch.cat([even[1:], even[-1:]])[: len(odd)]
    high = odd - ((even[: len(odd)] + after) >> 1)
    around = torch.cat([high[:1], high, high[-1:]])
    low = even + ((around[: len(even)] + around[1 : len(even) + 1] + 2) >> 2)
    return low.movedim(0, axis), high.movedim(0, axis)

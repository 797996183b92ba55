"""Integer wavelets on the GPU: 5/3 lifting in space and Haar in time, exact.

The definitions, and which values they take, are in `edge_codec.transform.wavelet`:

    high[i] = x[2i + 1] - ((x[2i] + x[2i + 2]) >> 1)
    low[i]  = x[2i]     + ((high[i - 1] + high[i] + 2) >> 2)

down the columns, then along the rows, and back in the reverse order; in time high = b - a and
low = a + (high >> 1). A level of a frame is one launch that reads and writes device memory once
(`edge_codec.kernels.wavelet_analyze` explains how), and so is the Haar step of a pair of frames
with the level of both results.

Nothing looks at the values. What overflows is modulo 2**32, as in the reference, and comes back
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from edge_codec.errors import EngineError
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import Config, config
from edge_codec.kernels.tensors import (
    MAX_GRID,
    check_dim,
    check_tensor,
    on_device,
    tile_of,
)
from edge_codec.kernels.wavelet_analyze import analyze_kernel
from edge_codec.kernels.wavelet_synthesize import synthesize_kernel
from edge_codec.kernels.wavelet_time import analyze_time_kernel, synthesize_time_kernel

MAX_SAMPLES = (1 << 31) - (1 << 20)
"""Of a frame: 32-bit places, of lanes beyond its end too."""

FEW_SAMPLES = 1 << 20
"""Fewer are transformed in short strips, of which there are more."""

LANE = 4
"""Columns of a lane."""

UNIT = 8
"""Frames of a multiple of so many samples are read and written 16 bytes at a time."""

SAMPLES = (torch.int16, torch.uint16, torch.int32)


class Subbands(NamedTuple):
    """Subbands of one level, as in `edge_codec.transform.wavelet`.

    Attributes
    ----------
    ll : Tensor, shape (n, ceil(rows / 2), ceil(columns / 2)), int32
    hl : Tensor, shape (n, ceil(rows / 2), floor(columns / 2)), int32
    lh : Tensor, shape (n, floor(rows / 2), ceil(columns / 2)), int32
    hh : Tensor, shape (n, floor(rows / 2), floor(columns / 2)), int32
    """

    ll: Tensor
    hl: Tensor
    lh: Tensor
    hh: Tensor


def analyze2d(
    frames: Tensor, *, out: Subbands | None = None, tile: Config | None = None
) -> Subbands:
    """Split frames into the subbands of one level.

    Parameters
    ----------
    frames : Tensor, shape (n, rows, columns), int16, uint16 or int32
        Values of at most 29 signed bits (`SPACE_BITS`); of larger ones the subbands are modulo
        2**32.
    out : Subbands, optional
        Where to store the result, instead of new tensors.
    tile : Config, optional
        How to launch, instead of what the table says.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape, layout or device, or is too large.
    """
    return _analyze(frames, out, tile, time=False)


def synthesize2d(
    bands: Subbands, *, out: Tensor | None = None, tile: Config | None = None
) -> Tensor:
    """Undo `analyze2d`.

    Parameters
    ----------
    bands : Subbands
    out : Tensor, shape (n, rows, columns), int16, uint16 or int32, optional
        Where to store the frames, modulo 2**16 if it has 16 bits, instead of a new int32 tensor.
    tile : Config, optional
        How to launch, instead of what the table says.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape, layout or device, or is too large.
    """
    return _synthesize(bands, out, tile, time=False)


def analyze3d(
    frames: Tensor, *, out: Subbands | None = None, tile: Config | None = None
) -> Subbands:
    """Take the Haar step of pairs of frames, and split its results into subbands, in one launch.

    Parameters
    ----------
    frames : Tensor, shape (phases, rows, columns), int16, uint16 or int32
        Values of at most 28 signed bits; of larger ones the subbands are modulo 2**32.
    out : Subbands, optional
        Where to store the result, instead of new tensors. The first ceil(phases / 2) of each are
        of the low frames of `analyze_time`, the others of the high frames.
    tile : Config, optional
        How to launch, instead of what the table says.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape, layout or device, or is too large.
    """
    return _analyze(frames, out, tile, time=True)


def synthesize3d(
    bands: Subbands, *, out: Tensor | None = None, tile: Config | None = None
) -> Tensor:
    """Undo `analyze3d`; see `synthesize2d`."""
    return _synthesize(bands, out, tile, time=True)


def analyze_time(
    frames: Tensor, *, out: tuple[Tensor, Tensor] | None = None, tile: Config | None = None
) -> tuple[Tensor, Tensor]:
    """Split a sequence of frames into means and differences of its pairs.

    Parameters
    ----------
    frames : Tensor, shape (phases, rows, columns), int16, uint16 or int32
    out : tuple of Tensor, optional
        Where to store the result, instead of new tensors.
    tile : Config, optional
        How to launch, instead of what the table says.

    Returns
    -------
    low : Tensor, shape (ceil(phases / 2), rows, columns), int32
    high : Tensor, shape (floor(phases / 2), rows, columns), int32
        Later frame minus earlier frame.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape, layout or device, or is too large.
    """
    _check_frames("frames", frames)
    phases, *sides = frames.shape
    shapes = ((phases + 1) // 2, *sides), (phases // 2, *sides)
    if out is None:
        out = _empty(shapes[0], frames), _empty(shapes[1], frames)
    for name, tensor, shape in zip(("low", "high"), out, shapes, strict=True):
        check_tensor(name, tensor, torch.int32, shape, frames.device)
    _launch_time(analyze_time_kernel, frames, (frames,), out, tile)
    return out


def synthesize_time(
    low: Tensor, high: Tensor, *, out: Tensor | None = None, tile: Config | None = None
) -> Tensor:
    """Undo `analyze_time`.

    Parameters
    ----------
    low : Tensor, shape (ceil(phases / 2), rows, columns), int32
    high : Tensor, shape (floor(phases / 2), rows, columns), int32
    out : Tensor, shape (phases, rows, columns), int16, uint16 or int32, optional
        Where to store the frames, modulo 2**16 if it has 16 bits, instead of a new int32 tensor.
    tile : Config, optional
        How to launch, instead of what the table says.

    Raises
    ------
    EngineError
        If a tensor has a wrong dtype, shape, layout or device, or is too large.
    """
    _check_frames("low", low)
    if high.ndim != low.ndim or len(low) - len(high) not in (0, 1):
        raise EngineError(
            f"low {tuple(low.shape)} and high {tuple(high.shape)} belong to no sequence; both have "
            "3 axes, and low has as many frames or one more"
        )
    check_tensor("low", low, torch.int32, low.shape, low.device)
    check_tensor("high", high, torch.int32, (len(high), *low.shape[1:]), low.device)
    shape = (len(low) + len(high), *low.shape[1:])
    out = _empty(shape, low) if out is None else out
    _check_out(out, shape, low.device)
    _launch_time(synthesize_time_kernel, out, (low, high), (out,), tile)
    return out


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Return what is compiled ahead of time: what a codec needs, and the largest of the kernels."""
    analyze, synthesize = analyze_kernel, synthesize_kernel
    return (
        _spec("analyze_i32", analyze, "*i32", capability, TIME=False, ALIGNED=True),
        _spec("synthesize_i32", synthesize, "*i32", capability, TIME=False, ALIGNED=True),
        _spec("analyze3d_i16", analyze, "*i16", capability, TIME=True, ALIGNED=True),
        _spec("synthesize3d_i16", synthesize, "*i16", capability, TIME=True, ALIGNED=True),
        _spec("analyze3d_any_i16", analyze, "*i16", capability, TIME=True, ALIGNED=False),
    )


def _spec(name: str, kernel: Any, kind: str, capability: int, **constants: bool) -> KernelSpec:
    tile = config("wavelet", "batch", capability)
    bands = dict.fromkeys(("ll_ptr", "hl_ptr", "lh_ptr", "hh_ptr"), "*i32")
    scalars = dict.fromkeys(("phases", "rows", "columns"), "i32")
    frames = {"x_ptr": kind}
    before, after = (frames, bands) if kernel is analyze_kernel else (bands, frames)
    return KernelSpec(
        name=f"wavelet_{name}",
        function=kernel,
        signature={**before, **scalars, **after},
        constants={**constants, **tile.constants},
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """Sizes of frames and of their subbands."""

    phases: int
    rows: int
    columns: int

    def subbands(self) -> list[tuple[int, int, int]]:
        low, high = (self.rows + 1) // 2, self.rows // 2
        left, right = (self.columns + 1) // 2, self.columns // 2
        sides = ((low, left), (low, right), (high, left), (high, right))
        return [(self.phases, rows, columns) for rows, columns in sides]


def _analyze(frames: Tensor, out: Subbands | None, tile: Config | None, *, time: bool) -> Subbands:
    _check_frames("frames", frames)
    shape = _Shape(*frames.shape)
    if out is None:
        out = Subbands(*(_empty(sides, frames) for sides in shape.subbands()))
    _check_bands(out, shape, frames.device)
    _launch(analyze_kernel, (frames,), shape, out, tile, time=time)
    return out


def _synthesize(bands: Subbands, out: Tensor | None, tile: Config | None, *, time: bool) -> Tensor:
    ll, hl, lh, _ = bands
    _check_frames("ll", ll)
    if hl.ndim != ll.ndim or lh.ndim != ll.ndim:
        raise EngineError(f"subbands of {hl.ndim} and {lh.ndim} axes; all have 3")
    shape = _Shape(len(ll), ll.shape[1] + lh.shape[1], ll.shape[2] + hl.shape[2])
    _check_bands(bands, shape, ll.device)
    sides = (shape.phases, shape.rows, shape.columns)
    out = _empty(sides, ll) if out is None else out
    _check_out(out, sides, ll.device)
    _launch(synthesize_kernel, bands, shape, (out,), tile, time=time)
    return out


def _launch(
    kernel: Any,
    inputs: tuple[Tensor, ...],
    shape: _Shape,
    outputs: tuple[Tensor, ...],
    tile: Config | None,
    *,
    time: bool,
) -> None:
    device = outputs[0].device
    few = shape.phases * shape.rows * shape.columns < FEW_SAMPLES
    tile = tile or tile_of("wavelet", "frame" if few else "batch", device, kernel)
    grid = (
        triton.cdiv(shape.columns, LANE * tile.constants["BLOCK"]),
        triton.cdiv(shape.rows, 2 * tile.constants["ROWS"]),
        (shape.phases + 1) // 2 if time else shape.phases,
    )
    check_dim("samples of a frame", shape.rows * shape.columns, 1, MAX_SAMPLES)
    check_dim("strips of a frame", grid[1], 1, MAX_GRID)
    with on_device(device):
        kernel[grid](
            *inputs,
            shape.phases,
            shape.rows,
            shape.columns,
            *outputs,
            TIME=time,
            ALIGNED=shape.columns % LANE == 0 and shape.rows > 1,
            **tile.constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def _launch_time(
    kernel: Any,
    frames: Tensor,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    tile: Config | None,
) -> None:
    tile = tile or tile_of("wavelet", "time", frames.device, kernel)
    n = frames[0].numel()
    check_dim("samples of a frame", n, 1, MAX_SAMPLES)
    grid = triton.cdiv(n, tile.constants["BLOCK"]), (len(frames) + 1) // 2
    with on_device(frames.device):
        kernel[grid](
            *inputs,
            len(frames),
            n,
            *outputs,
            UNIT=UNIT if n % UNIT == 0 else 1,
            **tile.constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=torch.int32, device=like.device)


def _check_frames(name: str, frames: Tensor) -> None:
    """Refuse what is no stack of frames that a kernel reads."""
    if frames.ndim != 3 or 0 in frames.shape or frames.dtype not in SAMPLES:
        raise EngineError(
            f"{name}: {tuple(frames.shape)} {frames.dtype}; expected (n, rows, columns) int16, "
            "uint16 or int32, none of them 0"
        )
    check_dim("frames at once", len(frames), 1, MAX_GRID)
    check_tensor(name, frames, frames.dtype, frames.shape, frames.device)


def _check_out(out: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    if out.dtype not in SAMPLES:
        raise EngineError(f"out is {out.dtype}; frames are int16, uint16 or int32")
    check_tensor("out", out, out.dtype, shape, device)


def _check_bands(bands: Subbands, shape: _Shape, device: torch.device) -> None:
    for name, band, sides in zip(Subbands._fields, bands, shape.subbands(), strict=True):
        check_tensor(name, band, torch.int32, sides, device)

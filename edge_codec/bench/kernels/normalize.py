"""Cases of `edge_codec.kernels.normalize`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError
from edge_codec.kernels.normalize import denormalize, normalize
from edge_codec.kernels.reference import normalize as reference

SHAPES = ((1, 256, 256), (1, 250, 251), (30, 512, 512))
SMALL = ((1, 11, 13), (2, 8, 9))


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield both directions on each shape."""
    for shape in SMALL if small else SHAPES:
        yield _forward(shape, device)
        yield _back(shape, device)


def _forward(shape: tuple[int, int, int], device: torch.device) -> KernelCase:
    frames = torch.randint(0, 1 << 16, shape).to(torch.uint16).to(device)
    table = torch.randint(0, 256, (1 << 16,), dtype=torch.uint8, device=device)
    codes = normalize(frames, table)

    def check() -> str:
        expected = torch.from_numpy(reference.normalize(frames.cpu().numpy(), table.cpu().numpy()))
        codes.copy_(255 - expected)  # no element is right unless it is written
        normalize(frames, table, out=codes)
        return _exact(codes, expected)

    return KernelCase(
        kernel="normalize",
        shape="x".join(map(str, shape)),
        dtype="u16",
        run=lambda: normalize(frames, table, out=codes),
        check=check,
        bytes_moved=2 * frames.numel() + codes.numel() + table.numel(),
        operations=0,
        rate="none",
        baselines={"index_select": lambda: table[frames.to(torch.int64)]},
    )


def _back(shape: tuple[int, int, int], device: torch.device) -> KernelCase:
    n, rows, columns = shape
    padded = (n, rows + -rows % 8, columns + -columns % 8)
    codes = torch.randint(0, 256, padded, dtype=torch.uint8, device=device)
    table = torch.randint(0, 1 << 16, (256,)).to(torch.uint16).to(device)
    frames = denormalize(codes, table, rows, columns)

    def check() -> str:
        found = reference.denormalize(codes.cpu().numpy(), table.cpu().numpy(), rows, columns)
        expected = torch.from_numpy(found)
        frames.copy_((65_535 - expected.int()).to(torch.uint16))
        denormalize(codes, table, rows, columns, out=frames)
        return _exact(frames, expected)

    return KernelCase(
        kernel="normalize",
        shape="x".join(map(str, shape)) + " back",
        dtype="u8",
        run=lambda: denormalize(codes, table, rows, columns, out=frames),
        check=check,
        bytes_moved=n * rows * columns + 2 * frames.numel() + 2 * table.numel(),
        operations=0,
        rate="none",
        baselines={"index_select": lambda: table.view(torch.int16)[codes.to(torch.int64)]},
    )


def _exact(found: torch.Tensor, expected: torch.Tensor) -> str:
    wrong = int((found.cpu().int() != expected.int()).sum())
    if wrong:
        raise EngineError(f"{wrong} of {expected.numel()} elements differ from the reference")
    return "exact"

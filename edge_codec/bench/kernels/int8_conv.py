"""Layers of the zoo's integer networks against float16 convolutions of the same size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from edge_codec.bench.kernels.case import KernelCase
from edge_codec.errors import EngineError
from edge_codec.kernels.int8_conv import int8_conv, to_device
from edge_codec.kernels.int8_layer import ConvShape, PackedConv, pack, unpack
from edge_codec.kernels.reference import int8_conv as reference

Size = tuple[int, int, int]  # images, height, width in pixels of the layer's input

TOKENS = 2048

FRAME: tuple[tuple[ConvShape, Size, bool], ...] = (
    (ConvShape(16, 64, 3, unpack=4), (1, 64, 64), False),
    (ConvShape(64, 128, 3, stride=2), (1, 64, 64), False),
    (ConvShape(128, 128, 3), (1, 32, 32), False),
    (ConvShape(128, 32, 1, signed_output=True), (1, 32, 32), False),
    (ConvShape(64, 128, 3), (1, 32, 32), True),
    (ConvShape(128, 256, 1, spread=2), (1, 32, 32), False),
    (ConvShape(64, 64, 3), (1, 64, 64), False),
    (ConvShape(64, 16, 3, spread=4), (1, 64, 64), False),
    (ConvShape(128, 128, 3), (16, 32, 32), False),
    (ConvShape(64, 64, 3, depthwise=True), (1, 64, 64), False),
)
"""Encoder and decoder on a frame of 256x256; whether the input is tokens of a table."""

SMALL: tuple[tuple[ConvShape, Size, bool], ...] = (
    (ConvShape(16, 64, 3, unpack=4), (1, 3, 5), False),
    (ConvShape(64, 32, 3, stride=2), (2, 3, 5), False),
    (ConvShape(64, 32, 3), (1, 2, 3), True),
    (ConvShape(64, 16, 3, spread=4), (1, 3, 2), False),
    (ConvShape(32, 32, 3, depthwise=True), (1, 3, 2), False),
)


def cases(device: torch.device, small: bool) -> Iterator[KernelCase]:
    """Yield a case per layer; see `KernelCase`."""
    rng = np.random.default_rng()
    for shape, size, tokens in SMALL if small else FRAME:
        yield _case(device, rng, shape, size, tokens)


def _case(
    device: torch.device, rng: np.random.Generator, shape: ConvShape, size: Size, tokens: bool
) -> KernelCase:
    packed = _random_layer(rng, shape)
    layer = to_device(packed, device)
    stored = size if tokens else shape.stored_input(*size)
    limits = (TOKENS, np.int32) if tokens else (256, np.uint8)
    source = rng.integers(0, limits[0], stored).astype(limits[1])
    table = rng.integers(0, 256, (TOKENS, shape.inputs)).astype(np.uint8) if tokens else None
    x = torch.from_numpy(source).to(device)
    rows = None if table is None else torch.from_numpy(table).to(device)
    out = int8_conv(x, layer, table=rows)

    def run() -> torch.Tensor:
        return int8_conv(x, layer, table=rows, out=out)

    def check() -> str:
        out.fill_(0x5A)
        run()
        activations = source if table is None else table[source]
        expected = reference.int8_conv(activations, *unpack(packed), shape)
        wrong = int((out.cpu().numpy() != expected).sum())
        if wrong:
            raise EngineError(f"{shape.name} on {size}: {wrong} of {expected.size} values differ")
        return "exact"

    pixels = size[0] * shape.output_side(size[1]) * shape.output_side(size[2])
    depth = shape.kernel**2 * (1 if shape.depthwise else shape.inputs)
    gathered = min(math.prod(size), TOKENS) * shape.inputs if tokens else 0
    numbers = packed.weights.nbytes + packed.bias.nbytes + packed.shift.nbytes
    return KernelCase(
        kernel="int8_conv",
        shape=f"{'x'.join(map(str, size))} {shape.name}{'_table' if tokens else ''}",
        dtype="i8",
        run=run,
        check=check,
        bytes_moved=source.nbytes + gathered + numbers + out.numel(),
        operations=2 * pixels * shape.outputs * depth,
        rate="none" if shape.depthwise else "i8",
        baselines={"float16 conv2d": _baseline(device, shape, size)},
    )


def _random_layer(rng: np.random.Generator, shape: ConvShape) -> PackedConv:
    """Make a layer whose outputs spread over their range, so that a wrong sum shows."""
    inputs = 1 if shape.depthwise else shape.inputs
    weight = rng.integers(-20, 21, (shape.outputs, inputs, shape.kernel, shape.kernel))
    # Sums deviate by some 1,700 times the root of their number of products; keep 6 bits of that.
    places = int(np.log2(1700 * shape.kernel * np.sqrt(inputs))) - 6
    bias = rng.integers(-9999, 9999, shape.outputs)
    shift = places + rng.integers(0, 2, shape.outputs)
    return pack(weight.astype(np.int8), bias, shift, shape)


def _baseline(device: torch.device, shape: ConvShape, size: Size) -> Callable[[], Any]:
    """Return the convolution alone, channels last, without requantization, gathering or blocks."""
    n, height, width = size
    groups = shape.inputs if shape.depthwise else 1
    window = (shape.inputs // groups, shape.kernel, shape.kernel)

    def random(*sizes: int) -> torch.Tensor:
        values = torch.randn(sizes, device=device).to(torch.float16)
        return values.to(memory_format=torch.channels_last)

    x, weight = random(n, shape.inputs, height, width), random(shape.outputs, *window)
    bias = torch.zeros(shape.outputs, dtype=torch.float16, device=device)
    pad = shape.kernel // 2
    return lambda: torch.nn.functional.conv2d(
        x, weight, bias, stride=shape.stride, padding=pad, groups=groups
    )

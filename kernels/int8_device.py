"""Device code of the int8 convolutions; `edge_codec.kernels.int8_conv` launches it.

The product is an implicit GEMM: a row is a pixel of the output, a column is an output channel, and
the depth is the window, (row, column, input). Where the inputs are a multiple of the depth of a
tile, a tile lies in one place of the window and its loads are whole rows of channels; otherwise
every element finds its own place. Tensor cores multiply equal types, so that unsigned activations
have their highest bit flipped, which lessens them by 128; the bias makes up for it, and for the
padding, which is flipped with them.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Triton's interpreter has no inline assembly.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def _signed(x):
    """Activations as int8: unsigned ones less 128, by flipping the highest bit."""
    if x.dtype != tl.uint8:
        return x
    if INTERPRETED:
        return (x ^ 128).to(tl.int8, bitcast=True)
    # Four at a time: the compiler takes the bytes apart before sm_90. The second operand, though
    # constant, keeps it from carrying the operands of the product from one iteration to the next
    # as single bytes.
    flip = tl.full(x.shape, 128, tl.uint8)
    return tl.inline_asm_elementwise(
        "xor.b32 $0, $1, $2;", "=r,r,r", [x, flip], dtype=tl.int8, is_pure=True, pack=4
    )


@triton.jit
def _requantize(sums, shift, dtype: tl.constexpr):
    """Divide by 2**shift, round half to even, saturate; -9 <= shift <= 26, sums below 2**25."""
    right = tl.maximum(shift, 0)
    any_right = tl.minimum(right, 1)
    half_less_one = ((1 << right) >> 1) - any_right
    odd = (sums >> right) & any_right
    scaled = (sums + half_less_one + odd) >> right
    # What a left shift multiplies saturates from 256 on, and must not overflow before that.
    scaled = tl.minimum(tl.maximum(scaled, -256), 256) << tl.maximum(-shift, 0)
    low: tl.constexpr = -128 if dtype == tl.int8 else 0
    return tl.minimum(tl.maximum(scaled, low), low + 255).to(dtype)


@triton.jit
def _conv_tile(
    x, tokens, weights, bias, shift, n_images, height, width, y,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    UNPACK: tl.constexpr, SPREAD: tl.constexpr, ROW_LENGTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile of the output; `tokens` is None, or `x` is the table that they name rows of."""
    DEPTH: tl.constexpr = KERNEL * KERNEL * INPUTS
    RUN: tl.constexpr = INPUTS // UNPACK  # channels that lie side by side in the stored input
    rows = (height + STRIDE - 1) // STRIDE
    columns = (width + STRIDE - 1) // STRIDE
    pixel = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = pixel % columns
    row = pixel // columns % rows
    image = pixel // columns // rows
    is_pixel = image < n_images
    is_output = output < OUTPUTS
    top = (row * STRIDE - KERNEL // 2)[:, None]
    left = (column * STRIDE - KERNEL // 2)[:, None]
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for step in range((DEPTH + BLOCK_K - 1) // BLOCK_K):
        depth = step * BLOCK_K + tl.arange(0, BLOCK_K)
        if INPUTS % BLOCK_K == 0:
            place = step // (INPUTS // BLOCK_K)
            channel = (step % (INPUTS // BLOCK_K) * BLOCK_K + tl.arange(0, BLOCK_K))[None, :]
        else:
            place = depth[None, :] // INPUTS
            channel = depth[None, :] % INPUTS
        above = top + place // KERNEL
        beside = left + place % KERNEL
        inside = is_pixel[:, None] & (above >= 0) & (above < height)
        inside = inside & (beside >= 0) & (beside < width)
        line = image[:, None] * height + above
        if tokens is not None:
            token = tl.load(tokens + line * width + beside, mask=inside, other=0)
            offset = token * INPUTS + channel
        elif UNPACK > 1:
            # Of the depth rather than the channel: the compiler sees through one remainder.
            line = line * UNPACK + depth[None, :] // RUN % UNPACK
            offset = (line * width + beside) * RUN + depth[None, :] % RUN
        else:
            offset = (line * width + beside) * INPUTS + channel
        if INPUTS % BLOCK_K != 0:
            inside = inside & (depth[None, :] < DEPTH)
        a = tl.load(x + offset, mask=inside, other=0)
        place_of_weights = output[None, :] * ROW_LENGTH + depth[:, None]
        b = tl.load(weights + place_of_weights, mask=is_output[None, :], other=0)
        sums = tl.dot(_signed(a), b, sums, out_dtype=tl.int32)
    sums += tl.load(bias + output, mask=is_output, other=0)[None, :]
    shifts = tl.load(shift + output, mask=is_output, other=0)[None, :]
    values = _requantize(sums, shifts, y.dtype.element_ty)
    RUN_OUT: tl.constexpr = OUTPUTS // SPREAD
    line = (image * rows + row)[:, None] * SPREAD + output[None, :] // RUN_OUT
    offset = (line * columns + column[:, None]) * RUN_OUT + output[None, :] % RUN_OUT
    tl.store(y + offset, values, mask=is_pixel[:, None] & is_output[None, :])


@triton.jit
def int8_conv_kernel(
    x,  # (n_images, height * UNPACK, width * UNPACK, INPUTS / UNPACK**2) uint8 or int8
    weights,  # (OUTPUTS, ROW_LENGTH) int8
    bias,  # (OUTPUTS,) int32, with 128 times the sum of the weights where x is uint8
    shift,  # (OUTPUTS,) int32
    n_images,
    height,  # of the layer's input in pixels, UNPACK x UNPACK stored ones each
    width,
    y,  # (n_images, rows * SPREAD, columns * SPREAD, OUTPUTS / SPREAD**2) uint8 or int8
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    UNPACK: tl.constexpr, SPREAD: tl.constexpr, ROW_LENGTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Convolve channels-last activations; grid (blocks of pixels, blocks of outputs)."""
    _conv_tile(
        x, None, weights, bias, shift, n_images, height, width, y,
        INPUTS, OUTPUTS, KERNEL, STRIDE, UNPACK, SPREAD, ROW_LENGTH, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


@triton.jit
def int8_conv_table_kernel(
    tokens,  # (n_images, height, width) int32, rows of the table
    table,  # (entries, INPUTS) uint8 or int8
    weights,  # (OUTPUTS, ROW_LENGTH) int8
    bias,  # (OUTPUTS,) int32, with 128 times the sum of the weights where the table is uint8
    shift,  # (OUTPUTS,) int32
    n_images,
    height,
    width,
    y,  # (n_images, rows * SPREAD, columns * SPREAD, OUTPUTS / SPREAD**2) uint8 or int8
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    UNPACK: tl.constexpr, SPREAD: tl.constexpr, ROW_LENGTH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Convolve the rows of a table that tokens name; a token beyond it reads beyond it."""
    _conv_tile(
        table, tokens, weights, bias, shift, n_images, height, width, y,
        INPUTS, OUTPUTS, KERNEL, STRIDE, UNPACK, SPREAD, ROW_LENGTH, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip


@triton.jit
def int8_depthwise_kernel(
    x,  # (n_images, height, width, CHANNELS) uint8 or int8
    weights,  # (KERNEL * KERNEL, CHANNELS) int8
    bias,  # (CHANNELS,) int32
    shift,  # (CHANNELS,) int32
    n_images,
    height,
    width,
    y,  # (n_images, rows, columns, CHANNELS) uint8 or int8
    CHANNELS: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Convolve each channel with its own window; grid (blocks of pixels, blocks of channels)."""
    rows = (height + STRIDE - 1) // STRIDE
    columns = (width + STRIDE - 1) // STRIDE
    pixel = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = pixel % columns
    row = pixel // columns % rows
    image = pixel // columns // rows
    is_pixel = image < n_images
    is_channel = channel < CHANNELS
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    sums += tl.load(bias + channel, mask=is_channel, other=0)[None, :]
    for place in tl.static_range(KERNEL * KERNEL):
        above = row * STRIDE + (place // KERNEL - KERNEL // 2)
        beside = column * STRIDE + (place % KERNEL - KERNEL // 2)
        inside = is_pixel & (above >= 0) & (above < height) & (beside >= 0) & (beside < width)
        offset = ((image * height + above) * width + beside)[:, None] * CHANNELS + channel[None, :]
        a = tl.load(x + offset, mask=inside[:, None] & is_channel[None, :], other=0)
        b = tl.load(weights + place * CHANNELS + channel, mask=is_channel, other=0)
        sums += a.to(tl.int32) * b.to(tl.int32)[None, :]
    shifts = tl.load(shift + channel, mask=is_channel, other=0)[None, :]
    values = _requantize(sums, shifts, y.dtype.element_ty)
    offset = pixel[:, None] * CHANNELS + channel[None, :]
    tl.store(y + offset, values, mask=is_pixel[:, None] & is_channel[None, :])

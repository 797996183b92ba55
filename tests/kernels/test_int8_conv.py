"""The int8 convolutions against their definition, and what they are compiled to.

Kernels run in Triton's interpreter, which also refuses sums that overflow 32 bits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels.int8_conv import (  # noqa: E402
    best_tile,
    int8_conv,
    layer_spec,
    specs,
    to_device,
)
from edge_codec.kernels.int8_layer import ConvShape, pack, unpack  # noqa: E402
from edge_codec.kernels.reference import int8_conv as reference  # noqa: E402
from edge_codec.kernels.tables import Config  # noqa: E402
from edge_codec.nn.vqvae import depth_to_space, space_to_depth  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def numbers(shape: ConvShape, rng: np.random.Generator) -> tuple[NDArray[np.int8], ...]:
    """Weights up to 63, biases, and shifts from a left one to one that leaves little."""
    window = (1 if shape.depthwise else shape.inputs, shape.kernel, shape.kernel)
    weight = rng.integers(-63, 64, (shape.outputs, *window)).astype(np.int8)
    spread = int(rng.integers(1, 5000))
    return weight, rng.integers(-spread, spread, shape.outputs), rng.integers(-1, 16, shape.outputs)


def activations(shape: tuple[int, ...], signed: bool, rng: np.random.Generator) -> NDArray[np.int8]:
    limits = np.iinfo(np.int8 if signed else np.uint8)
    return rng.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)


def run(x, weight, bias, shift, shape, **options):
    layer = to_device(pack(weight, bias, shift, shape), "cpu")
    return int8_conv(torch.from_numpy(x), layer, **options).numpy()


CASES = {
    "one pixel, one channel": (ConvShape(1, 1, 1), (1, 1, 1)),
    "window larger than the image": (ConvShape(16, 16, 3), (1, 1, 5)),
    "image of one pixel, 3x3": (ConvShape(32, 16, 3), (3, 1, 1)),
    "5x5 window, channels by the tile's side and one": (ConvShape(33, 17, 5), (1, 4, 3)),
    "odd sides, stride 2, tiles not full": (ConvShape(33, 130, 3, stride=2), (2, 5, 3)),
    "even sides, stride 2": (ConvShape(64, 16, 3, stride=2), (1, 4, 6)),
    "stride 3, a window of one": (ConvShape(32, 16, 1, stride=3), (1, 5, 7)),
    "several places of the window per channel block": (ConvShape(128, 16, 3), (1, 3, 3)),
    "three blocks of channels": (ConvShape(96, 16, 3), (1, 3, 2)),
    "int8 in and out": (ConvShape(40, 16, 3, signed_input=True, signed_output=True), (1, 4, 4)),
    "frame as blocks of 4": (ConvShape(16, 64, 3, unpack=4), (2, 3, 5)),
    "blocks of 2 of wide channels": (ConvShape(128, 16, 3, unpack=2), (1, 2, 3)),
    "spread over blocks of 2": (ConvShape(32, 64, 1, spread=2), (1, 3, 5)),
    "spread over blocks of 4, stride 2": (ConvShape(32, 16, 3, stride=2, spread=4), (2, 3, 3)),
    "depthwise": (ConvShape(70, 70, 3, depthwise=True), (1, 4, 3)),
    "depthwise, stride 2, int8": (
        ConvShape(5, 5, 5, stride=2, signed_input=True, signed_output=True, depthwise=True),
        (2, 5, 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kernel_is_its_reference(name: str) -> None:
    shape, size = CASES[name]
    rng = np.random.default_rng(len(name))
    x = activations(shape.stored_input(*size), shape.signed_input, rng)
    layer = numbers(shape, rng)
    expected = reference.int8_conv(x, *layer, shape)
    found = run(x, *layer, shape)
    assert (found.dtype, found.shape) == (expected.dtype, shape.stored_output(*size))
    assert np.array_equal(found, expected)
    assert expected.size < 20 or len(np.unique(expected)) > 5


@pytest.mark.parametrize("inputs", [16, 64])
def test_rows_of_a_table_are_gathered(inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    shape = ConvShape(inputs, 32, 3)
    table = activations((9, inputs), False, rng)
    tokens = rng.integers(0, 9, (2, 3, 4)).astype(np.int32)
    layer = numbers(shape, rng)
    found = run(tokens, *layer, shape, table=torch.from_numpy(table))
    assert np.array_equal(found, reference.int8_conv(table[tokens], *layer, shape))


@pytest.mark.parametrize("weight", [63, -63])
@pytest.mark.parametrize("signed", [False, True])
def test_extremes_are_exact(weight: int, signed: bool) -> None:
    shape = ConvShape(128, 16, 3, signed_input=signed, signed_output=True)
    x = np.full((1, 3, 3, 128), -128 if signed else 255, np.int8 if signed else np.uint8)
    weights = np.full((16, 128, 3, 3), weight, np.int8)
    bias = np.arange(16) * 1000
    shift = np.full(16, 18)
    found = run(x, weights, bias, shift, shape)
    middle = 9 * 128 * weight * int(x[0, 0, 0, 0]) + bias
    assert abs(middle).max() > 1 << 23
    assert found[0, 1, 1].tolist() == [round(Fraction(int(s), 1 << 18)) for s in middle]
    assert np.array_equal(found, reference.int8_conv(x, weights, bias, shift, shape))


@pytest.mark.parametrize("signed", [False, True])
def test_rounding_shifting_and_saturation_are_pythons(signed: bool) -> None:
    shifts = np.array([-400, -9, -8, -3, -1, 0, 1, 2, 3, 5, 8, 25, 26, 400])
    shape = ConvShape(1, len(shifts), 1, signed_output=signed)
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    weight = np.ones((len(shifts), 1, 1, 1), np.int8)
    bias = np.full(len(shifts), -128)  # sums are -128..127: ties of both signs at every shift
    found = run(x, weight, bias, shifts, shape)
    low, high = (-128, 127) if signed else (0, 255)
    for channel, shift in enumerate(shifts.tolist()):
        expected = [
            min(max(round(total * Fraction(2) ** -shift), low), high) for total in range(-128, 128)
        ]
        assert found[..., channel].reshape(-1).tolist() == expected, shift


def test_large_sums_saturate_under_left_shifts() -> None:
    shape = ConvShape(1, 4, 1, signed_output=True)
    bias = np.array([1 << 24, -(1 << 24), 1 << 23, -(1 << 23)])
    x, weight = np.zeros((1, 2, 2, 1), np.uint8), np.ones((4, 1, 1, 1), np.int8)
    for shift in (-8, -9):  # the sum times 2**8 is 0 modulo 2**32
        found = run(x, weight, bias, np.full(4, shift), shape)
        assert (found == [127, -128, 127, -128]).all()


@given(
    st.lists(st.integers(-(2**25) + 1, 2**25 - 1), min_size=1, max_size=20),
    st.integers(-40, 40),
    st.booleans(),
)
def test_reference_rounds_as_fractions_do(sums: list[int], shift: int, signed: bool) -> None:
    dtype = np.dtype(np.int8 if signed else np.uint8)
    limits = np.iinfo(dtype)
    exact = [round(Fraction(total) * Fraction(2) ** -shift) for total in sums]
    expected = [min(max(value, limits.min), limits.max) for value in exact]
    assert reference.requantize(np.array(sums), shift, dtype).tolist() == expected


@pytest.mark.parametrize("block", [1, 2, 4])
def test_blocks_are_those_of_the_network(block: int) -> None:
    x = np.random.default_rng(block).integers(0, 255, (2, 8, 4, 3)).astype(np.uint8)
    first = torch.from_numpy(x).permute(0, 3, 1, 2)
    expected = space_to_depth(first, block).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(reference.space_to_depth(x, block), expected)
    assert np.array_equal(reference.depth_to_space(expected, block), x)
    again = depth_to_space(torch.from_numpy(expected).permute(0, 3, 1, 2), block)
    assert np.array_equal(again.permute(0, 2, 3, 1).numpy(), x)


@settings(max_examples=30)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from([1, 3, 5]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_unpack_inverts_pack(
    inputs: int, outputs: int, kernel: int, signed: bool, depthwise: bool, seed: int
) -> None:
    outputs = inputs if depthwise else outputs
    shape = ConvShape(inputs, outputs, kernel, signed_input=signed, depthwise=depthwise)
    layer = numbers(shape, np.random.default_rng(seed))
    for found, expected in zip(unpack(pack(*layer, shape)), layer, strict=True):
        assert np.array_equal(found, expected)


def test_output_is_written_where_it_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    shape = ConvShape(32, 48, 1)
    x, layer = activations((1, 3, 4, 32), False, rng), numbers(shape, rng)
    out = torch.full((1, 3, 4, 48), 77, dtype=torch.uint8)
    tile = Config({"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 32}, 4, 2)
    device_layer = to_device(pack(*layer, shape), "cpu")
    result = int8_conv(torch.from_numpy(x), device_layer, out=out, tile=tile)
    assert result is out
    assert np.array_equal(out.numpy(), reference.int8_conv(x, *layer, shape))


SHAPE = ConvShape(32, 16, 3)


def device_layer(shape: ConvShape = SHAPE):
    return to_device(pack(*numbers(shape, np.random.default_rng(1)), shape), "cpu")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros((1, 4, 4, 31), dtype=torch.uint8), {}, "x is"),
        (torch.zeros((1, 4, 4, 32), dtype=torch.int8), {}, "expected .* torch.uint8"),
        (torch.zeros((1, 4, 32, 4), dtype=torch.uint8).mT, {}, "contiguous: False"),
        (torch.zeros((4, 32), dtype=torch.uint8), {}, "x is"),
        (torch.zeros((1, 0, 4, 32), dtype=torch.uint8), {}, "at least 1"),
        (
            torch.zeros((1, 4, 4, 32), dtype=torch.uint8),
            {"out": torch.zeros((1, 4, 4, 15), dtype=torch.uint8)},
            "out is",
        ),
        (
            torch.zeros((1, 4, 4), dtype=torch.int64),
            {"table": torch.zeros((5, 32), dtype=torch.uint8)},
            "tokens is",
        ),
        (
            torch.zeros((1, 4, 4), dtype=torch.int32),
            {"table": torch.zeros((5, 31), dtype=torch.uint8)},
            "table is",
        ),
    ],
)
def test_what_does_not_fit_is_refused(x, options: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        int8_conv(x, device_layer(), **options)


def test_a_table_is_read_by_plain_convolutions_only() -> None:
    tokens = torch.zeros((1, 2, 2), dtype=torch.int32)
    table = torch.zeros((5, 16), dtype=torch.uint8)
    with pytest.raises(EngineError, match="only plain convolutions"):
        int8_conv(tokens, device_layer(ConvShape(16, 16, 3, unpack=4)), table=table)


def test_more_than_offsets_can_reach_is_refused() -> None:
    with pytest.raises(EngineError, match="at most"):
        SHAPE.grid((1, 1 << 14, 1 << 14), 32, 32)


@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel": 2},
        {"inputs": 0},
        {"outputs": 1 << 20},
        {"stride": True},
        {"unpack": 3},
        {"spread": 5},
        {"depthwise": True},
    ],
)
def test_impossible_convolutions_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(EngineError):
        ConvShape(**{"inputs": 32, "outputs": 16, "kernel": 3, **sizes})


def test_sums_that_could_leave_the_proof_are_refused() -> None:
    shape = ConvShape(128, 1, 3)
    weight = np.full((1, 128, 3, 3), 114, np.int8)
    bias, shift = np.zeros(1, np.int64), np.zeros(1, np.int64)
    assert 255 * 114 * 9 * 128 < 1 << 25 < 255 * 115 * 9 * 128
    pack(weight, bias, shift, shape)
    with pytest.raises(EngineError, match="can reach"):
        pack(weight + np.int8(1), bias, shift, shape)
    for extreme in (1 << 25, -(1 << 25), -(1 << 63)):
        with pytest.raises(EngineError, match="bias"):
            pack(weight, np.array([extreme]), shift, shape)
    with pytest.raises(EngineError, match="signed integers"):
        pack(weight, np.zeros(1), shift, shape)
    with pytest.raises(EngineError, match="weights are"):
        pack(weight[:, :1], bias, shift, shape)


def test_tiles_fit_their_layers() -> None:
    for capability in (87, 90):
        for shape in (ConvShape(64, 16, 3), ConvShape(96, 256, 3), ConvShape(16, 64, 3)):
            blocks = best_tile(shape, capability).constants
            whole = shape.inputs if shape.inputs % 32 == 0 else 64
            assert whole % blocks["BLOCK_K"] == 0
            assert blocks["BLOCK_N"] <= max(16, shape.outputs)


def test_names_of_the_compiled_set_are_unique() -> None:
    names = [spec.name for spec in specs(90)]
    assert len(set(names)) == len(names)
    tokens = layer_spec(ConvShape(64, 128, 3), 90, table=True)
    assert tokens.name != layer_spec(ConvShape(64, 128, 3), 90).name


COMPILE = """
import dataclasses, json, re
from edge_codec.kernels.aot import compile_kernel
from edge_codec.kernels.int8_conv import layer_spec, specs
from edge_codec.kernels.int8_layer import ConvShape

found = {}
for capability in (87, 90):
    wide = layer_spec(ConvShape(128, 128, 3), capability)
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64}
    large = dataclasses.replace(wide, name="large", constants={**wide.constants, **blocks})
    for spec in (*(specs(87) if capability == 87 else [wide]), large):
        kernel = compile_kernel(spec, capability)
        found[f"{capability} {spec.name}"] = {
            "spills": kernel.spill_bytes,
            "shared": kernel.shared_bytes,
            "flips": kernel.ptx.count(str(0x80808080 - (1 << 32))),
            "products": sorted(set(re.findall(r"(?:wgmma|mma)\\S+s32\\.s8\\.s8\\S*", kernel.ptx))),
            "single_bytes": len(re.findall(r"xor\\.b16|ld\\.global\\.[bsu]8", kernel.ptx)),
            "copies": sorted(set(re.findall(r"cp\\.async\\.c[ag].*?0x(\\w+),", kernel.ptx))),
        }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    del environment["TRITON_INTERPRET"]
    result = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_compiled_kernels_do_not_spill(compiled: dict[str, dict[str, object]]) -> None:
    assert len(compiled) == 8
    for name, kernel in compiled.items():
        assert kernel["spills"] == 0, name
        assert kernel["shared"] <= 48 << 10, name


def test_compiled_kernels_use_int8_tensor_cores(compiled: dict[str, dict[str, object]]) -> None:
    for name, kernel in compiled.items():
        expected = "wgmma" if name == "90 large" else "mma.sync"
        products = [] if "depthwise" in name else [expected]
        assert [found[: len(expected)] for found in kernel["products"]] == products, name


def test_compiled_kernels_flip_the_highest_bits(compiled: dict[str, dict[str, object]]) -> None:
    """On a GPU by inline assembly, which the interpreter never sees."""
    for name, kernel in compiled.items():
        assert bool(kernel["flips"]) == ("depthwise" not in name), name


def test_compiled_kernels_move_no_single_bytes(compiled: dict[str, dict[str, object]]) -> None:
    for name, kernel in compiled.items():
        assert kernel["single_bytes"] == 0, name


def test_loads_are_wide_and_run_ahead(compiled: dict[str, dict[str, object]]) -> None:
    for capability in (87, 90):
        kernel = compiled[f"{capability} int8_conv_3x3_128_128"]
        assert kernel["copies"] == ["10"]  # bytes, hexadecimal
    frame = compiled["87 int8_conv_3x3_16_64_unpack4"]
    assert frame["copies"] == ["10", "4"]  # of the weights, and of four pixels side by side

"""Our own int8 engine equals its definition and ONNX Runtime, on any processor and any size."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_layer import ConvShape, pack, unpack
from edge_codec.kernels.reference.int8_conv import int8_conv
from edge_codec.manifest import load_manifest
from edge_codec.runtime import native_backend
from edge_codec.runtime.integer_chain import Plan, PlannedLayer, read_plan
from edge_codec.runtime.native import _int8
from edge_codec.runtime.native_backend import NativeEngine, levels
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.self_check import check_integers
from edge_codec.spec import ModelId

ENCODER = load_manifest(ModelId.VQVAE).read("encoder.onnx")
DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")
CODES = 2048


def frames(rng: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    """Frames of codes: noise, and pixels of both extremes."""
    made = rng.integers(0, 256, shape)
    return np.where(rng.random(shape) < 0.3, made // 128 * 255, made).astype(np.uint8)


def tokens(rng: np.random.Generator, *shape: int) -> NDArray[np.int32]:
    return rng.integers(0, CODES, shape).astype(np.int32)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("level", levels())
def test_networks_of_the_zoo_equal_onnx_runtime(level: str, threads: int) -> None:
    rng = np.random.default_rng(1)
    for model, make, side in ((ENCODER, frames, 8), (DECODER, tokens, 1)):
        engine, reference = NativeEngine(model, threads, level), OrtEngine(model, 1)
        for n, h, w in ((1, 1, 1), (2, 7, 5), (3, 1, 13), (1, 11, 2), (1, 12, 16), (2, 7, 5)):
            shape = (n, h * side, w * side)
            tensor = make(rng, *((n, 1, *shape[1:]) if side > 1 else shape))
            expected, found = reference.run(tensor), engine.run(tensor)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert np.array_equal(found, expected), (n, h, w)


def test_large_frames_equal_onnx_runtime() -> None:
    rng = np.random.default_rng(2)
    for h, w in ((32, 32), (64, 64), (40, 26)):
        grid, frame = tokens(rng, 1, h, w), frames(rng, 1, 1, 8 * h, 8 * w)
        assert np.array_equal(NativeEngine(DECODER, 2).run(grid), OrtEngine(DECODER, 2).run(grid))
        assert np.array_equal(NativeEngine(ENCODER, 2).run(frame), OrtEngine(ENCODER, 2).run(frame))


@st.composite
def convolutions(draw: st.DrawFn) -> list[ConvShape]:
    """Chains of layers that fit each other, of all modes that the engine has."""
    unpack_side = draw(st.sampled_from([2, 4, 6]))
    inputs, chain = unpack_side**2, []
    for number in range(draw(st.integers(1, 3))):
        spread = draw(st.sampled_from([1, 1, 2, 4]))
        outputs = draw(st.integers(1, 24)) * 4 * spread**2
        shape = ConvShape(
            inputs,
            outputs,
            draw(st.sampled_from([1, 3, 5])),
            stride=draw(st.sampled_from([1, 1, 2, 3])),
            unpack=unpack_side if number == 0 else 1,
            spread=spread,
        )
        chain.append(shape)
        inputs = outputs // spread**2
    return [*chain[:-1], replace(chain[-1], signed_output=draw(st.booleans()))]


def plan_of(chain: list[ConvShape], rng: np.random.Generator, largest: int) -> Plan:
    layers = []
    for number, shape in enumerate(chain):
        window = (shape.outputs, shape.inputs, shape.kernel, shape.kernel)
        weight = rng.integers(-largest, largest + 1, window).astype(np.int8)
        bias = rng.integers(-9000, 9001, shape.outputs)
        places = int(math.log2(largest * math.sqrt(math.prod(window[1:])))) + 1
        shift = rng.integers(max(0, places - 2), places + 3, shape.outputs)
        shift[rng.random(shape.outputs) < 0.1] = 0
        shift[rng.random(shape.outputs) < 0.1] = 26
        layers.append(PlannedLayer(f"layer_{number}", pack(weight, bias, shift, shape)))
    return Plan(tuple(layers), None, planes=False)


def by_definition(plan: Plan, x: NDArray[np.uint8]) -> NDArray[np.generic]:
    x = np.moveaxis(x, 1, -1)
    for layer in plan.layers:
        x = int8_conv(x, *unpack(layer.conv), layer.conv.shape)
    return x


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    convolutions(),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 27)),
    st.integers(1, 3),
    st.sampled_from([3, 63, 64, 127]),
)
def test_any_layers_equal_their_definition(
    chain: list[ConvShape], seed: int, size: tuple[int, int, int], threads: int, largest: int
) -> None:
    rng = np.random.default_rng(seed)
    plan = plan_of(chain, rng, largest)
    n, height, width = size
    frame = frames(rng, n, 1, height * chain[0].unpack, width * chain[0].unpack)
    expected = by_definition(plan, frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_backend, "read_plan", lambda _: plan)
        for level in levels():
            found = NativeEngine(b"", threads, level).run(frame)
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected), level


def test_halves_go_to_the_even_neighbor() -> None:
    """Sums -6..9 divided by 4, with a weight of 1 on one input and a bias."""
    chain = [ConvShape(4, 16, 1, unpack=2, signed_output=True)]
    weight = np.zeros((16, 4, 1, 1), np.int8)
    bias, shift = np.arange(-6, 10), np.full(16, 2)
    plan = Plan((PlannedLayer("one", pack(weight, bias, shift, chain[0])),), None, planes=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_backend, "read_plan", lambda _: plan)
        for level in levels():
            found = NativeEngine(b"", 1, level).run(np.zeros((1, 1, 2, 2), np.uint8))
            assert found.ravel().tolist() == np.rint(bias / 4).astype(int).tolist()


def test_threads_share_an_engine() -> None:
    rng = np.random.default_rng(3)
    engine = NativeEngine(DECODER, 2)
    grids = [tokens(rng, 1 + i % 2, 3 + i % 4, 5) for i in range(6)]
    expected = [OrtEngine(DECODER, 1).run(grid) for grid in grids]
    wrong: list[int] = []

    def work(first: int) -> None:
        for turn in range(24):
            i = (first + turn) % len(grids)
            if not np.array_equal(engine.run(grids[i]), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_no_helpers_and_works() -> None:
    grid = tokens(np.random.default_rng(4), 1, 4, 4)
    engine = NativeEngine(DECODER, 3)
    expected = engine.run(grid)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(engine.run(grid), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(engine.run(grid), expected)


def test_a_frame_does_not_see_the_one_before() -> None:
    """Memory is used again: sizes take turns, and nothing of a bright frame may stay."""
    rng = np.random.default_rng(5)
    engine = NativeEngine(ENCODER, 2)
    reference = OrtEngine(ENCODER, 1)
    for size in ((16, 24), (40, 8), (16, 24), (8, 8), (64, 64), (72, 16), (8, 40), (16, 24)):
        for frame in (np.full((1, 1, *size), 255, np.uint8), frames(rng, 1, 1, *size)):
            assert np.array_equal(engine.run(frame), reference.run(frame))


@pytest.mark.parametrize(
    ("model", "tensor", "message"),
    [
        (DECODER, np.zeros((1, 2, 2), np.int64), "int32 tokens"),
        (DECODER, np.zeros((1, 2), np.int32), "int32 tokens"),
        (DECODER, np.zeros((1, 0, 2), np.int32), "int32 tokens"),
        (DECODER, np.full((1, 2, 2), CODES, np.int32), r"tokens 2048..2048 .* rows 0..2047"),
        (DECODER, np.full((1, 2, 2), -1, np.int32), "tokens -1..-1"),
        (ENCODER, np.zeros((1, 1, 8, 8), np.int8), "uint8 frames"),
        (ENCODER, np.zeros((8, 8), np.uint8), "uint8 frames"),
        (ENCODER, np.zeros((1, 1, 8, 6), np.uint8), "blocks of 4"),
        (ENCODER, np.zeros((1, 2, 8, 8), np.uint8), "blocks of 4"),
        (ENCODER, np.broadcast_to(np.uint8(0), (1, 1, 1 << 17, 1 << 17)), "at most"),
    ],
)
def test_other_inputs_are_refused(model: bytes, tensor: NDArray[np.generic], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        NativeEngine(model, 1).run(tensor)


def test_other_layers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine_of(shape: ConvShape, shift: int = 4, planes: bool = False) -> None:
        weight = np.ones((shape.outputs, shape.inputs, 1, 1), np.int8)
        conv = pack(weight, np.zeros(shape.outputs, int), np.full(shape.outputs, shift), shape)
        plan = Plan((PlannedLayer("odd", conv),), None, planes)
        monkeypatch.setattr(native_backend, "read_plan", lambda _: plan)
        NativeEngine(b"", 1)

    engine_of(ConvShape(4, 5, 1, unpack=2))
    for shape in (ConvShape(9, 4, 1, unpack=3), ConvShape(4, 4, 1, unpack=2, signed_input=True)):
        with pytest.raises(EngineError, match=r"layer 'odd' .*use another backend"):
            engine_of(shape)
    with pytest.raises(EngineError, match=r"layer 'odd' .*multiplies its sums"):
        engine_of(ConvShape(4, 4, 1, unpack=2), shift=-1)
    with pytest.raises(EngineError, match="one plane"):
        engine_of(ConvShape(4, 8, 1, unpack=2, spread=2), planes=True)
    with pytest.raises(EngineError, match="processor has no 'sse2'"):
        NativeEngine(ENCODER, 1, "sse2")


SIZES = (16, 8, 1, 1, 1, False)
WEIGHTS, NUMBERS = bytes(16 * 8), bytes(4 * 8)


@pytest.mark.parametrize(
    "layer",
    [
        ((15, 8, 1, 1, 1, False), WEIGHTS, NUMBERS, NUMBERS),
        ((16, 8, 2, 1, 1, False), WEIGHTS, NUMBERS, NUMBERS),
        ((16, 8, 1, 0, 1, False), WEIGHTS, NUMBERS, NUMBERS),
        ((16, 8, 1, 1, 3, False), WEIGHTS, NUMBERS, NUMBERS),
        ((16, 1 << 30, 1, 1, 1, False), WEIGHTS, NUMBERS, NUMBERS),
        (SIZES, WEIGHTS[1:], NUMBERS, NUMBERS),
        (SIZES, WEIGHTS, NUMBERS[1:], NUMBERS),
        (SIZES, WEIGHTS, NUMBERS, b"\x1b" + NUMBERS[1:]),
        (SIZES, WEIGHTS, NUMBERS, b"\xff" * 32),
    ],
)
def test_c_refuses_what_does_not_fit(layer: tuple[object, ...]) -> None:
    good = (SIZES, WEIGHTS, NUMBERS, NUMBERS)
    with pytest.raises(ValueError, match="no such sizes"):
        _int8.load("plain", 4, None, (layer,))
    with pytest.raises(ValueError, match="other inputs"):
        _int8.load("plain", 4, None, (good, good))
    for unpack_side, table in ((3, None), (-4, None), (4, b""), (4, bytes(17))):
        with pytest.raises(ValueError, match=r"no pixels|without rows"):
            _int8.load("plain", unpack_side, table, (good,))
    network = _int8.load("plain", 4, None, (good,))
    result = bytearray(8)
    assert _int8.run(network, bytes(16), 1, 1, 1, result, 1)
    for source, images, height, width in (
        (bytes(15), 1, 1, 1),
        (bytes(16), 2, 1, 1),
        (bytes(16), 1, 1, 2),
        (bytes(16), 0, 1, 1),
        (bytes(16), 1, -1, -1),
        (bytes(16), 1, 1 << 17, 1),
        (bytes(16), 1 << 62, 1, 1),
    ):
        with pytest.raises(ValueError, match=r"another size|images of"):
            _int8.run(network, source, images, height, width, result, 1)
    with pytest.raises(ValueError, match="a result of another size"):
        _int8.run(network, bytes(16), 1, 1, 1, bytearray(7), 1)


def test_a_wrong_plan_is_found_when_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_plan(DECODER)
    conv = plan.layers[2].conv
    shift = conv.shift.copy()
    shift[5] += 1
    wrong = replace(plan.layers[2], conv=replace(conv, shift=shift))
    layers = (*plan.layers[:2], wrong, *plan.layers[3:])
    monkeypatch.setattr(native_backend, "read_plan", lambda _: replace(plan, layers=layers))
    with pytest.raises(EngineError, match="other integers than the CPU"):
        check_integers(NativeEngine(DECODER, 1), DECODER)

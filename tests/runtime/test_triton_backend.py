"""The zoo's networks through our own GPU backend, on Triton's interpreter, against the others."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import gpu_samples  # noqa: E402

from edge_codec.bench.kernels.interpreter_device import InterpreterDevice, compile_nothing  # noqa: E402
from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export.gpu_engine import build_engine  # noqa: E402
from edge_codec.manifest import load_manifest  # noqa: E402
from edge_codec.runtime import triton_backend  # noqa: E402
from edge_codec.runtime.gpu_engine import GpuEngine, read_engine  # noqa: E402
from edge_codec.runtime.integer_reference import IntegerReference  # noqa: E402
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402
from edge_codec.runtime.triton_backend import TritonEngine  # noqa: E402
from edge_codec.spec import ModelId  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def engine_of(model: bytes, capability: int = 90) -> GpuEngine:
    return read_engine(build_engine(model, capability, compile_nothing))


@pytest.mark.parametrize("network", ["encoder.onnx", "decoder.onnx"])
def test_networks_of_the_zoo_are_exact(network: str) -> None:
    model = load_manifest(ModelId.VQVAE).read(network)
    rng = np.random.default_rng(4)
    if network == "encoder.onnx":
        tensor = rng.integers(0, 256, (2, 1, 24, 40)).astype(np.uint8)
    else:
        tensor = rng.integers(0, 2048, (2, 3, 5)).astype(np.int32)
    expected = IntegerReference(model).run(tensor)
    found = TritonEngine(engine_of(model), InterpreterDevice()).run(tensor)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert int((found != expected).sum()) == 0
    assert int((found != OrtEngine(model, 1).run(tensor)).sum()) == 0


@pytest.fixture(scope="module")
def decoder() -> GpuEngine:
    return engine_of(gpu_samples.decoder())


@pytest.fixture(scope="module")
def encoder() -> GpuEngine:
    return engine_of(gpu_samples.encoder())


def tokens(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, gpu_samples.TOKENS, shape).astype(np.int32)


def test_frames_of_one_shape_allocate_once(decoder: GpuEngine) -> None:
    device = InterpreterDevice()
    engine = TritonEngine(decoder, device)
    network = IntegerReference(gpu_samples.decoder())
    first = engine.run(tokens(1, 2, 3))
    kept, allocations = first.copy(), device.allocations
    second = engine.run(tokens(1, 2, 3, seed=1))
    assert device.allocations == allocations
    assert np.array_equal(first, kept)  # a result is the caller's
    assert np.array_equal(second, network.run(tokens(1, 2, 3, seed=1)))
    engine.run(tokens(2, 1, 1))
    assert device.allocations > allocations
    assert np.array_equal(engine.run(tokens(1, 2, 3)), kept)  # shapes come back


def test_few_shapes_are_kept(decoder: GpuEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_backend, "MAX_SHAPES", 2)
    device = InterpreterDevice()
    engine = TritonEngine(decoder, device)
    for width in (1, 2, 1, 3):  # 3 takes the place of 2, which was used before 1
        engine.run(tokens(1, 1, width))
    allocations = device.allocations
    engine.run(tokens(1, 1, 1))
    assert device.allocations == allocations
    engine.run(tokens(1, 1, 2))
    assert device.allocations > allocations


def test_any_memory_layout_is_taken(encoder: GpuEngine) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (1, 1, 8, 12)).astype(np.uint8)
    engine = TritonEngine(encoder, InterpreterDevice())
    turned = np.asfortranarray(frame)
    assert np.array_equal(engine.run(turned), engine.run(frame))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.zeros((1, 2, 2), np.int64), "takes .* int32"),
        (np.zeros((2, 2), np.int32), "takes"),
        (np.zeros((1, 1, 8, 8), np.uint8), "takes"),
        (np.zeros((1, 0, 2), np.int32), "nothing is in it"),
        (np.full((1, 2, 2), gpu_samples.TOKENS, np.int32), "tokens are 24..24, .* 0..23"),
        (np.full((1, 2, 2), -1, np.int32), "tokens are -1..-1"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(
    tensor: np.ndarray, message: str, decoder: GpuEngine
) -> None:
    device = InterpreterDevice()
    engine = TritonEngine(decoder, device)
    allocations = device.allocations
    with pytest.raises(EngineError, match=message):
        engine.run(tensor)
    assert device.allocations == allocations


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 1, 8, 8), np.int8, "takes .* uint8"),
        ((1, 2, 8, 8), np.uint8, "takes"),
        ((8, 8), np.uint8, "takes"),
        ((1, 1, 8, 10), np.uint8, "does not form blocks of 4"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    shape: tuple[int, ...], dtype: type, message: str, encoder: GpuEngine
) -> None:
    engine = TritonEngine(encoder, InterpreterDevice())
    with pytest.raises(EngineError, match=message):
        engine.run(np.zeros(shape, dtype))


def test_too_large_a_frame_is_refused_before_memory_is_asked_for(decoder: GpuEngine) -> None:
    device = InterpreterDevice()
    engine = TritonEngine(decoder, device)
    allocations = device.allocations
    huge = np.broadcast_to(np.int32(0), (1, 1 << 13, 1 << 13))
    with pytest.raises(EngineError, match="at most"):
        engine.run(huge)
    assert device.allocations == allocations


@pytest.mark.parametrize(("built", "device"), [(90, 89), (80, 90), (89, 87), (120, 90)])
def test_another_architecture_is_refused(built: int, device: int, decoder: GpuEngine) -> None:
    with pytest.raises(EngineError, match=f"for sm_{built}, .* is sm_{device}; build it with"):
        TritonEngine(replace(decoder, capability=built), InterpreterDevice(device))


@pytest.mark.parametrize(("built", "device"), [(80, 80), (80, 89), (87, 89)])
def test_code_of_a_lower_minor_version_is_taken(
    built: int, device: int, decoder: GpuEngine
) -> None:
    engine = TritonEngine(replace(decoder, capability=built), InterpreterDevice(device))
    assert "int8" in engine.name


def test_a_kernel_that_writes_beside_its_buffer_is_seen(decoder: GpuEngine) -> None:
    """The guards of the test's own device work: the last layer is given channels too many."""
    last = decoder.layers[-1]
    constants = {**last.kernel.constants, "OUTPUTS": last.conv.shape.outputs + 16}
    layer = replace(last, kernel=replace(last.kernel, constants=constants))
    wrong = replace(decoder, layers=(*decoder.layers[:-1], layer))
    with pytest.raises(EngineError, match="wrote beside"):
        TritonEngine(wrong, InterpreterDevice()).run(tokens(1, 1, 2))


def test_backend_needs_neither_torch_nor_triton_nor_onnx() -> None:
    statement = (
        "import edge_codec.runtime.triton_backend, edge_codec.runtime.gpu_engine, sys, json;"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", statement], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = set(json.loads(result.stdout))
    assert "numpy" in found
    assert not found & {"torch", "triton", "onnx", "onnxruntime", "cuda", "scipy"}

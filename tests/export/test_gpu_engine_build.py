"""From ONNX to an engine file: what is read, what is refused, what is proven and compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")
onnx = pytest.importorskip("onnx")

import gpu_samples  # noqa: E402
from gpu_samples import add_constant, altered, nodes  # noqa: E402

from edge_codec.bench.kernels.interpreter_device import compile_nothing  # noqa: E402
from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export import gpu_engine  # noqa: E402
from edge_codec.export.gpu_engine import build_engine, execute  # noqa: E402
from edge_codec.kernels.int8_layer import ConvShape  # noqa: E402
from edge_codec.manifest import load_manifest  # noqa: E402
from edge_codec.runtime.gpu_engine import read_engine  # noqa: E402
from edge_codec.runtime.integer_chain import read_plan  # noqa: E402
from edge_codec.runtime.integer_reference import IntegerReference  # noqa: E402
from edge_codec.spec import ModelId  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def shapes(model: bytes) -> list[ConvShape]:
    return [layer.conv.shape for layer in read_plan(model).layers]


def test_encoder_of_the_zoo_is_read() -> None:
    model = load_manifest(ModelId.VQVAE).read("encoder.onnx")
    plan = read_plan(model)
    assert (plan.table, plan.planes) == (None, False)
    assert shapes(model) == [
        ConvShape(16, 64, 3, unpack=4),
        ConvShape(64, 128, 3, stride=2),
        ConvShape(128, 128, 3),
        ConvShape(128, 128, 3),
        ConvShape(128, 32, 1, signed_output=True),
    ]


def test_decoder_of_the_zoo_is_read() -> None:
    model = load_manifest(ModelId.VQVAE).read("decoder.onnx")
    plan = read_plan(model)
    assert plan.table is not None
    assert (plan.table.shape, plan.planes) == ((2048, 64), True)
    assert shapes(model) == [
        ConvShape(64, 128, 3),
        *[ConvShape(128, 128, 3)] * 3,
        ConvShape(128, 256, 1, spread=2),
        ConvShape(64, 64, 3),
        ConvShape(64, 16, 3, spread=4),
    ]


def test_engine_gives_the_networks_integers() -> None:
    rng = np.random.default_rng(5)
    frame = rng.integers(0, 256, (2, 1, 20, 36)).astype(np.uint8)  # odd at an eighth
    tokens = rng.integers(0, gpu_samples.TOKENS, (1, 4, 3)).astype(np.int32)
    for model, tensor in ((gpu_samples.encoder(), frame), (gpu_samples.decoder(), tokens)):
        data = build_engine(model, 89, compile_nothing)
        assert data == build_engine(model, 89, compile_nothing)
        engine = read_engine(data)
        expected = IntegerReference(model).run(tensor)
        found = execute(engine, tensor)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(found, expected)
        assert len(np.unique(expected)) > 50


def test_equal_layers_share_a_kernel() -> None:
    model = load_manifest(ModelId.VQVAE).read("decoder.onnx")
    engine = read_engine(build_engine(model, 90, compile_nothing))
    first, second = (layer.kernel for layer in engine.layers[1:3])
    assert first is second


def scale_of_no_power(graph):
    nodes(graph, "QuantizeLinear")[2].input[1] = add_constant(graph, np.float32(0.01))


def zero_point(graph):
    node = nodes(graph, "DequantizeLinear")[0]
    node.input[2] = add_constant(graph, np.uint8(3))


def weights_of_16_bits(graph):
    node = next(n for n in nodes(graph, "DequantizeLinear") if len(n.attribute))
    node.input[0] = add_constant(graph, np.zeros((8, 16, 3, 3), np.int16))


def weights_too_large(graph):
    node = next(n for n in nodes(graph, "DequantizeLinear") if len(n.attribute))
    node.input[0] = add_constant(graph, np.full((8, 4096, 3, 3), 127, np.int8))


def finer_bias(graph):
    conv = nodes(graph, "Conv")[0]
    conv.input[2] = add_constant(graph, np.full(8, 2.0**-40, np.float32))


def infinite_bias(graph):
    conv = nodes(graph, "Conv")[0]
    conv.input[2] = add_constant(graph, np.full(8, np.inf, np.float32))


def attribute(operator, name, value):
    def change(graph):
        node = nodes(graph, operator)[0]
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return change


def relu_into_int8(graph):
    relu, last = nodes(graph, "Relu")[-1], nodes(graph, "QuantizeLinear")[-1]
    conv = nodes(graph, "Conv")[-1]
    again = onnx.helper.make_node("Relu", [conv.output[0]], ["again"], name="relu_again")
    last.input[0] = "again"
    graph.node.extend([again])
    assert relu.name != again.name


def other_operator(graph):
    nodes(graph, "Relu")[0].op_type = "Sigmoid"


def other_domain(graph):
    nodes(graph, "Relu")[0].domain = "somewhere"


def nothing_reads(graph):
    nodes(graph, "Relu")[0].input[0] = nodes(graph, "Conv")[1].output[0]


def second_branch(graph):
    conv = nodes(graph, "Conv")[0]
    graph.node.extend([onnx.helper.make_node("Relu", [conv.output[0]], ["b"], name="branch")])


def left_over(graph):
    name = add_constant(graph, np.zeros(3, np.float32))
    graph.node.extend([onnx.helper.make_node("Relu", [name], ["b"], name="alone")])


def rescaled_move(graph):
    nodes(graph, "QuantizeLinear")[0].input[1] = add_constant(graph, np.float32(0.5))


def other_sizes(graph):
    last = [n for n in nodes(graph, "Reshape") if n.input[1].startswith("constant")][-1]
    last.input[1] = add_constant(graph, np.array([0], np.int64))


def second_input(graph):
    graph.input.append(graph.input[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scale_of_no_power, "scale that is not a power of two"),
        (zero_point, "zero point 0"),
        (weights_of_16_bits, "no int8 weights"),
        (weights_too_large, "make_conv_.*can reach"),
        (finer_bias, "make_conv_.*no multiple of the unit"),
        (infinite_bias, "no multiple of the unit"),
        (attribute("Conv", "group", 2), "make_conv_.*'group': 2"),
        (attribute("Conv", "dilations", [2, 2]), "'dilations': \\[2, 2\\]"),
        (attribute("Conv", "pads", [0, 0, 0, 0]), "pads a square window evenly"),
        (attribute("Conv", "strides", [1, 2]), "pads a square window evenly"),
        (attribute("Transpose", "perm", [0, 2, 1, 3, 4]), "make_transpose_.*expected Transpose"),
        (relu_into_int8, "'relu_again' .*followed by int8"),
        (other_operator, "make_relu_.*\\(Sigmoid\\)"),
        (other_domain, "expected Relu"),
        (nothing_reads, "is read by no node"),
        (second_branch, "is read by .*branch; expected one node"),
        (left_over, "'alone' .*is no part of the chain"),
        (rescaled_move, "rescales what was only moved"),
        (other_sizes, "other sizes than those of blocks"),
        (second_input, "2 inputs"),
    ],
)
def test_other_networks_are_refused(change, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read_plan(altered(gpu_samples.encoder(), change))


def test_a_table_of_floats_is_refused() -> None:
    def change(graph):
        nodes(graph, "Gather")[0].input[0] = add_constant(graph, np.zeros((9, 32), np.float32))

    with pytest.raises(EngineError, match="gathers no rows of 8-bit integers"):
        read_plan(altered(gpu_samples.decoder(), change))


@pytest.mark.parametrize("data", [b"", b"not a model", gpu_samples.encoder()[:2000]])
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        build_engine(data, 90, compile_nothing)


@pytest.mark.parametrize("what", ["weights", "bias", "shift", "table"])
def test_an_engine_that_differs_is_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = gpu_samples.decoder()
    plan = read_plan(model)
    if what == "table":
        assert plan.table is not None
        wrong = replace(plan, table=plan.table ^ np.uint8(64))
    else:
        layer = plan.layers[1]
        numbers = getattr(layer.conv, what).copy()
        numbers.flat[3] += 40 if what == "weights" else 2 if what == "shift" else 1 << 14
        conv = replace(layer.conv, **{what: numbers})
        wrong = replace(plan, layers=(plan.layers[0], replace(layer, conv=conv), *plan.layers[2:]))
    monkeypatch.setattr(gpu_engine, "read_plan", lambda _: wrong)
    with pytest.raises(EngineError, match="would not give the network's integers"):
        build_engine(model, 90, compile_nothing)


def test_sizes_that_only_look_right_are_refused() -> None:
    """The second Reshape of the decoder's shuffle computes its sizes: they are not looked at."""

    def change(graph):
        sizes = next(n for n in nodes(graph, "Mul") if n.input[0].startswith("shape"))
        sizes.input[1] = add_constant(graph, np.array([1, 4, 1], np.int64))

    model = altered(gpu_samples.decoder(), change)
    assert shapes(model) == shapes(gpu_samples.decoder())
    with pytest.raises(EngineError, match="would not give the network's integers"):
        build_engine(model, 90, compile_nothing)


BUILD = """
import hashlib, json, sys
from pathlib import Path
from edge_codec.errors import EngineError
from edge_codec.export.gpu_engine import build_engine
from edge_codec.runtime.gpu_engine import read_engine

model = Path(sys.argv[1]).read_bytes()
data = build_engine(model, 87)
engine = read_engine(data)
try:
    build_engine(model, 75)
    refused = ""
except EngineError as error:
    refused = str(error)
print(json.dumps({
    "sha256": engine.onnx_sha256,
    "expected": hashlib.sha256(model).hexdigest(),
    "capability": engine.capability,
    "compiler": engine.compiler,
    "elf": [layer.kernel.cubin[:4].hex() for layer in engine.layers],
    "paths": sys.argv[2].encode() in data or str(Path.home()).encode() in data,
    "refused": refused,
}))
"""


def test_engines_are_compiled_for_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(gpu_samples.decoder())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    del environment["TRITON_INTERPRET"]
    command = [sys.executable, "-c", BUILD, str(path), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["sha256"] == found["expected"]
    assert (found["capability"], found["paths"]) == (87, False)
    assert found["compiler"].startswith("triton 3.")
    assert found["elf"] == ["7f454c46"] * 3
    assert "no target sm_75" in found["refused"]

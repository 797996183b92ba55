"""Casting to float16: near the float32 network, types strict, and what does not fit stays."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from tiny_networks import float_onnx, integer_onnx, random_input  # noqa: E402

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export.custom_ops import add_functions  # noqa: E402
from edge_codec.export.fp16 import to_float16  # noqa: E402
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
RTX = importlib.util.find_spec("tensorrt_rtx") is not None


def run(model: onnx.ModelProto, tensor: np.ndarray, optimize: bool = False) -> np.ndarray:
    return OrtEngine(model.SerializeToString(), 1, optimize).run(tensor)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, as strict inference finds it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
    found |= {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output)}
    return found | {t.name: t.data_type for t in inferred.initializer}


def node_types(model: onnx.ModelProto, node: onnx.NodeProto) -> set[int]:
    """Element types of the tensors at a node, without the casts' own."""
    known = types(model)
    return {known[name] for name in (*node.input, *node.output) if name}


def chain(*constants: float, names: str = "abc") -> onnx.ModelProto:
    """y = x * constants[0] * constants[1] ..., one node for each, named a, b, c."""
    nodes, value = [], "x"
    tensors = []
    for name, constant in zip(names, constants, strict=False):
        tensors.append(numpy_helper.from_array(np.float32(constant), f"k_{name}"))
        nodes.append(helper.make_node("Mul", [value, f"k_{name}"], [f"y_{name}"], name=name))
        value = f"y_{name}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_value_info(value, FLOAT, ["n"])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_latents_stay_within_the_rounding_of_float16() -> None:
    model, frame = float_onnx("encoder"), random_input("encoder", (2, 3, 5))
    exact = run(model, frame)
    found = run(to_float16(model), frame)
    assert found.dtype == np.float32
    # Each of four layers rounds weights, inputs and output to 11 bits: 2**-11 of the largest each.
    assert np.abs(found - exact).max() < 12 * 2**-11 * np.abs(exact).max()
    assert np.abs(found - exact).max() > 0


def test_most_tokens_and_all_frames_stay() -> None:
    frame = random_input("tokens", (3, 4, 8))
    tokens = run(float_onnx("tokens"), frame)
    # Where two codes are nearly as near, rounding chooses.
    assert np.mean(run(to_float16(float_onnx("tokens")), frame) != tokens) < 0.1
    frames = [run(m, tokens) for m in (float_onnx("decoder"), to_float16(float_onnx("decoder")))]
    assert np.abs(frames[0].astype(int) - frames[1]).max() <= 1


@pytest.mark.parametrize("name", ["encoder", "tokens", "decoder"])
def test_nothing_is_float32_but_the_ends_and_what_asks_for_it(name: str) -> None:
    model = to_float16(float_onnx(name))
    known = types(model)
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    assert {n for n, kind in known.items() if kind == FLOAT} - ends - {"norms"} == set()
    original = {v.name: v.type.tensor_type.elem_type for v in float_onnx(name).graph.output}
    assert {v.name: v.type.tensor_type.elem_type for v in model.graph.output} == original
    assert not any(node.name.endswith("_cast_to_fp32_node") for node in model.graph.node)


def test_the_lookup_keeps_its_norms_and_its_body() -> None:
    before, after = float_onnx("tokens"), to_float16(float_onnx("tokens"))
    node = next(node for node in after.graph.node if node.op_type == "CodebookLookup")
    known = types(after)
    assert [known[name] for name in node.input] == [FLOAT16, FLOAT16, FLOAT]
    assert after.functions == before.functions


def test_the_model_given_is_left_as_it_is() -> None:
    before = float_onnx("tokens").SerializeToString(deterministic=True)
    to_float16(float_onnx("tokens"))
    assert float_onnx("tokens").SerializeToString(deterministic=True) == before


def test_named_nodes_stay_in_float32_and_do_not_round_between_them() -> None:
    x = np.array([1.0 + 2**-12, 3.0], np.float32)
    model = to_float16(chain(3.0, 1.0 / 3.0, 2.0), keep=("a", "b"))
    a, b, c = (next(n for n in model.graph.node if n.name == name) for name in "abc")
    assert node_types(model, a) == node_types(model, b) == {FLOAT}
    assert b.input[0] == a.output[0]
    assert node_types(model, c) == {FLOAT16}
    # The input is cast to float16 first, as is what leaves b; between a and b nothing is.
    rounded = x.astype(np.float16).astype(np.float32)
    expected = (rounded * np.float32(3.0) * np.float32(1 / 3)).astype(np.float16) * np.float16(2)
    assert np.array_equal(run(model, x), expected.astype(np.float32))


def test_two_kept_readers_share_one_cast() -> None:
    model = chain(2.0, 3.0)
    model.graph.node.append(helper.make_node("Mul", ["y_a", "y_b"], ["z"], name="c"))
    model.graph.output[0].name = "z"
    x = np.array([0.5, 7.0], np.float32)
    assert np.array_equal(run(to_float16(model, keep=("b", "c")), x), 12.0 * x * x)


@pytest.mark.parametrize("constant", [1e5, -7e4, 1e-6, -3e-8])
def test_nodes_whose_constant_does_not_fit_stay_in_float32(constant: float) -> None:
    model = to_float16(chain(2.0, constant, 0.5))
    kinds = {n.name: node_types(model, n) for n in model.graph.node if n.name in "abc"}
    assert kinds == {"a": {FLOAT16}, "b": {FLOAT}, "c": {FLOAT16}}


@pytest.mark.parametrize("constant", [65504.0, 0.0, 2.0**-14, np.inf])
def test_constants_that_fit_are_cast(constant: float) -> None:
    model = to_float16(chain(2.0, constant))
    assert node_types(model, next(n for n in model.graph.node if n.name == "b")) == {FLOAT16}


def test_a_constant_node_that_does_not_fit_keeps_its_reader() -> None:
    model = chain(2.0)
    epsilon = helper.make_tensor("epsilon", FLOAT, [], [1e-12])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["e"], name="e", value=epsilon))
    model.graph.node.append(helper.make_node("Add", ["y_a", "e"], ["z"], name="b"))
    model.graph.output[0].name = "z"
    found = to_float16(model)
    assert node_types(found, next(n for n in found.graph.node if n.name == "b")) == {FLOAT}
    assert run(found, np.zeros(1, np.float32))[0] == np.float32(np.float16(1e-12))
    constant = next(n for n in found.graph.node if n.name == "e").attribute[0].t
    assert numpy_helper.to_array(constant) == np.float32(1e-12)


def test_what_cannot_be_cast_is_refused() -> None:
    with pytest.raises(EngineError, match="no node is named nobody"):
        to_float16(chain(2.0), keep=("nobody",))
    with pytest.raises(EngineError, match="quantized"):
        to_float16(integer_onnx("encoder"))
    with pytest.raises(EngineError, match="same name"):
        to_float16(chain(2.0, 3.0, names="aa"))


def test_computed_norms_are_cast_back_for_the_lookup() -> None:
    codes = np.eye(4, 8, dtype=np.float32)
    nodes = [
        helper.make_node("Mul", ["half", "squares"], ["norms"], name="scale"),
        helper.make_node(
            "CodebookLookup", ["x", "codes", "norms"], ["y"], name="look", domain="edge_codec"
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n"])],
        [
            numpy_helper.from_array(codes, "codes"),
            numpy_helper.from_array(np.float32(0.5), "half"),
            numpy_helper.from_array(np.ones(4, np.float32), "squares"),
        ],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("edge_codec", 1)]
    model = add_functions(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    found = run(to_float16(model), 3 * codes[[2, 0, 3]])
    assert found.tolist() == [2, 0, 3]

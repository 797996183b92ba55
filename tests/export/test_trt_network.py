"""The rewritten networks give the integers of the original ones, or are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_codec.calibration.power_of_two import IntegerConv
from edge_codec.errors import EngineError
from edge_codec.export.qdq import INT8, UINT8, GraphBuilder
from edge_codec.export.trt_network import tensorrt_network
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId

ZOO = {
    name: onnx.load_model_from_string(load_manifest(ModelId.VQVAE).read(f"{name}.onnx"))
    for name in ("encoder", "decoder")
}


def run(proto, tensor, optimize=False):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: tensor})[0]


def inputs(name, seed):
    rng = np.random.default_rng(seed)
    if name == "decoder":
        return rng.integers(0, 2048, (2, 5, 7)).astype(np.int32)
    frame = rng.integers(0, 256, (2, 1, 40, 56)).astype(np.uint8)
    frame[:, :, :16] = rng.choice([0, 255], (2, 1, 16, 56))
    return frame


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_keeps_its_integers(name, optimize):
    rewritten = tensorrt_network(ZOO[name])
    tensor = inputs(name, 0)
    expected = run(ZOO[name], tensor)
    found = run(rewritten, tensor, optimize)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 50


@pytest.mark.parametrize("name", ZOO)
def test_nothing_is_uint8_but_what_goes_in_and_out(name):
    graph = tensorrt_network(ZOO[name]).graph
    assert all(constant.data_type != TensorProto.UINT8 for constant in graph.initializer)
    casts = [
        node.op_type
        for node in graph.node
        for end in (*graph.input, *graph.output)
        if end.type.tensor_type.elem_type == TensorProto.UINT8
        and end.name in (*node.input, *node.output)
    ]
    assert set(casts) == {"Cast"}
    assert [value.name for value in graph.input] == [v.name for v in ZOO[name].graph.input]
    assert [value.name for value in graph.output] == [v.name for v in ZOO[name].graph.output]


@pytest.mark.parametrize("name", ZOO)
def test_nothing_is_quantized_more_often_than_before(name):
    counts = [
        sum(node.op_type == "QuantizeLinear" for node in proto.graph.node)
        for proto in (ZOO[name], tensorrt_network(ZOO[name]))
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ZOO)
def test_the_original_is_left_alone(name):
    before = ZOO[name].SerializeToString(deterministic=True)
    tensorrt_network(ZOO[name])
    assert ZOO[name].SerializeToString(deterministic=True) == before


def layer(rng, inputs, outputs, kernel, stride, exponent, dtype=np.uint8, *, weight=63):
    return IntegerConv(
        name="conv",
        weight=rng.integers(-weight, weight + 1, (outputs, inputs, kernel, kernel)).astype(np.int8),
        weight_exponents=rng.integers(-9, -4, outputs),
        bias=rng.integers(-9999, 9999, outputs),
        input_exponent=exponent,
        output_exponent=exponent + 3,
        output_dtype=np.dtype(dtype),
        stride=stride,
    )


def network(layers):
    """Return convolutions of a uint8 input in a row."""
    graph = GraphBuilder()
    x = graph.chain("frame", layers)
    graph.node("Transpose", x, perm=[0, 2, 3, 1], output="codes")
    kind = INT8 if layers[-1].output_dtype == np.int8 else UINT8
    return graph.model(
        "test",
        ("frame", UINT8, ["n", layers[0].weight.shape[1], "h", "w"]),
        ("codes", kind, ["n", "p", "q", len(layers[-1].weight)]),
    )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    kinds=st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2])), min_size=1),
    last=st.sampled_from([np.uint8, np.int8]),
)
def test_any_chain_of_convolutions(seed, shape, kinds, last):
    rng = np.random.default_rng(seed)
    channels, layers = shape[0], []
    for place, (kernel, stride) in enumerate(kinds[:4]):
        dtype = last if place == len(kinds[:4]) - 1 else np.uint8
        layers.append(layer(rng, channels, 4, kernel, stride, 3 * place - 6, dtype))
        channels = 4
    proto = network(layers)
    # Random networks saturate soon; the extremes are what the offset could get wrong.
    tensor = rng.choice([0, 1, 127, 128, 254, 255], (2, *shape)).astype(np.uint8)
    np.testing.assert_array_equal(run(tensorrt_network(proto), tensor), run(proto, tensor))


def test_uneven_padding_and_an_input_read_twice():
    rng = np.random.default_rng(0)
    graph = GraphBuilder()
    x = graph.dequantize("frame", -4, np.dtype(np.uint8))
    weight = graph.node(
        "DequantizeLinear",
        graph.constant(rng.integers(-63, 64, (4, 2, 3, 3)).astype(np.int8)),
        graph.constant(np.full(4, 2.0**-6, np.float32)),
        graph.constant(np.zeros(4, np.int8)),
        axis=0,
    )
    parts = []
    for pads in ([0, 2, 1, 0], [1, 1, 0, 1]):
        y = graph.node("Conv", x, weight, pads=pads)
        parts.append(graph.quantize(y, -3, np.dtype(np.int8)))
    graph.node("Concat", *parts, axis=1, output="codes")
    proto = graph.model("test", ("frame", UINT8, [1, 2, 6, 7]), ("codes", INT8, [1, 8, "p", "q"]))
    tensor = rng.integers(0, 256, (1, 2, 6, 7)).astype(np.uint8)
    np.testing.assert_array_equal(run(tensorrt_network(proto), tensor), run(proto, tensor))


def test_other_networks_are_returned_as_they_are():
    graph = GraphBuilder()
    graph.node("Relu", "x", output="y")
    ends = ("x", TensorProto.FLOAT, [1]), ("y", TensorProto.FLOAT, [1])
    proto = graph.model("test", *ends)
    assert tensorrt_network(proto) is proto


def test_sums_beyond_float32_are_refused():
    rng = np.random.default_rng(0)
    wide = layer(rng, 600, 2, 5, 1, 0)
    wide.weight[...] = 63
    with pytest.raises(EngineError, match=r"sums can reach \d+, and float32 is exact below 16777"):
        tensorrt_network(network([wide]))


def with_constant(proto, old, new):
    """Return a copy in which every constant that equals `old` is `new`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for constant in copy.graph.initializer:
        values = numpy_helper.to_array(constant)
        if values.dtype == old.dtype and np.array_equal(values, old):
            constant.CopyFrom(numpy_helper.from_array(new, constant.name))
    return copy


def test_scales_that_are_no_powers_of_two_are_refused():
    proto = network([layer(np.random.default_rng(0), 1, 2, 3, 1, -5)])
    changed = with_constant(proto, np.float32(2.0**-5), np.float32(0.03))
    with pytest.raises(EngineError, match="not powers of two"):
        tensorrt_network(changed)


def test_zero_points_are_refused():
    proto = network([layer(np.random.default_rng(0), 1, 2, 3, 1, -5)])
    changed = with_constant(proto, np.uint8(0), np.uint8(3))
    with pytest.raises(EngineError, match="zero point 0"):
        tensorrt_network(changed)


def test_an_operator_without_a_rule_is_refused():
    graph = GraphBuilder()
    x = graph.dequantize("frame", 0, np.dtype(np.uint8))
    graph.node("Sigmoid", x, output="y")
    proto = graph.model(
        "test", ("frame", UINT8, [1, 1, 2, 2]), ("y", TensorProto.FLOAT, [1, 1, 2, 2])
    )
    with pytest.raises(EngineError, match="Sigmoid make_y: there is no rule"):
        tensorrt_network(proto)


def test_float_weights_are_refused():
    graph = GraphBuilder()
    x = graph.dequantize("frame", 0, np.dtype(np.uint8))
    y = graph.node("Conv", x, graph.constant(np.ones((1, 1, 1, 1), np.float32)))
    graph.node("QuantizeLinear", y, graph.constant(np.float32(1)), graph.constant(np.uint8(0)),
               output="codes")  # fmt: skip
    proto = graph.model("test", ("frame", UINT8, [1, 1, 2, 2]), ("codes", UINT8, [1, 1, 2, 2]))
    with pytest.raises(EngineError, match="weights are not quantized"):
        tensorrt_network(proto)


def test_automatic_padding_is_refused():
    proto = network([layer(np.random.default_rng(0), 1, 2, 3, 1, -5)])
    convolution = next(node for node in proto.graph.node if node.op_type == "Conv")
    kept = [a for a in convolution.attribute if a.name != "pads"]
    del convolution.attribute[:]
    convolution.attribute.extend([*kept, helper.make_attribute("auto_pad", "SAME_UPPER")])
    with pytest.raises(EngineError, match="pads automatically"):
        tensorrt_network(proto)


def as_nodes(proto):
    """Return a copy whose constants are nodes, as some exporters write them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    nodes = [
        helper.make_node(
            "Constant", [], [constant.name], f"constant {constant.name}", value=constant
        )
        for constant in copy.graph.initializer
    ]
    old = list(copy.graph.node)
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend([*nodes, *old])
    return copy


def test_constants_may_be_nodes():
    rng = np.random.default_rng(0)
    proto = as_nodes(network([layer(rng, 1, 4, 3, 1, -5), layer(rng, 4, 2, 3, 2, -2)]))
    tensor = rng.integers(0, 256, (1, 1, 9, 9)).astype(np.uint8)
    rewritten = tensorrt_network(proto)
    assert rewritten is not proto
    np.testing.assert_array_equal(run(rewritten, tensor), run(proto, tensor))


def test_a_zero_point_that_is_left_out_is_uint8():
    proto = network([layer(np.random.default_rng(0), 1, 2, 3, 1, -5)])
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            del node.input[2]
    tensor = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(run(tensorrt_network(proto), tensor), run(proto, tensor))


def test_uint8_weights_are_refused():
    """TensorRT would read them as int8."""
    weight = np.array([[0, 200]], np.uint8)
    graph = GraphBuilder()
    scale = graph.constant(np.float32(1))
    table = graph.node(
        "DequantizeLinear", graph.constant(weight), scale, graph.constant(np.uint8(0))
    )
    graph.node("Add", "x", table, output="y")
    proto = graph.model("test", ("x", TensorProto.FLOAT, [1, 2]), ("y", TensorProto.FLOAT, [1, 2]))
    with pytest.raises(EngineError, match="a uint8 constant is used"):
        tensorrt_network(proto)

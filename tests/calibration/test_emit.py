"""Emitted networks: exact integers, the same everywhere; Casts around fp16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from float_networks import (  # noqa: E402
    DECODED,
    FRAME,
    Builder,
    autoencoder,
    feeds,
    frames,
    random_weight,
)
from onnx import TensorProto, numpy_helper  # noqa: E402

from edge_codec.calibration.emit import emit  # noqa: E402
from edge_codec.calibration.network import Network  # noqa: E402
from edge_codec.calibration.pipeline import Settings, apply_table, calibrate  # noqa: E402
from edge_codec.calibration.plan import make_table  # noqa: E402
from edge_codec.calibration.power_of_two import EXACT_FLOAT32, WEIGHT_MAX  # noqa: E402
from edge_codec.calibration.prove import prove  # noqa: E402
from edge_codec.calibration.run import Runner, Score, observe  # noqa: E402
from edge_codec.calibration.table import Precision, read_table  # noqa: E402
from edge_codec.errors import CalibrationError  # noqa: E402
from edge_codec.runtime.integer_reference import IntegerReference  # noqa: E402
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402

HASHES = ("1" * 64, "0" * 64)
PLAIN = Settings(equalize=False, correct_bias=False)


def quantized(model: bytes, settings: Settings = PLAIN) -> bytes:
    return calibrate(model, HASHES[1], feeds(), settings).model


def random_frame(seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 1, 24, 16)).astype(np.uint8)


@pytest.mark.parametrize("settings", [PLAIN, Settings(equalize=True, correct_bias=True)])
def test_emitted_integers_are_those_of_the_reference_everywhere(settings: Settings) -> None:
    model = quantized(autoencoder(spread=30), settings)
    expected = IntegerReference(model).run(random_frame())
    assert expected.std() > 10
    for optimize in (False, True):
        found = OrtEngine(model, threads=1, optimize=optimize).run(random_frame())
        assert np.array_equal(found, expected)


def test_emitted_network_is_close_to_the_float_one() -> None:
    model = autoencoder()
    assert Score(model, feeds(seed=5))(quantized(model)) > 30


def test_inputs_and_outputs_stay_what_they_were() -> None:
    proto = onnx.load_model_from_string(quantized(autoencoder()))
    assert [i.name for i in proto.graph.input] == ["frame"]
    assert [i.name for i in proto.graph.output] == ["decoded"]
    assert proto.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_what_is_stored_is_as_tensorrt_and_old_cpus_want_it() -> None:
    graph = onnx.load_model_from_string(quantized(autoencoder())).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    producers = {node.output[0]: node for node in graph.node}
    assert len(convolutions) == 3
    for node in convolutions:
        weight = producers[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        assert constants[weight.input[0]].dtype == np.int8
        assert np.abs(constants[weight.input[0]].astype(int)).max() <= WEIGHT_MAX
        assert constants[node.input[2]].dtype == np.float32
        assert producers[node.input[0]].op_type == "DequantizeLinear"
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = constants[node.input[1]]
            assert np.array_equal(np.exp2(np.rint(np.log2(scale))), scale)


def test_moves_between_layers_keep_the_network_exact() -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 4, 1, 3), np.full(4, 0.1))
    x = builder.node("Transpose", x, perm=[0, 1, 3, 2])
    x = builder.conv(x, "b", np.abs(random_weight(rng, 1, 4, 3)), relu=False)
    builder.frame_codes(x)
    model = builder.model(FRAME, DECODED)
    found = quantized(model)
    assert prove(found).exact
    expected = IntegerReference(found).run(random_frame())
    assert np.array_equal(OrtEngine(found, 1).run(random_frame()), expected)
    assert Score(model, feeds())(found) > 30
    nodes = onnx.load_model_from_string(found).graph.node
    rounded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    made = {node.output[0]: node.op_type for node in nodes}
    # Where it is made, and once more where it is read behind the move.
    assert {made[name] for name in rounded} >= {"Relu", "Transpose"}


def test_a_float_output_is_the_exact_sum() -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 4, 1, 3))
    builder.node("Neg", builder.conv(x, "b", random_weight(rng, 3, 4, 1), relu=False), output="y")
    model = builder.model(FRAME, ("y", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    found = quantized(model)
    assert prove(found).exact
    plain = OrtEngine(found, 1, optimize=False).run(random_frame())
    assert len(np.unique(plain)) > 1_000  # more than 8 bits
    assert np.array_equal(OrtEngine(found, 1).run(random_frame()), plain)


def dense(operator: str) -> bytes:
    """Frame rows through two dense layers: MatMul and Add, or Gemm."""
    rng = np.random.default_rng(3)
    builder = Builder()
    x = builder.frame_values()
    x = builder.node("Reshape", x, builder.constant("rows", [-1, 16], np.int64))
    for name, (inputs, outputs) in {"a": (16, 32), "b": (32, 8)}.items():
        weight = rng.normal(0, 1 / np.sqrt(inputs), (inputs, outputs))
        bias = builder.constant(f"{name}.bias", rng.normal(0, 0.3, outputs))
        if operator == "MatMul":
            x = builder.node("MatMul", x, builder.constant(f"{name}.weight", weight))
            x = builder.node("Add", x, bias)
        else:
            weights = builder.constant(f"{name}.weight", weight.T)
            x = builder.node("Gemm", x, weights, bias, transB=1)
        if name == "a":
            x = builder.node("Relu", x)
    builder.node("Identity", x, output="y")
    return builder.model(FRAME, ("y", TensorProto.FLOAT, ["m", 8]))


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
@pytest.mark.parametrize("correct", [False, True])
def test_dense_layers_are_integer_layers_too(operator: str, correct: bool) -> None:
    model = dense(operator)
    assert [layer.name for layer in Network(model).layers] == ["a", "b"]
    found = quantized(model, Settings(equalize=correct, correct_bias=correct))
    assert prove(found).exact
    assert Score(model, feeds())(found) > 30


def test_a_vector_added_to_a_convolution_is_no_bias() -> None:
    rng = np.random.default_rng(4)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 16, 1, 3), relu=False)
    x = builder.node("Add", x, builder.constant("ramp", np.linspace(0, 1, 16)))
    builder.conv(builder.node("Relu", x), "b", random_weight(rng, 1, 16, 1), relu=False)
    builder.node("Identity", "conv_5", output="y")
    model = builder.model(FRAME, ("y", TensorProto.FLOAT, ["n", 1, "h", "w"]))
    assert all(layer.adder is None for layer in Network(model).layers)
    assert Score(model, feeds())(quantized(model, Settings(correct_bias=True))) > 30


def test_transposed_convolution_is_an_integer_layer() -> None:
    rng = np.random.default_rng(4)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 6, 1, 3), np.full(6, 0.2))
    weight = builder.constant("up.weight", rng.normal(0, 0.3, (6, 2, 2, 2)))
    bias = builder.constant("up.bias", [0.5, -0.5])
    builder.node("ConvTranspose", x, weight, bias, strides=[2, 2], kernel_shape=[2, 2], output="y")
    model = builder.model(FRAME, ("y", TensorProto.FLOAT, ["n", 2, "h2", "w2"]))
    found = quantized(model)
    assert prove(found).exact
    assert Score(model, feeds())(found) > 30


def test_a_table_of_constants_is_quantized_where_a_layer_reads_it() -> None:
    rng = np.random.default_rng(5)
    builder = Builder()
    x = builder.node("Gather", builder.constant("codes", rng.normal(0, 1, (32, 8))), "tokens")
    x = builder.node("Transpose", x, perm=[0, 3, 1, 2])
    x = builder.conv(x, "a", np.abs(random_weight(rng, 1, 8, 3)), np.array([0.5]))
    builder.frame_codes(x)
    source = ("tokens", TensorProto.INT32, ["n", "h", "w"])
    model = builder.model(source, ("decoded", TensorProto.UINT8, ["n", 1, "h", "w"]))
    tokens = [{"tokens": rng.integers(0, 32, (1, 6, 6)).astype(np.int32)} for _ in range(3)]
    result = calibrate(model, HASHES[1], tokens, PLAIN)
    assert result.table.tensors["codes"].dtype == "int8"
    assert result.proof.exact
    assert Score(model, tokens)(result.model) > 30


def test_wide_layers_get_coarser_weights_until_their_sums_are_proven() -> None:
    builder = Builder()
    x = builder.frame_values()
    x = builder.node("Reshape", x, builder.constant("rows", [-1, 2048], np.int64))
    weight = np.random.default_rng(6).choice([-1.0, 1.0], (2048, 4)) * 0.9
    builder.node("MatMul", x, builder.constant("wide.weight", weight), output="y")
    model = builder.model(FRAME, ("y", TensorProto.FLOAT, ["m", 4]))
    frame = [{"frame": np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64)).astype(np.uint8)}]
    result = calibrate(model, HASHES[1], frame, PLAIN)
    # 2048 products of 255 and 58 would be 30 million.
    assert result.table.layers["wide"].weight_exponents == (-5,) * 4
    bound = result.proof.layers["wide"].bound
    assert bound is not None
    assert bound < EXACT_FLOAT32


def precision_of(model: bytes, **precisions: Precision) -> bytes:
    network = Network(model)
    table = make_table(network, observe(network, feeds()), HASHES)
    for name, precision in precisions.items():
        layer = replace(table.layers[name], precision=precision)
        table = replace(table, layers=table.layers | {name: layer})
    return emit(network, table)


def test_half_layers_stand_between_casts() -> None:
    model = autoencoder()
    found = precision_of(model, b=Precision.FP16)
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(found)).graph
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    half = [node for node in graph.node if types.get(node.output[0]) == TensorProto.FLOAT16]
    assert sorted(node.op_type for node in half) == ["Cast", "Conv", "Relu"]
    proof = prove(found)
    assert not proof.exact
    assert "Cast" in proof.reason
    score = Score(model, feeds())
    assert score(found) > score(precision_of(model)) - 0.5


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.FP32])
def test_float_layers_read_what_was_not_rounded(precision: Precision) -> None:
    rng = np.random.default_rng(2)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 4, 1, 3))
    one = builder.conv(x, "b", random_weight(rng, 1, 4, 1), relu=False)
    other = builder.conv(x, "c", random_weight(rng, 1, 4, 1), relu=False)
    builder.frame_codes(builder.node("Add", one, other))
    nodes = onnx.load_model_from_string(
        precision_of(builder.model(FRAME, DECODED), c=precision)
    ).graph.node
    made = {node.output[0]: node for node in nodes}
    _, integer, floating = (node for node in nodes if node.op_type == "Conv")
    assert made[integer.input[0]].op_type == "DequantizeLinear"
    source = made[floating.input[0]]
    if precision is Precision.FP16:
        assert source.op_type == "Cast"
        source = made[source.input[0]]
    assert source.op_type == "Relu"


def test_an_output_clipped_below_its_type_stays_clipped() -> None:
    builder = Builder()
    weight = np.full((1, 1, 1, 1), 1.5)
    x = builder.conv(builder.frame_values(), "a", weight, relu=False)
    x = builder.node("Round", builder.node("Mul", x, builder.constant("unit", 2.0**7)))
    x = builder.node("Clip", x, builder.constant("low", 0.0), builder.constant("high", 200.0))
    builder.node("Cast", x, to=TensorProto.UINT8, output="decoded")
    found = quantized(builder.model(FRAME, DECODED))
    assert OrtEngine(found, 1).run(random_frame()).max() == 200
    assert prove(found).exact


def test_all_float_layers_give_the_float_network_back() -> None:
    model = autoencoder()
    everything = dict.fromkeys("abc", Precision.FP32)
    assert Score(model, feeds())(precision_of(model, **everything)) == np.inf
    half = dict.fromkeys("abc", Precision.FP16)
    assert Score(model, feeds())(precision_of(model, **half)) > 45


def attention() -> bytes:
    """One head over the rows of a frame."""
    rng = np.random.default_rng(8)
    builder = Builder()
    x = builder.node("Squeeze", builder.frame_values(), builder.constant("axis", [1], np.int64))
    parts = {}
    for name in ("query", "key", "value"):
        weight = builder.constant(f"{name}.weight", rng.normal(0, 0.5, (16, 8)))
        parts[name] = builder.node("MatMul", x, weight)
    keys = builder.node("Transpose", parts["key"], perm=[0, 2, 1])
    logits = builder.node("MatMul", parts["query"], keys, output="products")
    logits = builder.node("Mul", logits, builder.constant("root", 1 / np.sqrt(8)))
    shares = builder.node("Softmax", logits, output="shares")
    mixed = builder.node("MatMul", shares, parts["value"], output="mixed")
    builder.node("MatMul", mixed, builder.constant("out.weight", rng.normal(0, 0.5, (8, 4))),
                 output="y")  # fmt: skip
    return builder.model(FRAME, ("y", TensorProto.FLOAT, ["n", "h", 4]))


def test_attention_stays_in_half_precision_at_least() -> None:
    model = attention()
    result = calibrate(model, HASHES[1], feeds(), PLAIN)
    assert result.table.attention == {"shares": Precision.FP16}
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(result.model))
    types = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    nodes = {node.op_type: node for node in proto.graph.node}
    assert types[nodes["Softmax"].output[0]] == TensorProto.FLOAT16
    half = {n.op_type for n in proto.graph.node if types.get(n.output[0]) == TensorProto.FLOAT16}
    assert half == {"Cast", "MatMul", "Mul", "Softmax"}
    assert types["products.half"] == types["mixed.half"] == TensorProto.FLOAT16
    # Queries, keys, logits and shares are nowhere rounded to 8 bits; what the layers read is.
    rounded = {n.input[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    assert rounded == {"squeeze_2", "mixed"}
    assert not result.proof.exact
    assert Score(model, feeds())(result.model) > 30


def test_int8_activations_use_no_uint8_scale() -> None:
    model = autoencoder()
    found = quantized(model, Settings(activations="int8", equalize=False, correct_bias=False))
    constants = onnx.load_model_from_string(found).graph.initializer
    assert TensorProto.UINT8 not in {c.data_type for c in constants}
    assert Score(model, feeds())(found) > 30


def test_a_table_makes_the_same_file_again() -> None:
    model = autoencoder(spread=30)
    result = calibrate(model, HASHES[1], feeds(), Settings(equalize=True, correct_bias=True))
    assert result.table.equalization
    again = apply_table(model, read_table(result.table.to_json()))
    assert again.model == result.model
    assert again.proof.layers == result.proof.layers


def test_a_table_of_another_model_is_refused() -> None:
    table = calibrate(autoencoder(0), HASHES[1], feeds(), PLAIN).table
    with pytest.raises(CalibrationError, match="belongs to another model"):
        apply_table(autoencoder(1), table)


def test_a_table_of_other_layers_is_refused() -> None:
    network = Network(autoencoder())
    table = make_table(network, observe(network, feeds()), HASHES)
    fewer = {name: layer for name, layer in table.layers.items() if name != "b"}
    with pytest.raises(CalibrationError, match="other layers than the network's: b"):
        emit(network, replace(table, layers=fewer))


def test_a_table_of_other_channels_is_refused() -> None:
    network = Network(autoencoder())
    table = make_table(network, observe(network, feeds()), HASHES)
    layer = replace(table.layers["b"], weight_exponents=(-5,))
    with pytest.raises(CalibrationError, match="b: the table has 1 weight exponents"):
        emit(network, replace(table, layers=table.layers | {"b": layer}))


def test_a_quantized_network_is_not_quantized_again() -> None:
    with pytest.raises(CalibrationError, match="quantized already"):
        calibrate(quantized(autoencoder()), HASHES[1], feeds())


def test_runner_says_what_does_not_fit() -> None:
    with pytest.raises(CalibrationError, match="the network fails on"):
        Runner(autoencoder()).run({"frame": frames()[0].astype(np.float32)})
    with pytest.raises(CalibrationError, match="ONNX Runtime refuses"):
        Runner(b"no model")

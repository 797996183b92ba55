"""The proof of exactness: the zoo's networks, made ones, and what it must not believe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import DECODED, FRAME, Builder, autoencoder, feeds, random_weight  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402

from edge_codec.calibration.pipeline import Settings, calibrate  # noqa: E402
from edge_codec.calibration.prove import prove  # noqa: E402
from edge_codec.errors import CalibrationError  # noqa: E402

PLAIN = Settings(equalize=False, correct_bias=False)
ZOO = Path(__file__).parents[2] / "edge_codec" / "zoo" / "vqvae"
FLOAT_OUT = ("y", TensorProto.FLOAT, ["n", 1, "h", "w"])


@pytest.mark.parametrize(
    ("name", "parts"), [("encoder", ["analysis"]), ("decoder", ["coarse", "fine"])]
)
def test_the_shipped_networks_are_exact_with_the_bounds_of_their_manifest(
    name: str, parts: list[str]
) -> None:
    proof = prove((ZOO / f"{name}.onnx").read_bytes())
    assert proof.exact
    sums = json.loads((ZOO / "manifest.json").read_text())["largest_sums"]
    expected = [value for layer, value in sums.items() if layer.split(".")[0] in parts]
    assert [layer.bound for layer in proof.layers.values()] == expected


def quantized() -> bytes:
    return calibrate(autoencoder(), "0" * 64, feeds(), PLAIN).model


def changed(change: Callable[[onnx.TensorProto], np.ndarray | None]) -> bytes:
    """The quantized network with some constants replaced."""
    proto = onnx.load_model_from_string(quantized())
    for item in proto.graph.initializer:
        value = change(item)
        if value is not None:
            item.CopyFrom(numpy_helper.from_array(value, item.name))
    data: bytes = proto.SerializeToString()
    return data


def test_a_float_network_is_not_exact() -> None:
    proof = prove(autoencoder())
    assert not proof.exact
    assert "its weights take more than 7 bits" in proof.reason
    assert {layer.bound for layer in proof.layers.values()} == {None}


def test_a_scale_that_is_no_power_of_two_breaks_the_proof() -> None:
    def change(item: onnx.TensorProto) -> np.ndarray | None:
        return np.float32(0.01) if item.name.startswith("edge_codec.scale.") else None

    proof = prove(changed(change))
    assert not proof.exact
    assert "its scale is no power of two" in proof.reason


def test_a_zero_point_breaks_the_proof() -> None:
    def change(item: onnx.TensorProto) -> np.ndarray | None:
        return np.uint8(3) if item.name == "edge_codec.zero.uint8" else None

    assert "a zero point" in prove(changed(change)).reason


def test_eight_bit_weights_break_the_proof() -> None:
    def change(item: onnx.TensorProto) -> np.ndarray | None:
        if item.data_type != TensorProto.INT8 or not item.dims or len(item.dims) < 4:
            return None
        return np.full(tuple(item.dims), 100, np.int8)

    assert "more than 7 bits" in prove(changed(change)).reason


def test_a_bias_between_the_units_of_the_sum_breaks_the_proof() -> None:
    def change(item: onnx.TensorProto) -> np.ndarray | None:
        if not item.name.endswith("b.bias.2") and item.name != "b.bias":
            return None
        return np.full(tuple(item.dims), 0.1, np.float32)

    assert "no multiples of their unit" in prove(changed(change)).reason


def test_sums_beyond_float32_break_the_proof() -> None:
    def change(item: onnx.TensorProto) -> np.ndarray | None:
        if item.data_type != TensorProto.FLOAT or "bias" not in item.name:
            return None
        return np.full(tuple(item.dims), 2.0**20, np.float32)

    proof = prove(changed(change))
    assert not proof.exact
    assert "exact arithmetic ends at 16777216" in proof.reason


def integer_node(operator: str, **attributes: object) -> bytes:
    """A network with one more operator between integers and their output."""
    builder = Builder()
    x = builder.node(operator, builder.frame_values(), **attributes)
    builder.node("Neg", x, output="y")
    return builder.model(FRAME, FLOAT_OUT)


@pytest.mark.parametrize(
    ("operator", "exact"), [("Relu", True), ("Round", True), ("Exp", False), ("Softmax", False)]
)
def test_operators_that_keep_integers_and_others(operator: str, exact: bool) -> None:
    assert prove(integer_node(operator)).exact is exact


def test_additions_align_their_units() -> None:
    builder = Builder()
    x = builder.frame_values()
    coarse = builder.node("Mul", x, builder.constant("factor", 2.0**10))
    builder.node("Add", x, coarse, output="y")
    assert prove(builder.model(FRAME, FLOAT_OUT)).exact
    builder = Builder()
    x = builder.frame_values()
    coarse = builder.node("Mul", x, builder.constant("factor", 2.0**20))
    builder.node("Add", x, coarse, output="y")
    proof = prove(builder.model(FRAME, FLOAT_OUT))
    assert "need more than float32 has" in proof.reason


def test_factors_that_are_no_powers_of_two_are_not_believed() -> None:
    builder = Builder()
    builder.node("Mul", builder.frame_values(), builder.constant("third", 1 / 3), output="y")
    assert "by no power of two" in prove(builder.model(FRAME, FLOAT_OUT)).reason


def test_float_inputs_are_not_exact() -> None:
    builder = Builder()
    builder.node("Relu", "x", output="y")
    model = builder.model(("x", TensorProto.FLOAT, ["n"]), ("y", TensorProto.FLOAT, ["n"]))
    assert prove(model).reason == "the input 'x' is float"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no valid ONNX file"):
        prove(b"\xff" * 64)


def test_layers_before_the_first_inexact_one_are_still_proven() -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 4, 1, 3))
    x = builder.node("Sigmoid", x)
    builder.frame_codes(builder.conv(x, "b", random_weight(rng, 1, 4, 3), relu=False))
    result = calibrate(builder.model(FRAME, DECODED), "0" * 64, feeds(), Settings())
    assert not result.proof.exact
    assert "Sigmoid" in result.proof.reason
    assert result.proof.layers["a"].bound is not None
    assert result.proof.layers["b"].bound is None

"""Float networks with named inputs, on each backend."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_codec.errors import EngineError
from edge_codec.runtime import float_network
from edge_codec.runtime.float_network import FLOAT_BACKENDS, load_network

ONE = np.array([[1.0, -2.0, 3.0]], np.float32)
TWO = np.array([[0.5, 0.25, -4.0]], np.float32)


def sum_and_count() -> bytes:
    """A network that adds two inputs and a whole number."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("one", "two")
    ]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [1])
    result = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 3])
    nodes = [
        helper.make_node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["one", "two"], ["both"]),
        helper.make_node("Add", ["both", "number"], ["sum"]),
    ]
    graph = helper.make_graph(nodes, "sum", [*inputs, count], [result])
    opset = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


@pytest.mark.parametrize("backend", ["auto", *FLOAT_BACKENDS])
def test_networks_run(backend):
    if backend != "auto":
        pytest.importorskip(backend)
    network = load_network(sum_and_count(), backend, 1)
    count = np.array([7])
    first = network.run({"two": TWO, "one": ONE, "count": count})
    assert np.array_equal(first, ONE + TWO + 7)
    second = network.run({"one": ONE, "two": ONE, "count": count})
    assert np.array_equal(first, ONE + TWO + 7)  # in memory of its own
    assert np.array_equal(second, 2 * ONE + 7)
    assert "float, 1 threads" in network.name


@pytest.mark.parametrize("backend", FLOAT_BACKENDS)
def test_what_does_not_fit_is_refused(backend):
    pytest.importorskip(backend)
    with pytest.raises(EngineError, match="refuses the model"):
        load_network(b"no network", backend, 1)
    network = load_network(sum_and_count(), backend, 1)
    with pytest.raises(EngineError, match="it was given one"):
        network.run({"one": ONE})
    wrong = {"one": ONE[:, :2], "two": TWO, "count": np.array([1])}
    with pytest.raises(EngineError, match="failed"):
        network.run(wrong)


def test_backends_that_are_not_there(monkeypatch):
    with pytest.raises(EngineError, match="use auto, openvino, onnxruntime"):
        load_network(b"", "triton")
    with pytest.raises(EngineError, match="use 1 or more"):
        load_network(b"", threads=0)
    monkeypatch.setattr(float_network.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="no inference backend"):
        load_network(b"")
    with pytest.raises(EngineError, match="pip install onnxruntime"):
        load_network(b"", "onnxruntime")


def test_the_models_of_this_test_are_whole():
    onnx.checker.check_model(onnx.load_model_from_string(sum_and_count()), full_check=True)

"""Graphs are read as the package onnx reads them, and damaged files are refused quickly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime import onnx_graph
from edge_codec.runtime.integer_chain import read_plan
from edge_codec.runtime.onnx_graph import read_graph
from edge_codec.spec import ModelId

NETWORKS = [load_manifest(ModelId.VQVAE).read(f"{name}.onnx") for name in ("encoder", "decoder")]


@pytest.mark.parametrize("model", NETWORKS)
def test_networks_are_read_as_onnx_reads_them(model: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    graph, expected = read_graph(model), onnx.load_model_from_string(model).graph
    for node, other in zip(graph.nodes, expected.node, strict=True):
        assert (node.op_type, node.name, node.domain) == (other.op_type, other.name, other.domain)
        assert (node.input, node.output) == (tuple(other.input), tuple(other.output))
        values = {a.name: onnx.helper.get_attribute_value(a) for a in other.attribute}
        assert node.attributes == values
    assert graph.inputs == [value.name for value in expected.input]
    assert graph.outputs == [value.name for value in expected.output]
    arrays = {c.name: onnx.numpy_helper.to_array(c) for c in expected.initializer}
    assert graph.constants.keys() == arrays.keys()
    for name, array in arrays.items():
        assert graph.constants[name].dtype == array.dtype
        np.testing.assert_array_equal(graph.constants[name], array)


def test_every_kind_of_attribute_and_constant() -> None:
    onnx = pytest.importorskip("onnx")
    values = {
        "whole": -3, "real": 0.5, "text": b"x", "wholes": [1, -(2**62), 5], "reals": [0.25, -1.0],
        "texts": [b"a", b""],
    }  # fmt: skip
    types = onnx.TensorProto
    constants = [
        onnx.helper.make_tensor("floats", types.FLOAT, [2, 1], [0.5, -2.0]),
        onnx.helper.make_tensor("bytes", types.INT8, [3], [-128, 0, 127]),
        onnx.helper.make_tensor("words", types.INT64, [2], [-(2**63), 2**63 - 1]),
        onnx.helper.make_tensor("scalar", types.UINT8, [], [200]),
        onnx.helper.make_tensor("none", types.INT64, [0], []),
        onnx.helper.make_tensor("strings", types.STRING, [1], [b"not read"]),
    ]
    node = onnx.helper.make_node("Any", ["a", ""], ["b"], name="n", domain="d", **values)
    made = onnx.helper.make_graph([node], "g", [], [], constants)
    graph = read_graph(onnx.helper.make_model(made).SerializeToString())
    assert graph.nodes[0].attributes == values
    assert graph.nodes[0].input == ("a", "")
    found = {name: (str(array.dtype), array.tolist()) for name, array in graph.constants.items()}
    assert found == {
        "floats": ("float32", [[0.5], [-2.0]]),
        "bytes": ("int8", [-128, 0, 127]),
        "words": ("int64", [-(2**63), 2**63 - 1]),
        "scalar": ("uint8", 200),
        "none": ("int64", []),
    }


def test_constants_in_other_files_are_not_there() -> None:
    onnx = pytest.importorskip("onnx")
    constant = onnx.helper.make_tensor("far", onnx.TensorProto.INT8, [4], bytes(4), raw=True)
    constant.data_location = onnx.TensorProto.EXTERNAL
    made = onnx.helper.make_graph([], "g", [], [], [constant])
    assert not read_graph(onnx.helper.make_model(made).SerializeToString()).constants


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "0 graphs"),
        (field(7, b"") * 2, "2 graphs"),
        (b"\x3a\x7f", "127 bytes where 0 are left"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "bytes where 0 are left"),
        (b"\xff" * 40, "without an end"),
        (b"\x3b", "wire type 3"),
        (b"\x38\x01", "in place of bytes"),
        (field(7, field(1, b"\x22\x01\xff")), "utf-8"),
        (field(7, field(5, b"\x10\x03\x08\x05\x4a\x01\x00")), "has 1 elements"),
        (field(7, field(5, b"\x10\x03\x08" + b"\xff" * 9 + b"\x01")), "of sizes"),
        (field(7, field(5, b"\x10\x03" + b"\x08\x01" * 9)), "of sizes"),
        (field(7, field(5, b"\x10\x01\x4a\x03\x00\x00\x00")), "buffer size"),
        (field(7, field(5, b"\x10\x03\x2a\x02\xff\x7f")), "out of bounds"),
        (field(7, field(5, b"\x10\x01\x22\x03\x00\x00\x00")), "unpack requires"),
    ],
)
def test_damaged_files_are_refused(model: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=f"no ONNX file: .*{message}"):
        read_graph(model)


def test_too_many_nodes_or_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 3)
    with pytest.raises(EngineError, match="more than 3 nodes"):
        read_graph(field(7, field(1, b"") * 4))
    monkeypatch.setattr(onnx_graph, "MAX_FILE", 10)
    with pytest.raises(EngineError, match="at most 10"):
        read_graph(NETWORKS[0])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_altered_networks_are_read_or_refused(data: st.DataObject) -> None:
    """Whatever is changed in the structure: an EngineError or a plan, nothing else."""
    model = bytearray(data.draw(st.sampled_from(NETWORKS)))
    for _ in range(data.draw(st.integers(1, 4))):
        # The nodes stand in the first bytes; behind them are constants and the rest.
        place = data.draw(st.one_of(st.integers(0, 12_000), st.integers(0, len(model) - 1)))
        model[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(model)), st.integers(0, len(model))))
    try:
        read_plan(bytes(model[:cut]))
    except EngineError:
        return

"""The calibration table as a file: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from edge_codec.calibration.table import (
    MAX_BYTES,
    MAX_EXPONENT,
    LayerScale,
    Precision,
    Table,
    TensorScale,
    read_table,
)
from edge_codec.errors import CalibrationError

TABLE = Table(
    "a" * 64,
    "b" * 64,
    "uint8",
    {"x": TensorScale(-7, "uint8", "exact"), "y": TensorScale(-5, "int8", "mse", 0.25)},
    {
        "one": LayerScale(Precision.INT8, "x", "y", (-3, -4), (5, -6), 1234),
        "two": LayerScale(Precision.FP16, "y", "z", (-3,)),
    },
    {"softmax": Precision.FP16},
    {"one": (1, -2)},
)

names = st.text(max_size=8)
exponents = st.integers(-MAX_EXPONENT, MAX_EXPONENT)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
tensors = st.dictionaries(
    names,
    st.builds(
        TensorScale,
        exponents,
        st.sampled_from(["uint8", "int8"]),
        names,
        st.floats(0, 1, allow_nan=False),
    ),
    max_size=3,
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    scales = draw(tensors)
    layers = {}
    for name in draw(st.sets(names, max_size=3)):
        weights = tuple(draw(st.lists(exponents, max_size=3)))
        correction = weights if draw(st.booleans()) else ()
        precision = Precision.FP16
        source = draw(names)
        if scales and draw(st.booleans()):
            precision, source = Precision.INT8, draw(st.sampled_from(sorted(scales)))
        bound = draw(st.none() | st.integers(0, 1 << 30))
        layers[name] = LayerScale(precision, source, draw(names), weights, correction, bound)
    halves = st.sampled_from([Precision.FP16, Precision.FP32])
    attention = draw(st.dictionaries(names, halves, max_size=2))
    shifts = st.lists(exponents, max_size=3).map(tuple)
    equalization = draw(st.dictionaries(names, shifts, max_size=2))
    return Table(draw(digests), draw(digests), "uint8", scales, layers, attention, equalization)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_what_is_written_is_read(table: Table) -> None:
    assert read_table(table.to_json()) == table


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_an_error(data: bytes) -> None:
    with pytest.raises(CalibrationError):
        read_table(data)


words = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_value_replaced_by_anything_is_a_table_or_an_error(data: st.DataObject) -> None:
    content = json.loads(TABLE.to_json())
    holder: Any = content
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(list(keys)))
        inner = holder[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        holder = inner
    holder[key] = data.draw(json_values)
    try:
        found = read_table(json.dumps(content).encode())
    except CalibrationError:
        return
    assert read_table(found.to_json()) == found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "png", "'png' version 1 is no"),
        (("version",), 2, "version 2 is no"),
        (("model_sha256",), "12", "model_sha256 is '12', expected 64 hexadecimal digits"),
        (("activations",), "int4", "expected one of uint8, int8"),
        (("tensors", "x", "exponent"), 101, "tensors.x.exponent is '101', expected an integer of"),
        (("tensors", "x", "exponent"), 1.5, "tensors.x.exponent is '1.5'"),
        (("tensors", "x", "exponent"), True, "tensors.x.exponent is 'True'"),
        (("tensors", "x", "clip_share"), 1.01, "expected a number from 0 to 1"),
        (("tensors", "x", "clip_share"), float("nan"), "expected a number from 0 to 1"),
        (("tensors", "x", "extra"), 1, "these fields: extra"),
        (("layers", "one", "precision"), "int4", "expected one of int8, fp16, fp32"),
        (("layers", "one", "correction"), [1], "correction is '1', expected 2 numbers, or none"),
        (("layers", "one", "source"), "q", "layers.one.source is 'q', expected a name in"),
        (("layers", "one", "bound"), -1, "expected a positive number"),
        (("attention", "softmax"), "int8", "expected fp16 or fp32"),
        (("equalization", "one"), "12", "expected a list"),
    ],
)
def test_what_does_not_fit_is_named(path: tuple[str, ...], value: Any, message: str) -> None:
    content = json.loads(TABLE.to_json())
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(CalibrationError, match=message):
        read_table(json.dumps(content).encode())


def test_unsigned_scales_do_not_belong_into_a_signed_table() -> None:
    content = json.loads(TABLE.to_json()) | {"activations": "int8"}
    with pytest.raises(CalibrationError, match=r"tensors\.x\.dtype is 'uint8', expected int8"):
        read_table(json.dumps(content).encode())


def test_huge_and_deep_files_are_refused() -> None:
    with pytest.raises(CalibrationError, match="are believed"):
        read_table(b" " * (MAX_BYTES + 1))
    with pytest.raises(CalibrationError):
        read_table(b"[" * 100_000)


def test_a_table_knows_its_model_and_sample() -> None:
    TABLE.check_belongs("a" * 64, "b" * 64)
    with pytest.raises(CalibrationError, match="belongs to another model"):
        TABLE.check_belongs("c" * 64, "b" * 64)
    with pytest.raises(CalibrationError, match="belongs to another sample"):
        TABLE.check_belongs("a" * 64, "c" * 64)

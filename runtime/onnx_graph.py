"""Reads an ONNX file's graph without the package onnx: nodes, constants, input and output.

An ONNX file is a protobuf message; this reads the few fields that integer networks use and skips
the rest. The reader is for files from anywhere: it copies nothing but constants, whose sizes must
be those of their bytes, follows no nesting deeper than the format's own, and takes time linear in
the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError

MAX_FILE = 256 << 20
MAX_NODES = 10_000
MAX_AXES = 8
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    4: np.dtype("<u2"),
    5: np.dtype("<i2"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    11: np.dtype("<f8"),
    12: np.dtype("<u4"),
    13: np.dtype("<u8"),
}
"""Types of constants by ONNX's number; others are read as absent, and refused where used."""

Wire = memoryview | int


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator of a graph.

    Attributes
    ----------
    op_type, name, domain : str
    input, output : tuple of str
        Names of tensors.
    attributes : dict
        Integers, floats, bytes, lists of them, or None for what is none of these.
    """

    op_type: str = ""
    name: str = ""
    domain: str = ""
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network.

    Attributes
    ----------
    nodes : list of Node
        In the file's order.
    constants : dict of str to ndarray
    inputs, outputs : list of str
    """

    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    inputs: list[str]
    outputs: list[str]


def read_graph(model: bytes) -> Graph:
    """Return the graph of an ONNX file.

    Raises
    ------
    EngineError
        If it is no ONNX file, is damaged, or is too large.
    """
    if len(model) > MAX_FILE:
        raise EngineError(f"an ONNX file of {len(model)} bytes, at most {MAX_FILE} are read")
    try:
        graphs = [_bytes(value) for number, value in _fields(memoryview(model)) if number == 7]
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs")
        return _read_graph(graphs[0])
    except (ValueError, struct.error, OverflowError) as error:
        raise EngineError(f"{len(model)} bytes are no ONNX file: {error}") from error


def _read_graph(data: memoryview) -> Graph:
    graph = Graph([], {}, [], [])
    for number, value in _fields(data):
        if number == 1:
            graph.nodes.append(_read_node(_bytes(value)))
        elif number == 5:
            name, constant = _read_tensor(_bytes(value))
            if constant is not None:
                graph.constants[name] = constant
        elif number in (11, 12):
            names = graph.inputs if number == 11 else graph.outputs
            names.append(_first_text(_bytes(value), 1))
        if len(graph.nodes) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
    return graph


def _read_node(data: memoryview) -> Node:
    texts: dict[int, list[str]] = {number: [] for number in (1, 2, 3, 4, 7)}
    attributes: dict[str, Any] = {}
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(_text(value))
        elif number == 5:
            name, content = _read_attribute(_bytes(value))
            attributes[name] = content
    name, operator, domain = ("".join(texts[number][-1:]) for number in (3, 4, 7))
    return Node(operator, name, domain, tuple(texts[1]), tuple(texts[2]), attributes)


def _read_attribute(data: memoryview) -> tuple[str, Any]:
    """Return an attribute's name and value; its field tells the value's type, if there is none."""
    name, ints, floats, strings = "", [], [], []
    single: Any = None
    kind = 0
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            single = _float(value)
        elif number == 3:
            single = _signed(value)
        elif number == 4:
            single = bytes(_bytes(value))
        elif number == 7:
            floats += _packed_floats(value)
        elif number == 8:
            ints += _packed_ints(value)
        elif number == 9:
            strings.append(bytes(_bytes(value)))
        elif number == 20:
            kind = _signed(value)
    return name, {0: single, 1: single, 2: single, 3: single, 6: floats, 7: ints, 8: strings}.get(
        kind
    )


def _read_tensor(data: memoryview) -> tuple[str, NDArray[Any] | None]:
    """Return a constant's name and array; None where its type is none of `DTYPES`."""
    name, kind, sizes = "", 0, []
    raw: memoryview | None = None
    values: list[float] | list[int] = []
    outside = False
    for number, value in _fields(data):
        if number == 1:
            sizes += _packed_ints(value)
        elif number == 2:
            kind = _signed(value)
        elif number == 4:
            values += _packed_floats(value)
        elif number in (5, 7):
            values += _packed_ints(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _bytes(value)
        elif number in (13, 14):
            outside = outside or number == 13 or value != 0
    if kind not in DTYPES or outside:
        return name, None
    return name, _shape(name, DTYPES[kind], sizes, raw, values)


def _shape(
    name: str,
    dtype: np.dtype[Any],
    sizes: list[int],
    raw: memoryview | None,
    values: list[float] | list[int],
) -> NDArray[Any]:
    if len(sizes) > MAX_AXES or any(size < 0 for size in sizes):
        raise ValueError(f"constant '{name}' of sizes {sizes[: MAX_AXES + 1]}")
    flat = np.frombuffer(raw, dtype) if raw is not None else np.array(values, dtype)
    if flat.size != math.prod(sizes):
        raise ValueError(f"constant '{name}' of sizes {sizes} has {flat.size} elements")
    return flat.reshape(sizes)


def _first_text(data: memoryview, wanted: int) -> str:
    return next((_text(value) for number, value in _fields(data) if number == wanted), "")


def _fields(data: memoryview) -> Iterator[tuple[int, Wire]]:
    """Yield number and value of each field: an integer, or a view of its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - at:
            raise ValueError(f"a field of {size} bytes where {len(data) - at} are left")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an unsigned integer and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("an integer without an end")


def _bytes(value: Wire) -> memoryview:
    if isinstance(value, int):
        raise ValueError("an integer in place of bytes")
    return value


def _text(value: Wire) -> str:
    return bytes(_bytes(value)).decode()


def _signed(value: Wire) -> int:
    """Return an int64 of its two's complement."""
    if not isinstance(value, int):
        raise ValueError("bytes in place of an integer")
    return value - (1 << 64) if value >> 63 else value


def _float(value: Wire) -> float:
    found: float = struct.unpack("<f", _bytes(value))[0]
    return found


def _packed_ints(value: Wire) -> list[int]:
    """Return a repeated integer: one of it, or all of them packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def _packed_floats(value: Wire) -> list[float]:
    data = _bytes(value)
    return list(struct.unpack(f"<{len(data) // 4}f", data))

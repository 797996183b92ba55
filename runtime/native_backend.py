"""Our own int8 engine on the CPU: exact by construction, one call for a whole network.

Integer chains as `edge_codec.export.qdq` makes them are run by C (`runtime/native/_int8.c`): direct
convolutions on images with channels last, in AVX-512 VNNI, AVX2 or plain C, whichever the
processor has. Nothing is allocated for a frame but its result, and the interpreter is free
meanwhile. Layers are cut into tickets of some rows that threads take in turn, so that a thread
which is kept from running delays a frame by one ticket, not by its share of every layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_layer import PackedConv, unpack
from edge_codec.runtime.integer_chain import Plan, read_plan
from edge_codec.runtime.native import _int8

Layer = tuple[tuple[int, int, int, int, int, bool], Any, Any, Any]

FAST_LEVEL = "vnni"
"""Instruction set with which this engine was measured to be the fastest: docs/decisions/0011."""


class NativeEngine:
    """A network on our own engine; safe to be run by several threads at a time.

    Parameters
    ----------
    model : bytes
        ONNX file.
    threads : int
        Threads for one run, 1 or more.
    level : str, optional
        One of `levels()`; by default the first.

    Raises
    ------
    EngineError
        If the network is no integer chain, or has a layer that this engine does not run; the
        message names it.
    """

    def __init__(self, model: bytes, threads: int, level: str | None = None) -> None:
        chosen = level or levels()[0]
        if chosen not in levels():
            raise EngineError(f"this processor has no '{chosen}'; use one of {levels()}")
        self._plan = read_plan(model)
        self._shapes = [layer.conv.shape for layer in self._plan.layers]
        self._threads = threads
        table = self._plan.table
        self._network = _int8.load(
            chosen,
            self._shapes[0].unpack,
            None if table is None else np.ascontiguousarray(table),
            _layers(self._plan),
        )
        self.name = f"native int8 {chosen}, {threads} threads"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`; see `edge_codec.engine.Engine`.

        Raises
        ------
        EngineError
            If the input is of another kind or size than the network's, or has a token that is no
            row of its table.
        """
        n, height, width = self._sizes(tensor)
        result = np.empty(self._result_shape(n, height, width), self._result_dtype)
        source = np.ascontiguousarray(tensor)
        known = _int8.run(self._network, source, n, height, width, result, self._threads)
        if not known:
            raise EngineError(
                f"tokens {tensor.min()}..{tensor.max()} where the network's table has rows "
                f"0..{len(self._table) - 1}"
            )
        return result

    @property
    def _table(self) -> NDArray[Any]:
        table = self._plan.table
        return np.empty((0, 0), np.uint8) if table is None else table

    @property
    def _result_dtype(self) -> type[np.int8 | np.uint8]:
        return np.int8 if self._shapes[-1].signed_output else np.uint8

    def _sizes(self, tensor: NDArray[Any]) -> tuple[int, int, int]:
        """Return images, rows and columns in pixels of the first layer."""
        is_tokens = self._plan.table is not None
        dtype, axes = (np.int32, 3) if is_tokens else (np.uint8, 4)
        if tensor.dtype != dtype or tensor.ndim != axes or not tensor.size:
            raise EngineError(
                f"the input is {tensor.dtype} {tensor.shape}; the network takes "
                + ("int32 tokens (n, h, w)" if is_tokens else "uint8 frames (n, 1, height, width)")
            )
        first = self._shapes[0]
        n, height, width = len(tensor), *tensor.shape[-2:]
        if height % first.unpack or width % first.unpack or tensor.size != n * height * width:
            raise EngineError(
                f"frames of {tensor.shape} do not form blocks of {first.unpack}; pad them"
            )
        size = (n, height // first.unpack, width // first.unpack)
        for shape in self._shapes:
            shape.grid(size, 1, 1)  # refuses what is too large
            size = shape.stored_output(*size)[:3]
        return n, height // first.unpack, width // first.unpack

    def _result_shape(self, n: int, height: int, width: int) -> tuple[int, ...]:
        size, channels = [n, height, width], 0
        for shape in self._shapes:
            *size, channels = shape.stored_output(*size)
        return (n, 1, *size[1:]) if self._plan.planes else (*size, channels)


def levels() -> list[str]:
    """Return the instruction sets that this processor has and the engine knows, best first."""
    return _int8.levels()


def is_fast() -> bool:
    """Whether no other backend is expected to be faster on this processor."""
    return levels()[0] == FAST_LEVEL and not _int8.has_amx()


def _layers(plan: Plan) -> tuple[Layer, ...]:
    last = plan.layers[-1].conv.shape
    if plan.planes and last.outputs != last.spread**2:
        raise EngineError(f"layer '{plan.layers[-1].name}' stores channels, its network one plane")
    return tuple(_layer(layer.name, layer.conv) for layer in plan.layers)


def _layer(name: str, conv: PackedConv) -> Layer:
    """Return a layer as C takes it."""
    shape = conv.shape
    weight, bias, shift = unpack(conv)
    if shape.signed_input or shape.depthwise or shape.inputs % 4 or (shift < 0).any():
        raise EngineError(
            f"layer '{name}' ({shape.name}) has int8 input, channels that are no multiple of 4, or "
            "multiplies its sums; the native engine does not run that, use another backend"
        )
    sizes = (
        *(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.spread),
        shape.signed_output,
    )
    rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    return sizes, rows, bias.astype(np.int32), shift.astype(np.int32)

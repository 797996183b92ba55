"""Reads an integer network's ONNX file into the layers that our own engines run.

The networks of the zoo are chains: DequantizeLinear, Conv, Relu and QuantizeLinear become one
layer; Reshapes and Transposes that move blocks of pixels become the way in which a layer loads or
stores; a Gather from a table of rows becomes the way in which the first layer loads. What the
sizes of the Reshapes are computed from is not looked at, since what was read is executed and
compared with the network before it is used (`edge_codec.export.gpu_engine`,
`edge_codec.runtime.self_check`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_layer import ConvShape, PackedConv, pack
from edge_codec.runtime.onnx_chain import Chain
from edge_codec.runtime.onnx_graph import Node

TO_LAST = [0, 2, 3, 1]
TO_FIRST = [0, 3, 1, 2]
SWAP_BLOCKS = [0, 1, 3, 2, 4]
ONCE: dict[str, Any] = {"auto_pad": b"NOTSET", "dilations": [1, 1], "group": 1}
"""What a Conv may say besides its window, and must mean."""


@dataclass(frozen=True, slots=True, eq=False)
class PlannedLayer:
    """One launch.

    Attributes
    ----------
    name : str
        Of the convolution's node.
    conv : PackedConv
    """

    name: str
    conv: PackedConv


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A network as a chain of launches.

    Attributes
    ----------
    layers : tuple of PlannedLayer
    table : ndarray, shape (tokens, inputs), uint8 or int8, or None
        The rows that the first layer reads, where the network's input is tokens.
    planes : bool
        The output is (n, 1, height, width) rather than channels last.
    """

    layers: tuple[PlannedLayer, ...]
    table: NDArray[Any] | None
    planes: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    """Activations are int8 or uint8 times 2**exponent."""

    exponent: int
    signed: bool


def read_plan(model: bytes) -> Plan:
    """Read an integer network.

    Parameters
    ----------
    model : bytes
        ONNX file.

    Raises
    ------
    EngineError
        If it is no ONNX file, or a node is none of those above; the message names it.
    """
    chain = Chain(model)
    table, unpack = _read_source(chain)
    layers: list[PlannedLayer] = []
    planes = False
    while not chain.ended:
        scale = _read_scale(chain, "DequantizeLinear")
        if layers and chain.sees("Transpose"):
            layers[-1] = _spread(layers[-1], _read_spread(chain))
            chain.take("Transpose", perm=TO_FIRST)
            _return_to(chain, scale)
            continue
        layers.append(_read_layer(chain, scale, unpack))
        unpack = 1
        if chain.sees("Transpose"):
            planes = _read_end(chain, layers)
            break
    chain.finish()
    if not layers:
        raise EngineError("the network has no convolution; there is nothing to build")
    return Plan(tuple(layers), table, planes)


def _read_source(chain: Chain) -> tuple[NDArray[Any] | None, int]:
    """Read how the first layer loads: the table, and the side of its blocks."""
    table = None
    if chain.sees("Gather"):
        gather = chain.take("Gather", at=1, axis=0)
        table = chain.constant(gather, 0)
        if table.ndim != 2 or table.dtype not in (np.uint8, np.int8):
            raise chain.refuse(gather, "gathers no rows of 8-bit integers")
    scale = _read_scale(chain, "DequantizeLinear")
    unpack = 1
    if table is None:
        chain.take("Reshape")
        chain.take("Transpose", perm=SWAP_BLOCKS)
        unpack = isqrt(_read_size(chain, -1))
    chain.take("Transpose", perm=TO_FIRST)
    _return_to(chain, scale)
    return table, unpack


def _read_spread(chain: Chain) -> int:
    """Read what moves channels into blocks of pixels, channels last; return the blocks' side."""
    chain.take("Transpose", perm=TO_LAST)
    block = _read_size(chain, -2)
    chain.take("Transpose", perm=SWAP_BLOCKS)
    chain.take("Reshape")
    return block


def _read_size(chain: Chain, place: int) -> int:
    """Read a Reshape to constant sizes, and return one of them."""
    node = chain.take("Reshape")
    sizes = chain.constant(node, 1)
    if sizes.dtype != np.int64 or not 4 <= sizes.size <= 5 or (sizes < 0).any():
        raise chain.refuse(node, "has other sizes than those of blocks")
    return int(sizes.flat[place])


def _read_end(chain: Chain, layers: list[PlannedLayer]) -> bool:
    """Read what follows the last layer; return whether the output is planes."""
    if chain.ends_after_next():
        chain.take("Transpose", perm=TO_LAST)
        return False
    layers[-1] = _spread(layers[-1], _read_spread(chain))
    chain.take("Unsqueeze")
    return True


def _spread(layer: PlannedLayer, block: int) -> PlannedLayer:
    shape = replace(layer.conv.shape, spread=block)
    return replace(layer, conv=replace(layer.conv, shape=shape))


def _read_scale(chain: Chain, operator: str) -> _Scale:
    node = chain.take(operator, axis=None)
    exponents = chain.exponents(node)
    zero = chain.constant(node, 2)
    if exponents.ndim or zero.any() or zero.dtype not in (np.uint8, np.int8):
        raise chain.refuse(node, "has no single scale and zero point 0 of 8 bits")
    return _Scale(int(exponents), zero.dtype == np.int8)


def _return_to(chain: Chain, scale: _Scale) -> None:
    """Read the QuantizeLinear that undoes the DequantizeLinear before a move."""
    node = chain.next()
    found = _read_scale(chain, "QuantizeLinear")
    if found != scale:
        raise chain.refuse(node, f"rescales what was only moved, {scale} to {found}")


def _read_layer(chain: Chain, scale: _Scale, unpack: int) -> PlannedLayer:
    conv = chain.take("Conv", kernel_shape=None, pads=None, strides=None, **ONCE)
    relu = chain.take("Relu") if chain.sees("Relu") else None
    result = _read_scale(chain, "QuantizeLinear")
    if relu is not None and result.signed:
        raise chain.refuse(relu, "is followed by int8; quantize to uint8")
    weight, weight_exponents = _read_weight(chain, conv)
    outputs, inputs, kernel, _ = weight.shape
    attributes = chain.attributes(conv)
    stride = attributes.get("strides", [1, 1])[0]
    expected = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2}
    found = {"kernel_shape": [kernel] * 2, "pads": [0] * 4, "strides": [1, 1], **attributes}
    if any(found[name] != value for name, value in expected.items()):
        raise chain.refuse(conv, f"has {attributes}; the kernel pads a square window evenly")
    unit = scale.exponent + weight_exponents
    try:
        shape = ConvShape(
            inputs,
            outputs,
            kernel,
            stride=stride,
            unpack=unpack,
            signed_input=scale.signed,
            signed_output=result.signed,
        )
        packed = pack(weight, _read_bias(chain, conv, unit), result.exponent - unit, shape)
    except EngineError as error:
        raise chain.refuse(conv, str(error)) from error
    return PlannedLayer(conv.name, packed)


def _read_weight(chain: Chain, conv: Node) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return weights, (outputs, inputs, k, k), and their exponents, (outputs,)."""
    node = chain.maker(conv, 1, "DequantizeLinear")
    weight, exponents = chain.constant(node, 0), chain.exponents(node)
    zero = chain.constant(node, 2) if len(node.input) > 2 else np.zeros(())
    per_channel = exponents.ndim == 1 and chain.attributes(node).get("axis", 1) == 0
    if weight.dtype != np.int8 or weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise chain.refuse(node, "has no int8 weights of a square window")
    if zero.any() or not (per_channel or exponents.ndim == 0):
        raise chain.refuse(node, "has no scale per output with zero point 0")
    return weight, np.broadcast_to(exponents, len(weight))


def _read_bias(chain: Chain, conv: Node, unit: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(conv.input) < 3:
        return np.zeros(len(unit), np.int64)
    bias = np.ldexp(chain.constant(conv, 2).astype(np.float64), -unit)
    if not np.isfinite(bias).all() or (bias != np.rint(bias)).any() or (abs(bias) > 2**31).any():
        raise chain.refuse(conv, "has a bias that is no multiple of the unit of its sums")
    return bias.astype(np.int64)

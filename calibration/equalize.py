"""Cross-layer equalization: share the range of a pair of layers channel by channel.

Between a layer, a ReLU and a second layer, channel `i` may be divided by any `s[i] > 0` if the
second layer multiplies its weights of that channel by `s[i]`: the float function stays what it was
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
arXiv:1906.04721). Activations have one scale per tensor, so a channel of small values loses most of
its 8 bits beside a channel of large ones, unless it is scaled up.

The paper balances the weights' ranges of both layers. Here weights have a scale per output channel
anyway, so the range of the first layer's weights costs nothing; what is balanced is what the
channel uses of the activation's range against what it uses of its readers' weights:
`s = sqrt(r1 / r2)`, up to a common factor. `s` is rounded to a power of two, so that scaling is
exact in floating point: the float function stays the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.network import (
    Layer,
    Network,
    channel_axis,
    output_axis,
)
from edge_codec.calibration.onnx_file import attributes
from edge_codec.calibration.run import Feed, Runner
from edge_codec.errors import CalibrationError

MAX_SHIFT = 4
"""Largest power of two that a channel is scaled by, up or down."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two layers with nothing but a ReLU between them.

    Attributes
    ----------
    first, second : Layer
    """

    first: Layer
    second: Layer


def pairs(network: Network) -> list[Pair]:
    """Find the pairs that can be equalized.

    The first layer's output, behind a ReLU or nothing, is read by the second alone; neither shares
    its weights with another layer, and the second is not grouped.
    """
    readers = {layer.node.name: layer for layer in network.layers}
    uses: dict[str, int] = {}
    for node in network.nodes:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    found = []
    for first in network.layers:
        reader = network.only_consumer(first.output)
        second = readers.get(reader.name) if reader is not None else None
        if second is None or first.activation not in ("", "Relu") or _groups(second) > 1:
            continue
        shared = [n for layer in (first, second) for n in _constants(layer) if uses[n] > 1]
        if not shared and second.source == first.output:
            found.append(Pair(first, second))
    return found


def choose_shifts(
    network: Network, feeds: Iterable[Feed], threads: int = 1
) -> dict[str, tuple[int, ...]]:
    """Choose the powers of two of every pair.

    Returns
    -------
    dict of str to tuple of int
        By the first layer's name: channel `i` is divided by 2**k[i]. Empty where nothing can be
        equalized.
    """
    found = pairs(network)
    if not found:
        return {}
    reach = _channel_reach(network, [pair.first.output for pair in found], feeds, threads)
    shifts = {}
    for pair in found:
        shift = _balance(reach[pair.first.output], _weight_reach(pair.second))
        if any(shift):
            shifts[pair.first.name] = shift
    return shifts


def equalized(network: Network, shifts: Mapping[str, tuple[int, ...]]) -> Network:
    """Return the network with its channels scaled: the same float function.

    Raises
    ------
    CalibrationError
        If the shifts are of another network.
    """
    known = {pair.first.name: pair for pair in pairs(network)}
    changed: dict[str, NDArray[Any]] = {}

    def scale(name: str, factors: NDArray[np.float64]) -> None:
        changed[name] = np.asarray(changed.get(name, network.constants[name]) * factors, np.float32)

    for name, shift in shifts.items():
        pair = known.get(name)
        if pair is None or len(shift) != len(pair.first.weight):
            raise CalibrationError(
                f"the table equalizes {len(shift)} channels of '{name}', which the network does not"
                " have; calibrate anew"
            )
        factors = np.exp2(np.array(shift, np.float64))
        weight, *bias = _constants(pair.first)
        scale(weight, _along(1 / factors, network.constants[weight], channel_axis(pair.first.node)))
        for constant in bias:
            scale(constant, (1 / factors).reshape(network.constants[constant].shape))
        weight, axis = pair.second.node.input[1], 1 - channel_axis(pair.second.node)
        scale(weight, _along(factors, network.constants[weight], axis))
    return network.with_constants(changed) if changed else network


def _balance(activation: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[int, ...]:
    """Exponents of `sqrt(r1 / r2)`, rounded, about a common factor that leaves the largest."""
    alive = (activation > 0) & (weight > 0)
    if not alive.any():
        return (0,) * len(activation)
    wanted = np.zeros(len(activation))
    wanted[alive] = 0.5 * np.log2(activation[alive] / weight[alive])
    # The channel of the largest activation keeps its range, and with it the tensor's scale.
    wanted[alive] -= wanted[np.where(alive, activation, 0.0).argmax()]
    shift = np.clip(np.rint(wanted), -MAX_SHIFT, MAX_SHIFT)
    shift[~alive] = 0
    return tuple(shift.astype(int).tolist())


def _weight_reach(layer: Layer) -> NDArray[np.float64]:
    """Share that each input channel has, at most, of the range of an output channel's weights."""
    weight = np.abs(layer.weight.astype(np.float64))
    largest = weight.reshape(*weight.shape[:2], -1).max(axis=2)
    of_output = np.maximum(largest.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    share: NDArray[np.float64] = (largest / of_output).max(axis=0)
    return share


def _channel_reach(
    network: Network, tensors: Sequence[str], feeds: Iterable[Feed], threads: int
) -> dict[str, NDArray[np.float64]]:
    """Largest magnitude of every channel of some tensors."""
    axes = {layer.output: output_axis(layer.node) for layer in network.layers}
    runner = Runner(network.proto.SerializeToString(), tensors, threads)
    reach: dict[str, NDArray[np.float64]] = {}
    for feed in feeds:
        for name, values in zip(tensors, runner.run(feed), strict=True):
            channels = np.moveaxis(values, axes[name], 0)
            found = np.abs(channels.reshape(len(channels), -1)).max(axis=1).astype(np.float64)
            reach[name] = np.maximum(reach[name], found) if name in reach else found
    return reach


def _constants(layer: Layer) -> list[str]:
    """Names of a layer's weight and, where it has one, bias."""
    names = [layer.node.input[1]]
    if len(layer.node.input) > 2 and layer.node.input[2]:
        names.append(layer.node.input[2])
    if layer.adder is not None:
        names += [name for name in layer.adder.input if name != layer.node.output[0]]
    return names


def _groups(layer: Layer) -> int:
    return int(attributes(layer.node).get("group", 1))


def _along(factors: NDArray[np.float64], constant: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Shape factors so that they scale a constant along an axis."""
    return factors.reshape([-1 if a == axis else 1 for a in range(constant.ndim)])

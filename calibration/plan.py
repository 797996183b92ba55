"""From what observers saw to a table: exponents of activations and weights, and their proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.attention import attention_groups
from edge_codec.calibration.borders import LIMITS, SIGNED, UNSIGNED
from edge_codec.calibration.network import Layer, Network
from edge_codec.calibration.observers import Observer, rule
from edge_codec.calibration.power_of_two import (
    EXACT_FLOAT32,
    IntegerConv,
    channel_bounds,
    choose_weight_exponents,
    prove_bound,
    quantize_conv,
)
from edge_codec.calibration.table import LayerScale, Precision, Table, TensorScale
from edge_codec.errors import CalibrationError

EXACT = "exact"
"""Name of the observer where the network itself says the scale."""


def observed_tensors(network: Network) -> tuple[str, ...]:
    """Tensors whose scale the sample decides: where the layers' inputs come from."""
    roots = dict.fromkeys(network.root(layer.source) for layer in network.layers)
    known = fixed_scales(network)
    return tuple(name for name in roots if name not in known and name not in network.constants)


def fixed_scales(network: Network) -> dict[str, TensorScale]:
    """Scales that the network itself says.

    They are those of 8-bit inputs times a power of two, and of the sums that the network rounds to
    8 bits for its output.
    """
    scales = {
        name: TensorScale(exact.exponent, exact.dtype, EXACT)
        for name, exact in network.exact.items()
    }
    sums = {layer.output for layer in network.layers}
    for rounding in network.roundings:
        root = network.root(rounding.source)
        # A tensor with other readers keeps its own scale: they may need more than the output does.
        if root in sums and network.only_consumer(root) is not None:
            scales[root] = TensorScale(rounding.exponent, rounding.dtype, EXACT)
    return scales


def make_table(
    network: Network,
    observers: Mapping[str, Observer],
    hashes: tuple[str, str],
    observer: str = "mse",
) -> Table:
    """Choose every scale, all layers in int8 and attention in fp16.

    Parameters
    ----------
    network : Network
        The float network, equalized if it is to be.
    observers : mapping of str to Observer
        One for each of `observed_tensors`.
    hashes : tuple of str
        SHA-256 of model and sample.
    observer : str
        A name in `edge_codec.calibration.observers.RULES`.
    """
    tensors = _tensors(network, observers, observer)
    layers = {layer.name: _layer(network, layer, tensors) for layer in network.layers}
    attention = dict.fromkeys(attention_groups(network), Precision.FP16)
    activations = UNSIGNED if network.unsigned else SIGNED
    return Table(*hashes, activations, tensors, layers, attention)


def integer_layer(
    layer: Layer, scale: LayerScale, tensors: Mapping[str, TensorScale]
) -> IntegerConv:
    """Quantize a layer's weights and bias as a table says.

    Raises
    ------
    CalibrationError
        If the table does not fit the layer, or a sum is not proven exact.
    """
    if len(scale.weight_exponents) != len(layer.weight):
        raise CalibrationError(
            f"{layer.name}: the table has {len(scale.weight_exponents)} weight exponents, the layer"
            f" has {len(layer.weight)} channels; calibrate anew"
        )
    exponents = np.array(scale.weight_exponents, np.int64)
    source = tensors[scale.source]
    integer = _quantize(layer, source, exponents)
    if scale.correction:
        correction = np.array(scale.correction, np.int64)
        integer = replace(integer, bias=integer.bias + correction)
    prove_bound(integer, largest_input(source))
    return integer


def largest_input(scale: TensorScale) -> int:
    """Largest magnitude of the integers of an activation: 255 or 128."""
    low, high = LIMITS[scale.dtype]
    return max(-low, high)


def _tensors(
    network: Network, observers: Mapping[str, Observer], observer: str
) -> dict[str, TensorScale]:
    fixed = fixed_scales(network)
    tensors = {name: scale for name, scale in fixed.items() if name in _used(network)}
    for name in observed_tensors(network):
        tensors[name] = _scale(network, name, observers[name], observer)
    for layer in network.layers:
        root = network.root(layer.source)
        if root in network.constants and root not in tensors:
            # A table of constants, such as a codebook: all its values are its sample.
            seen = Observer()
            seen.update(network.constants[root])
            tensors[root] = _scale(network, root, seen, observer)
    return tensors


def _scale(network: Network, name: str, seen: Observer, observer: str) -> TensorScale:
    dtype = network.dtype(name)
    low, high = LIMITS[dtype]
    exponent = rule(observer)(seen, low, high)
    return TensorScale(exponent, dtype, observer, seen.clip_share(exponent, low, high))


def _used(network: Network) -> set[str]:
    """Roots that a layer reads, or that the network rounds for its output."""
    used = {network.root(layer.source) for layer in network.layers}
    return used | {network.root(rounding.source) for rounding in network.roundings}


def _layer(network: Network, layer: Layer, tensors: Mapping[str, TensorScale]) -> LayerScale:
    """Choose weight exponents; coarser ones where a sum could leave float32's integers."""
    source = network.root(layer.source)
    exponents = choose_weight_exponents(layer.weight)
    largest = largest_input(tensors[source])
    while True:
        integer = _quantize(layer, tensors[source], exponents)
        bounds = channel_bounds(integer, largest)
        beyond = bounds >= EXACT_FLOAT32
        if not beyond.any():
            break
        exponents = exponents + beyond
    bound = int(bounds.max(initial=0))
    chosen = tuple(exponents.tolist())
    return LayerScale(Precision.INT8, source, layer.output, chosen, bound=bound)


def _quantize(layer: Layer, source: TensorScale, exponents: NDArray[np.int64]) -> IntegerConv:
    # The sum itself is what the layer gives here; its rounding belongs to the tensor behind it.
    return quantize_conv(
        layer.name,
        layer.weight,
        layer.bias,
        source.exponent,
        output_exponent=0,
        output_dtype=np.dtype(np.int32),
        weight_exponents=exponents,
    )

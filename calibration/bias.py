"""Bias correction: take back the mean shift that quantization gives each channel.

Rounding weights and activations moves the mean of a layer's sums, and the shift travels through
all later layers. It is measured on the sample, per output channel, between the float network and
the network quantized so far, and taken back in the integer bias, layer after layer in the order of
execution, so that each measurement includes what the corrections before it have mended (Nagel et
al., 2019, arXiv:1906.04721, appendix D, with measured in place of modeled means).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_codec.calibration.emit import emit
from edge_codec.calibration.network import Layer, Network
from edge_codec.calibration.plan import integer_layer, largest_input
from edge_codec.calibration.power_of_two import EXACT_FLOAT32, channel_bounds
from edge_codec.calibration.run import Feed, channel_means
from edge_codec.calibration.table import LayerScale, Precision, Table


def correct_biases(
    network: Network, table: Table, feeds: Sequence[Feed], threads: int = 1
) -> Table:
    """Return the table with a correction for each int8 layer.

    Parameters
    ----------
    network : Network
        The float network, equalized as the table says.
    table : Table
    feeds : sequence of Feed
        Calibration frames.
    """
    model = network.proto.SerializeToString()
    for layer in network.layers:
        scale = table.layers[layer.name]
        if scale.precision is Precision.INT8:
            wanted = channel_means(model, layer, feeds, threads)
            found = channel_means(emit(network, table), layer, feeds, threads)
            corrected = _corrected(layer, scale, table, wanted - found)
            table = replace(table, layers=table.layers | {layer.name: corrected})
    return table


def _corrected(
    layer: Layer, scale: LayerScale, table: Table, shift: NDArray[np.float64]
) -> LayerScale:
    """Add a shift of the means, in units of the sums; none where a sum would not be exact."""
    exponents = np.array(scale.weight_exponents) + table.tensors[scale.source].exponent
    before = np.array(scale.correction or (0,) * len(exponents), np.int64)
    steps = before + np.rint(shift * np.exp2(-exponents.astype(np.float64))).astype(np.int64)
    plain = integer_layer(layer, replace(scale, correction=()), table.tensors)
    largest = largest_input(table.tensors[scale.source])
    bounds = channel_bounds(replace(plain, bias=plain.bias + steps), largest)
    steps = np.where(bounds < EXACT_FLOAT32, steps, before)
    bound = channel_bounds(replace(plain, bias=plain.bias + steps), largest).max(initial=0)
    return replace(scale, correction=tuple(steps.tolist()), bound=int(bound))

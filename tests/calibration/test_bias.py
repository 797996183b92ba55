"""Bias correction: the mean of every layer's sums comes back to the float network's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import autoencoder, feeds

from edge_codec.calibration.bias import correct_biases
from edge_codec.calibration.emit import emit
from edge_codec.calibration.network import Network
from edge_codec.calibration.plan import make_table
from edge_codec.calibration.prove import prove
from edge_codec.calibration.run import Score, channel_means, observe
from edge_codec.calibration.table import Precision, Table

HASHES = ("1" * 64, "0" * 64)


def plain_table(network: Network) -> Table:
    return make_table(network, observe(network, feeds()), HASHES)


def mean_errors(network: Network, table: Table) -> dict[str, float]:
    """Largest difference of a channel's mean, by layer."""
    model, found = network.proto.SerializeToString(), emit(network, table)
    return {
        layer.name: float(
            np.abs(
                channel_means(model, layer, feeds()) - channel_means(found, layer, feeds())
            ).max()
        )
        for layer in network.layers
    }


def test_mean_errors_fall_to_half_a_unit_of_the_sum() -> None:
    network = Network(autoencoder(3))
    table = plain_table(network)
    corrected = correct_biases(network, table, feeds())
    before, after = mean_errors(network, table), mean_errors(network, corrected)
    for name, layer in corrected.layers.items():
        exponents = np.array(layer.weight_exponents) + table.tensors[layer.source].exponent
        assert after[name] <= 0.5 * np.exp2(exponents.max()) + 1e-6
        assert after[name] < before[name] / 2
        assert any(layer.correction)


def test_correction_helps_at_the_output_on_other_frames() -> None:
    # Coarse weights shift the means: what the correction is for.
    network = Network(autoencoder(3))
    table = plain_table(network)
    coarse = {
        name: replace(layer, weight_exponents=tuple(e + 2 for e in layer.weight_exponents))
        for name, layer in table.layers.items()
    }
    table = replace(table, layers=coarse)
    score = Score(network.proto.SerializeToString(), feeds(seed=6))
    corrected = correct_biases(network, table, feeds())
    assert score(emit(network, corrected)) > score(emit(network, table)) + 1


def test_corrected_sums_are_still_proven() -> None:
    network = Network(autoencoder(3))
    corrected = correct_biases(network, plain_table(network), feeds())
    proof = prove(emit(network, corrected))
    assert proof.exact
    for layer in network.layers:
        assert proof.layers[layer.node.name].bound == corrected.layers[layer.name].bound


def test_float_layers_are_not_corrected() -> None:
    network = Network(autoencoder(3))
    table = plain_table(network)
    layer = replace(table.layers["b"], precision=Precision.FP32)
    table = replace(table, layers=table.layers | {"b": layer})
    assert correct_biases(network, table, feeds()).layers["b"] == layer

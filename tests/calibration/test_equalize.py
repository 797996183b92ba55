"""Cross-layer equalization: the float function stays, the quantized one gets better."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import (
    DECODED,
    FRAME,
    Builder,
    autoencoder,
    feeds,
    frames,
    random_weight,
)

from edge_codec.calibration.equalize import choose_shifts, equalized, pairs
from edge_codec.calibration.network import Network
from edge_codec.calibration.pipeline import EQUALIZATION, Settings, calibrate
from edge_codec.calibration.run import Runner, Score
from edge_codec.errors import CalibrationError


def outputs(network: Network, tensor: str) -> list[np.ndarray]:
    runner = Runner(network.proto.SerializeToString(), [tensor])
    return [runner.run({"frame": frame})[0] for frame in frames(3, seed=3)]


def test_the_float_function_stays_the_same_to_the_last_bit() -> None:
    network = Network(autoencoder(spread=100))
    shifts = choose_shifts(network, feeds())
    assert "a" in shifts
    assert max(map(abs, shifts["a"])) >= 3
    scaled = equalized(network, shifts)
    sums = network.layers[-1].sums
    for before, after in zip(outputs(network, sums), outputs(scaled, sums), strict=True):
        assert np.array_equal(before, after)
    first = network.layers[0].output
    assert not np.array_equal(outputs(network, first)[0], outputs(scaled, first)[0])


def test_channels_reach_alike_afterwards() -> None:
    network = Network(autoencoder(spread=100))
    scaled = equalized(network, choose_shifts(network, feeds()))

    def spread(of: Network) -> float:
        reach = np.max([x.max(axis=(0, 2, 3)) for x in outputs(of, of.layers[0].output)], axis=0)
        return float(reach.max() / reach.min())

    assert spread(network) > 50
    assert spread(scaled) < spread(network) / 5


def test_equalization_helps_where_channels_differ() -> None:
    model = autoencoder(spread=100)
    score = Score(model, feeds(seed=5))
    plain = calibrate(model, "0" * 64, feeds(), Settings(equalize=False, correct_bias=False))
    better = calibrate(model, "0" * 64, feeds(), Settings(equalize=True, correct_bias=False))
    assert score(better.model) > score(plain.model) + 3
    chosen = calibrate(model, "0" * 64, feeds(), Settings(correct_bias=False))
    assert chosen.table == better.table
    step = next(step for step in chosen.steps if step.name == EQUALIZATION)
    assert step.kept
    assert step.sqnr_db > chosen.steps[0].sqnr_db + 3


def branched(activation: str) -> bytes:
    """Two layers that read the first one's output, or one behind another activation."""
    rng = np.random.default_rng(0)
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", random_weight(rng, 4, 1, 3), relu=False)
    if activation == "Clip":
        x = builder.node("Clip", x, builder.constant("zero", 0.0), builder.constant("six", 0.5))
    else:
        x = builder.node(activation, x)
    y = builder.conv(x, "b", random_weight(rng, 1, 4, 3), relu=False)
    if activation == "Relu":
        y = builder.node("Add", y, builder.conv(x, "c", random_weight(rng, 1, 4, 1), relu=False))
    builder.frame_codes(y)
    return builder.model(FRAME, DECODED)


@pytest.mark.parametrize("activation", ["Relu", "Clip", "Sigmoid"])
def test_what_cannot_be_scaled_is_left_alone(activation: str) -> None:
    network = Network(branched(activation))
    assert pairs(network) == []
    assert choose_shifts(network, feeds()) == {}


def test_a_dead_channel_keeps_its_scale() -> None:
    rng = np.random.default_rng(0)
    weight = random_weight(rng, 4, 1, 3)
    weight[2] = 0
    builder = Builder()
    x = builder.conv(builder.frame_values(), "a", weight, np.array([0.1, 0.1, -1.0, 0.1]))
    builder.frame_codes(builder.conv(x, "b", random_weight(rng, 1, 4, 3), relu=False))
    network = Network(builder.model(FRAME, DECODED))
    shifts = choose_shifts(network, feeds())
    assert shifts.get("a", (0,) * 4)[2] == 0


def test_shifts_of_another_network_are_refused() -> None:
    network = Network(autoencoder())
    with pytest.raises(CalibrationError, match="equalizes 3 channels of 'a'"):
        equalized(network, {"a": (1, 0, 0)})
    with pytest.raises(CalibrationError, match="of 'z', which the network does not have"):
        equalized(network, {"z": (1,)})

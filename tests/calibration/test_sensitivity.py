"""Sensitivity finds the planted layer, mixed precision mends it, and the report says so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import DECODED, FRAME, Builder, autoencoder, feeds, random_weight

from edge_codec.calibration import pipeline
from edge_codec.calibration.pipeline import MIXED, Settings, calibrate, silent
from edge_codec.calibration.report import (
    draw_sensitivity,
    exactness,
    layer_rows,
    layer_table,
    step_table,
)
from edge_codec.calibration.run import Score
from edge_codec.calibration.sensitivity import Sensitivity
from edge_codec.calibration.table import Precision
from edge_codec.errors import CalibrationError


def with_a_bad_layer() -> bytes:
    """Four layers; `bad` reads a tensor with one channel 600 times larger than the others.

    Its weights undo the gain, and an Add that changes nothing keeps equalization from doing so.
    """
    rng = np.random.default_rng(0)
    gains = np.array([1.0, 1.0, 1.0, 600.0])[:, None, None, None]
    builder = Builder()
    first = np.abs(random_weight(rng, 4, 1, 3))
    x = builder.conv(builder.frame_values(), "good", first)
    x = builder.conv(x, "gain", gains * np.eye(4)[:, :, None, None])
    zero = builder.node("Mul", x, builder.constant("nothing", 0.0))
    x = builder.node("Add", x, zero)
    undone = np.abs(random_weight(rng, 4, 4, 1)) / gains.reshape(1, 4, 1, 1)
    x = builder.conv(x, "bad", undone)
    x = builder.conv(x, "last", np.abs(random_weight(rng, 1, 4, 1)) * 0.2, relu=False)
    builder.frame_codes(x)
    return builder.model(FRAME, DECODED)


def loss_of(model: bytes) -> object:
    """Loss in dB at the output, for tests: 60 minus the SQNR."""
    score = Score(model, feeds())
    return lambda found: max(0.0, 60.0 - min(60.0, score(found)))


def test_the_planted_layer_is_the_worst() -> None:
    model = with_a_bad_layer()
    result = calibrate(model, "0" * 64, feeds(), Settings(sensitivity=True), loss_of(model))
    by_name = {item.name: item for item in result.sensitivities}
    assert list(by_name) == ["good", "gain", "bad", "last"]
    worst = min(result.sensitivities, key=lambda item: item.sqnr_db)
    assert worst.name == "bad"
    others = [item.sqnr_db for name, item in by_name.items() if name != "bad"]
    assert worst.sqnr_db < min(others) - 10
    assert worst.psnr_loss_db == pytest.approx(60 - worst.sqnr_db)


def test_mixed_precision_raises_the_planted_layer_and_keeps_the_limit() -> None:
    model = with_a_bad_layer()
    loss = loss_of(model)
    plain = calibrate(model, "0" * 64, feeds(), Settings(), loss)
    assert loss(plain.model) > 32
    mixed = calibrate(model, "0" * 64, feeds(), Settings(limit=32.0), loss)
    assert loss(mixed.model) <= 32
    precisions = {name: layer.precision for name, layer in mixed.table.layers.items()}
    assert precisions["bad"] is Precision.FP16
    assert list(precisions.values()).count(Precision.INT8) == 3
    assert mixed.table.layers["bad"].bound is None
    assert [step.name for step in mixed.steps if step.name == MIXED] == [MIXED]


def test_float32_is_the_last_resort() -> None:
    model = autoencoder()
    mixed = calibrate(model, "0" * 64, feeds(), Settings(limit=0.0), loss_of(model))
    precisions = {layer.precision for layer in mixed.table.layers.values()}
    assert Precision.FP32 in precisions
    assert Precision.INT8 not in precisions


def test_a_limit_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(CalibrationError, match="even with all layers in float32"):
        calibrate(autoencoder(), "0" * 64, feeds(), Settings(limit=1.0), lambda _: 2.0)
    with pytest.raises(CalibrationError, match="needs a loss to keep a limit of"):
        calibrate(autoencoder(), "0" * 64, feeds(), Settings(limit=1.0))


def test_steps_are_kept_only_where_they_help() -> None:
    result = calibrate(autoencoder(), "0" * 64, feeds())
    best = result.steps[0].sqnr_db
    for step in result.steps[1:]:
        assert step.kept is (step.sqnr_db > best)
        best = max(best, step.sqnr_db)
    assert Score(autoencoder(), feeds())(result.model) == pytest.approx(best)


def test_a_step_that_does_harm_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    harm = {"a": (4, -4) * 4}
    monkeypatch.setattr(pipeline, "choose_shifts", lambda *_: harm)
    settings = Settings(correct_bias=False)
    result = calibrate(autoencoder(), "0" * 64, feeds(), settings)
    assert [step.kept for step in result.steps] == [True, False]
    assert result.table.equalization == {}
    forced = calibrate(autoencoder(), "0" * 64, feeds(), replace(settings, equalize=True))
    assert forced.table.equalization == harm


def test_report_has_every_layer() -> None:
    model = autoencoder()
    result = calibrate(model, "0" * 64, feeds(), Settings(sensitivity=True), loss_of(model))
    rows = layer_rows(result)
    assert [row["layer"] for row in rows] == ["a", "b", "c"]
    for row, layer in zip(rows, result.table.layers.values(), strict=True):
        assert row["bound"] == layer.bound
        assert row["exponent"] == result.table.tensors[layer.source].exponent
    json.dumps(rows, allow_nan=False)
    assert "0.00%" in layer_table(result)
    assert step_table(result).startswith("step")
    assert exactness(result).startswith("exact on every backend: no sum exceeds")
    mixed = calibrate(model, "0" * 64, feeds(), Settings(limit=0.0), loss_of(model))
    assert exactness(mixed).startswith("not exact on every backend")


def test_plot_names_every_layer_and_is_the_same_again() -> None:
    pytest.importorskip("matplotlib")
    items = [
        Sensitivity("analysis.0", Precision.INT8, 31.0, 0.02),
        Sensitivity("softmax", Precision.FP16, float("inf")),
    ]
    plot = draw_sensitivity(items)
    assert plot == draw_sensitivity(items)
    assert plot.startswith(b"<?xml")
    assert plot.count(b"analysis.0") >= 1
    assert plot.count(b"int8, +0.020 dB PSNR loss") >= 1


def test_progress_is_told_of_every_round() -> None:
    seen: dict[str, int] = {}

    def progress(items, total, what):
        for item in silent(items, total, what):
            seen[what] = seen.get(what, 0) + 1
            yield item

    settings = Settings(sensitivity=True)
    calibrate(autoencoder(), "0" * 64, feeds(), settings, progress=progress)
    assert seen["sensitivity"] == 3
    assert seen["observe"] >= 4

"""Quantized twins in torch: bit for bit what calibration emitted for the same network."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import FRAME, Builder, feeds, frames  # noqa: E402
from onnx import TensorProto  # noqa: E402
from torch import nn  # noqa: E402

from edge_codec.calibration.pipeline import Settings, apply_table, calibrate  # noqa: E402
from edge_codec.calibration.qat import seed  # noqa: E402
from edge_codec.calibration.run import Runner  # noqa: E402
from edge_codec.calibration.table import Precision, Table, read_table  # noqa: E402
from edge_codec.calibration.units import (  # noqa: E402
    QuantUnit,
    UnitScales,
    equalize_units,
    quantize_units,
    scales_of,
)
from edge_codec.errors import CalibrationError  # noqa: E402
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, ConvUnit, VQVAEConfig  # noqa: E402


class Stack(nn.Module):
    """Any module made of ConvUnits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvUnit(1, 6, 3)
        self.rest = nn.ModuleList([ConvUnit(6, 6, 3, stride=2), ConvUnit(6, 3, 1, relu=False)])
        with torch.no_grad():
            self.first.conv.weight[:3] *= 0.02  # channels for equalization to share
            self.first.conv.bias.uniform_(-0.1, 0.1)

    def forward(self, x):
        x = self.first(x)
        for unit in self.rest:
            x = unit(x)
        return x


@pytest.fixture(scope="module")
def stack() -> Stack:
    torch.manual_seed(1)
    return Stack().eval()


def exported(stack: Stack) -> bytes:
    """The stack as a float network whose layers are named as by torch's exporter, in a wrapper."""
    builder = Builder()
    x = builder.frame_values()
    for name, unit in stack.named_modules():
        if isinstance(unit, ConvUnit):
            weight, bias = (p.detach().numpy() for p in unit.parameters())
            x = builder.conv(x, f"model.{name}.conv", weight, bias, unit.relu, unit.conv.stride[0])
    builder.node("Identity", x, output="y")
    return builder.model(FRAME, ("y", TensorProto.FLOAT, ["n", 3, "h2", "w2"]))


def twin_of(stack: Stack, table: Table) -> Stack:
    return quantize_units(equalize_units(stack, table), scales_of(stack, table))


@pytest.mark.parametrize("settings", [Settings(), Settings(equalize=True, correct_bias=True)])
def test_twin_of_a_table_is_the_emitted_network_bit_for_bit(
    stack: Stack, settings: Settings
) -> None:
    result = calibrate(exported(stack), "0" * 64, feeds(), settings)
    table = read_table(result.table.to_json())
    assert bool(table.equalization) or not settings.equalize
    twin = twin_of(stack, table)
    frame = frames(1, 24, seed=7)[0]
    with torch.no_grad():
        found = twin(torch.from_numpy(frame).float() * CODE_SCALE).numpy()
    expected = Runner(result.model).run({"frame": frame})[0]
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) > 100


def test_weight_exponents_are_those_of_the_table(stack: Stack) -> None:
    model = exported(stack)
    table = calibrate(model, "0" * 64, feeds(), Settings(correct_bias=False)).table
    coarse = {
        name: replace(layer, weight_exponents=tuple(e + 1 for e in layer.weight_exponents))
        for name, layer in table.layers.items()
    }
    table = replace(table, layers=coarse)
    frame = frames(1, seed=7)[0]
    with torch.no_grad():
        found = twin_of(stack, table)(torch.from_numpy(frame).float() * CODE_SCALE).numpy()
    assert np.array_equal(found, Runner(apply_table(model, table).model).run({"frame": frame})[0])


def test_the_float_model_stays_what_it_was(stack: Stack) -> None:
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    result = calibrate(
        exported(stack), "0" * 64, feeds(), Settings(equalize=True, correct_bias=True)
    )
    twin_of(stack, result.table)
    assert all(torch.equal(before[name], value) for name, value in stack.state_dict().items())


def test_gradients_reach_every_unit(stack: Stack) -> None:
    table = calibrate(exported(stack), "0" * 64, feeds()).table
    twin = twin_of(stack, table)
    twin(torch.from_numpy(frames(1)[0]).float() * CODE_SCALE).square().mean().backward()
    for name, unit in twin.named_modules():
        if isinstance(unit, QuantUnit):
            assert unit.conv.weight.grad is not None
            assert unit.conv.weight.grad.abs().sum() > 0, name


def test_float_layers_of_a_table_stay_float(stack: Stack) -> None:
    table = calibrate(exported(stack), "0" * 64, feeds(), Settings(equalize=False)).table
    name = "model.rest.0"
    layer = replace(table.layers[name], precision=Precision.FP16)
    scales = scales_of(stack, replace(table, layers=table.layers | {name: layer}))
    assert list(scales) == ["first", "rest.1"]
    twin = quantize_units(stack, scales)
    assert isinstance(twin.rest[0], ConvUnit)
    assert isinstance(twin.rest[1], QuantUnit)


def test_names_that_are_no_units_are_refused(stack: Stack) -> None:
    with pytest.raises(CalibrationError, match="no unit 'second'"):
        quantize_units(stack, {"second": UnitScales(-7, -6)})
    with pytest.raises(CalibrationError, match="'rest' is a ModuleList"):
        quantize_units(stack, {"rest": UnitScales(-7, -6)})
    table = calibrate(exported(stack), "0" * 64, feeds(), Settings(equalize=True)).table
    with pytest.raises(CalibrationError, match="is no unit of the model"):
        equalize_units(nn.Sequential(ConvUnit(1, 1, 1)), table)


def test_a_table_seeds_the_vqvae() -> None:
    torch.manual_seed(0)
    sizes = {"fine": 4, "coarse": 8, "embed": 4, "encoder_depth": 1, "decoder_depth": 1}
    model = VQVAE(VQVAEConfig(codes=16, code_dim=4, **sizes)).eval()
    content = {
        "format": "edge-codec calibration table", "version": 1, "model_sha256": "0" * 64,
        "sample_sha256": "0" * 64, "activations": "uint8", "attention": {}, "equalization": {},
        "tensors": {
            "frame": {"exponent": -7, "dtype": "uint8", "observer": "exact", "clip_share": 0},
            "relu": {"exponent": -4, "dtype": "uint8", "observer": "mse", "clip_share": 0},
        },
        "layers": {
            "latents.analysis.layers.0": {
                "precision": "int8", "source": "frame", "output": "relu",
                "weight_exponents": [-8] * 4, "correction": [], "bound": 1,
            },
        },
    }  # fmt: skip
    seeded, exponents = seed(model, read_table(json.dumps(content).encode()))
    assert exponents == {"analysis.layers.0": -4}
    assert torch.equal(seeded.analysis.layers[0].conv.weight, model.analysis.layers[0].conv.weight)

"""Quantized twins of a network's units, to fine-tune it through the rounding.

Any module made of `edge_codec.nn.vqvae.ConvUnit`s can be given twins: `quantize_units` replaces the
units by name, with scales from anywhere, for example from the table that `edge-codec calibrate`
wrote for the same network (`scales_of`). The loop that trains the twin is the network's own.

The twins compute in float32 but only on integers times powers of two, below 2**24, so their output
is the integer network's output exactly, not approximately.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_codec.calibration.borders import LIMITS, SIGNED, UNSIGNED
from edge_codec.calibration.power_of_two import WEIGHT_MAX, choose_weight_exponents
from edge_codec.calibration.table import Precision, Table
from edge_codec.errors import CalibrationError
from edge_codec.nn.vqvae import ConvUnit

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class UnitScales:
    """How one unit is quantized.

    Attributes
    ----------
    input_exponent : int or None
        None leaves weights and bias in float: for a unit that is folded into a table.
    output_exponent : int or None
        None leaves the sums as they are.
    signed : bool
        Output int8 instead of uint8.
    weight_exponents : tuple of int
        One per output channel; chosen by least squared error where empty.
    correction : tuple of int
        Added to the bias, in units of the sum; empty for none.
    """

    input_exponent: int | None
    output_exponent: int | None
    signed: bool = False
    weight_exponents: tuple[int, ...] = ()
    correction: tuple[int, ...] = ()


class _RoundClip(torch.autograd.Function):
    """Round to a grid and clip; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
        scaled = x / scale
        ctx.save_for_backward((scaled >= low) & (scaled <= high))
        return scaled.round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fake_quantize(x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
    """Round `x` half to even to multiples of `scale` within `low..high` steps."""
    y: Tensor = _RoundClip.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return y


class QuantUnit(nn.Module):
    """Twin of a `ConvUnit` with 7-bit weights, an exact bias and 8-bit outputs.

    Clipping to uint8 is the ReLU, and the saturation of the last layer to valid frame codes.

    Parameters
    ----------
    unit : ConvUnit
        Shares its convolution.
    scales : UnitScales

    Attributes
    ----------
    input_exponent : int or None
    output_exponent : int
        0 where the sums are left as they are.
    low, high : int
        Integers of the output.
    weight_exponents : ndarray, shape (outputs,), int64
    """

    weight_scale: Tensor

    def __init__(self, unit: ConvUnit, scales: UnitScales) -> None:
        super().__init__()
        self.conv = unit.conv
        self.relu = unit.relu
        self.rounded = scales.output_exponent is not None
        self.input_exponent = scales.input_exponent
        self.output_exponent = scales.output_exponent or 0
        self.low, self.high = LIMITS[SIGNED if scales.signed else UNSIGNED]
        self.weight_exponents = _weight_exponents(unit, scales)
        self._correct(scales)
        self.register_buffer("weight_scale", torch.from_numpy(2.0**self.weight_exponents).float())

    def forward(self, x: Tensor) -> Tensor:
        """Apply to integers times 2**input_exponent, shape (n, inputs, h, w)."""
        conv = self.conv
        weight, bias = conv.weight, conv.bias
        if self.input_exponent is not None and bias is not None:
            scale = self.weight_scale
            weight = fake_quantize(weight, scale[:, None, None, None], -WEIGHT_MAX, WEIGHT_MAX)
            bias = fake_quantize(bias, scale * 2.0**self.input_exponent, -(2.0**23), 2.0**23)
        y = F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)
        if not self.rounded:
            return torch.relu(y) if self.relu else y
        return fake_quantize(y, 2.0**self.output_exponent, self.low, self.high)

    def _correct(self, scales: UnitScales) -> None:
        """Move the bias by whole units of the sum."""
        bias = self.conv.bias
        if not scales.correction or bias is None or self.input_exponent is None:
            return
        unit = np.exp2((self.weight_exponents + self.input_exponent).astype(np.float64))
        steps = np.rint(bias.detach().numpy() / unit) + np.array(scales.correction)
        bias.data = torch.from_numpy((steps * unit).astype(np.float32))


def quantize_units(model: Model, scales: Mapping[str, UnitScales]) -> Model:
    """Copy a float model with units replaced by their quantized twins.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    scales : mapping of str to UnitScales
        By name as in `model.named_modules()`; other units stay in float.

    Raises
    ------
    CalibrationError
        If a name is not that of a `ConvUnit`.
    """
    twin = copy.deepcopy(model)
    for name, chosen in scales.items():
        try:
            unit = twin.get_submodule(name)
        except AttributeError as error:
            raise CalibrationError(f"the model has no unit '{name}'") from error
        if not isinstance(unit, ConvUnit):
            raise CalibrationError(f"'{name}' is a {type(unit).__name__}, expected a ConvUnit")
        parent = twin.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], QuantUnit(unit, chosen))
    return twin


def scales_of(model: nn.Module, table: Table) -> dict[str, UnitScales]:
    """Return the scales that a calibration table has for a model's units.

    Parameters
    ----------
    model : nn.Module
        Its units are named as in the network that was exported, or that wraps it: unit `a.0` finds
        the layers `a.0` and `model.a.0`.
    table : Table
        Of `edge-codec calibrate`. Layers that it leaves in float have no scales.
    """
    names = [name for name, unit in model.named_modules() if isinstance(unit, ConvUnit)]
    found = {}
    for name, layer in table.layers.items():
        unit = _unit_of(name, names)
        if unit is not None and layer.precision is Precision.INT8:
            output = table.tensors.get(layer.output)
            found[unit] = UnitScales(
                table.tensors[layer.source].exponent,
                None if output is None else output.exponent,
                output is not None and output.dtype == SIGNED,
                layer.weight_exponents,
                layer.correction,
            )
    return found


def equalize_units(model: Model, table: Table) -> Model:
    """Copy a float model with the channels scaled as a table's equalization says."""
    scaled = copy.deepcopy(model)
    names = [name for name, unit in model.named_modules() if isinstance(unit, ConvUnit)]
    for name, shift in table.equalization.items():
        first = _unit_of(name, names)
        behind = (
            n for n, layer in table.layers.items() if layer.source == table.layers[name].output
        )
        second = _unit_of(next(behind, ""), names)
        if first is None or second is None:
            raise CalibrationError(f"the table equalizes '{name}', which is no unit of the model")
        factors = torch.exp2(torch.tensor(shift, dtype=torch.float32))
        with torch.no_grad():
            unit = scaled.get_submodule(first)
            for parameter in unit.parameters():
                parameter.div_(factors.reshape(-1, *(1,) * (parameter.ndim - 1)))
            scaled.get_submodule(second).get_parameter("conv.weight").mul_(factors[:, None, None])
    return scaled


def _unit_of(layer: str, units: Iterable[str]) -> str | None:
    """Return the unit that a layer is, by its name or the end of it."""
    matches = [name for name in units if layer == name or layer.endswith(f".{name}")]
    return max(matches, key=len, default=None)


def _weight_exponents(unit: ConvUnit, scales: UnitScales) -> NDArray[np.int64]:
    if scales.weight_exponents:
        return np.array(scales.weight_exponents, np.int64)
    return choose_weight_exponents(unit.conv.weight.detach().numpy())

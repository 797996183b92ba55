"""The integer twin of a DWT-CAL model: the arrays that `edge_codec.base.dwt_cal_vae` reads.

Everything that a decoder computes from is here: layers with the fraction bits of what flows between
them, biases and steps for each of the 64 qualities, the wavelet, the symbols' distributions.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_codec.base.dwt_cal_vae.encoding import CORRECTION_BITS
from edge_codec.base.dwt_cal_vae.numbers import (
    BALANCE_BITS,
    COEFFICIENTS,
    GATE_BITS,
    INPUT_BITS,
    PIXEL_BITS,
    QUALITIES,
    SCALE_BITS,
    SCALES,
    SIDE_BITS,
    SIDE_STEP_BITS,
    STEP_BITS,
)
from edge_codec.base.dwt_cal_vae.search import SCORES
from edge_codec.base.dwt_cal_vae.wavelet import GAIN_BITS
from edge_codec.base.dwt_cal_vae.wavelet import STEP_BITS as LIFTING_BITS
from edge_codec.errors import CalibrationError
from edge_codec.export.dwt_cal_layers import FloatLayer, LayerFile
from edge_codec.export.dwt_cal_ranges import Ranges, fraction_bits
from edge_codec.export.dwt_cal_tables import (
    attention_arrays,
    integer_lifting,
    laplace_table,
)
from edge_codec.nn.depth_unit import DepthUnit
from edge_codec.nn.dwt_cal import DwtCal
from edge_codec.nn.dwt_cal_parts import FEATURE_RANGE
from edge_codec.nn.laplace import LARGEST_LOG_SCALE, SMALLEST_LOG_SCALE
from edge_codec.nn.latent_prior import HEAD_GAIN, Expectation
from edge_codec.nn.quality import QualityTable
from edge_codec.nn.vqvae import ConvUnit

INTERVAL = (LARGEST_LOG_SCALE - SMALLEST_LOG_SCALE) / (SCALES - 1)
MEANS = (PIXEL_BITS - 2) + BALANCE_BITS.astype(np.int64)
"""Fraction bits of expected latents, whose channels are multiplied as the networks' inputs are."""

LARGEST_STEP = 1 << 18
"""Of the latents, in their unit: with the largest symbol a product stays within 32 bits."""

Bits = NDArray[np.int64]


class IntegerTwin:
    """Makes the arrays of both files.

    Parameters
    ----------
    model : DwtCal
        In evaluation mode.
    ranges : Ranges
        What it was observed to compute.

    Attributes
    ----------
    decoder, encoder : LayerFile
    """

    def __init__(self, model: DwtCal, ranges: Ranges) -> None:
        self._model = model
        self._ranges = ranges
        self.decoder, self.encoder = LayerFile(), LayerFile()
        self._bits: dict[str, int] = {}
        self._find_bits()
        for kind in ("key", "inter"):
            self._add_decoder(kind)
            self._add_encoder(kind)
        self._add_tables()

    def _find_bits(self) -> None:
        """Choose the fraction bits of all stacks; both kinds of frames leave the same features."""
        for name, module in self._model.named_modules():
            if isinstance(module, nn.Sequential):
                self._bits[name] = fraction_bits(self._ranges.stack(name))
        trunks = [f"{kind}.synthesis.units" for kind in ("key", "inter")]
        least = min(self._bits[name] for name in trunks)
        self._bits.update(dict.fromkeys(trunks, least))
        limit = int(FEATURE_RANGE[1] * 2.0**least)
        self.decoder.arrays["features_limit"] = np.array(min(limit, 32767), np.int32)

    # --------------------------------------------------------------------------- parts of a layer

    def _module(self, name: str) -> nn.Module:
        return self._model.get_submodule(name)

    def _float(
        self, name: str, table: str | None = None, rectified: bool | None = None
    ) -> FloatLayer:
        """Return a convolution, its bias plus those of a table of qualities."""
        module = self._module(name)
        conv = module.conv if isinstance(module, ConvUnit) else module
        if not isinstance(conv, nn.Conv2d) or conv.bias is None:
            raise CalibrationError(f"'{name}' is no convolution with a bias")
        bias = _array(conv.bias)[None]
        if table is not None:
            bias = bias + self._table(table)
        if rectified is None:
            rectified = isinstance(module, ConvUnit) and module.relu
        return FloatLayer(_array(conv.weight), bias, conv.stride[0], conv.groups > 1, rectified)

    def _table(self, name: str) -> NDArray[np.float64]:
        """Values of a table at all qualities, shape (64, channels)."""
        table = self._module(name)
        if not isinstance(table, QualityTable):
            raise CalibrationError(f"'{name}' is no table of qualities")
        with torch.no_grad():
            return _array(table(torch.arange(float(QUALITIES)))[:, :, 0, 0])

    def _given(self, name: str) -> int:
        return fraction_bits(self._ranges.given(name))

    def _add(
        self, file: LayerFile, name: str, layer: FloatLayer, inputs: Bits, bits: int | Bits
    ) -> None:
        outputs = np.broadcast_to(np.asarray(bits, np.int64), layer.weight.shape[:1])
        file.add(name, layer, inputs, outputs)

    def _add_units(self, file: LayerFile, name: str) -> None:
        stream = self._bits[name]
        for index, unit in enumerate(self._module(name).children()):
            if not isinstance(unit, DepthUnit):
                raise CalibrationError(f"'{name}' is no stack of units")
            here, bits = f"{name}.{index}", stream
            for part in ("expand", "depth", "project", "widen", "narrow"):
                layer = self._float(f"{here}.{part}")
                ends = part in ("project", "narrow")
                after = stream if ends else self._given(f"{here}.{part}")
                channels = len(layer.weight) if layer.depthwise else layer.weight.shape[1]
                self._add(file, f"{here}.{part}", layer, _same(channels, bits), after)
                bits = after

    # ----------------------------------------------------------------------------------- networks

    def _add_decoder(self, kind: str) -> None:
        add = partial(self._add, self.decoder)
        features = self._model.config.features
        context = self._add_context(kind)
        seen = _same(features, self._bits[f"{kind}.side_prior.units"])
        inputs = _same(COEFFICIENTS, INPUT_BITS)
        self._add_side(kind, context)
        if kind == "inter":
            add("inter.window", self._float("inter.window"), seen, GATE_BITS)
            head = self._head("inter.motion_prior.expect", 2, None, SCALE_BITS)
            layer, bits = head[0].rows(slice(2, 4)), head[1][2:4]
            add("inter.motion_prior.expect.head", layer, seen, bits)
        self._add_prior(kind, seen, inputs)
        stack = f"{kind}.synthesis.units"
        layer = self._float(f"{kind}.synthesis.enter", f"{kind}.synthesis.bias", True)
        add(f"{kind}.synthesis.enter", layer, _join(inputs, inputs, seen), self._bits[stack])
        self._add_units(self.decoder, stack)
        trunk = _same(features, self._bits[stack])
        leave = f"{kind}.synthesis.leave"
        add(leave, self._float(leave), trunk, GATE_BITS)
        self._add_filter(kind, trunk)

    def _add_context(self, kind: str) -> Bits:
        """Add what makes the context; return its fraction bits."""
        features = self._model.config.features
        if kind == "key":
            table = self._table("key.context.bias")
            bits = fraction_bits(float(np.abs(table).max()))
            self.decoder.arrays["key.context"] = np.rint(table * 2.0**bits).astype(np.int16)
            return _same(features, bits)
        stack = "inter.context.units"
        layer = self._float("inter.context.enter", "inter.context.bias", True)
        before = _same(features, self._bits["inter.synthesis.units"])
        inputs = _join(_same(COEFFICIENTS, INPUT_BITS), before)
        self._add(self.decoder, "inter.context.enter", layer, inputs, self._bits[stack])
        self._add_units(self.decoder, stack)
        return _same(features, self._bits[stack])

    def _add_side(self, kind: str, context: Bits) -> None:
        add, prior = partial(self._add, self.decoder), f"{kind}.side_prior"
        side = self._model.config.side
        reduced = self._given(f"{prior}.reduce")
        layer = self._float(f"{prior}.reduce")
        add(f"{prior}.reduce", layer, context, reduced)
        log_step = self._table(f"{prior}.step")
        head = self._head(f"{prior}.expect", side, log_step, SIDE_BITS)
        add(f"{prior}.expect.head", head[0], _same(len(layer.weight), reduced), head[1])
        steps = np.rint(np.exp2(log_step + SIDE_STEP_BITS))
        self.decoder.arrays[f"{prior}.step"] = _steps(prior, steps)
        wide = self._given(f"{prior}.widen")
        layer = self._float(f"{prior}.widen")
        add(f"{prior}.widen", layer, _same(side, SIDE_BITS), wide)
        inputs = _join(_same(len(layer.weight) // 4, wide), context)
        layer = self._float(f"{prior}.enter", f"{prior}.bias", True)
        add(f"{prior}.enter", layer, inputs, self._bits[f"{prior}.units"])
        self._add_units(self.decoder, f"{prior}.units")

    def _add_prior(self, kind: str, seen: Bits, inputs: Bits) -> None:
        add, prior = partial(self._add, self.decoder), f"{kind}.prior"
        layer = self._float(f"{prior}.enter", f"{prior}.bias", True)
        add(f"{prior}.enter", layer, _join(seen, inputs), self._bits[f"{prior}.units"])
        self._add_units(self.decoder, f"{prior}.units")
        trunk = _same(len(seen), self._bits[f"{prior}.units"])
        log_step = self._table(f"{prior}.step")
        head = self._head(f"{prior}.expect_first", COEFFICIENTS, log_step, MEANS)
        add(f"{prior}.expect_first.head", head[0], trunk, head[1])
        stack = f"{prior}.units_second"
        second = _join(trunk, inputs, inputs, _same(1, INPUT_BITS))
        layer = self._float(f"{prior}.enter_second")
        add(f"{prior}.enter_second", layer, second, self._bits[stack])
        self._add_units(self.decoder, stack)
        head = self._head(f"{prior}.expect_second", COEFFICIENTS, None, MEANS, more=True)
        add(f"{prior}.expect_second.head", head[0], _same(len(seen), self._bits[stack]), head[1])
        steps = np.rint(np.exp2(log_step + STEP_BITS))
        self.decoder.arrays[f"{prior}.step"] = _steps(prior, steps)

    def _head(
        self,
        name: str,
        latents: int,
        log_step: NDArray[np.float64] | None,
        mean_bits: int | Bits,
        more: bool = False,
    ) -> tuple[FloatLayer, Bits]:
        """Return an expectation's layer, its scales as indices of the table, and fraction bits.

        `more` is for what is added to another one's indices.
        """
        expectation = self._module(name)
        if not isinstance(expectation, Expectation):
            raise CalibrationError(f"'{name}' is no expectation")
        ones, gain = np.ones(latents), HEAD_GAIN / INTERVAL
        start = _array(expectation.start)[0, :, 0, 0] - (0.0 if more else SMALLEST_LOG_SCALE)
        offset = (start - (np.zeros((1, latents)) if log_step is None else log_step)) / INTERVAL
        layer = self._float(f"{name}.head").scaled(
            np.concatenate((ones, gain * ones)),
            np.concatenate((np.zeros_like(offset), offset), axis=1),
        )
        return layer, _join(_same(latents, 0) + mean_bits, _same(latents, SCALE_BITS))

    def _add_filter(self, kind: str, trunk: Bits) -> None:
        add, here, ranges = partial(self._add, self.decoder), f"{kind}.filter", self._ranges
        hint = self._given(f"{here}.hint")
        layer = self._float(f"{here}.hint")
        add(f"{here}.hint", layer, trunk, hint)
        spread = self._float(f"{here}.spread", f"{here}.bias")
        largest = ranges.given(f"{here}.spread") + ranges.given(f"{here}.bias")
        inner = fraction_bits(largest + ranges.given(f"{here}.enter"))
        add(f"{here}.spread", spread, _same(len(layer.weight), hint), inner)
        enter = self._float(f"{here}.enter", rectified=True)
        add(f"{here}.enter", enter, _same(enter.weight.shape[1], PIXEL_BITS), inner)
        width, middle = len(enter.weight), self._given(f"{here}.middle")
        add(f"{here}.middle", self._float(f"{here}.middle"), _same(width, inner), middle)
        add(f"{here}.leave", self._float(f"{here}.leave"), _same(width, middle), GATE_BITS)

    def _add_encoder(self, kind: str) -> None:
        add, side = partial(self._add, self.encoder), f"{kind}.side_analysis"
        features = self._model.config.features
        inputs = _same(COEFFICIENTS, INPUT_BITS)
        stack = "inter.context.units"
        context = self._bits[stack] if kind == "inter" else self._key_bits()
        scores = _same(SCORES if kind == "inter" else 0, INPUT_BITS)
        parts = _join(inputs, inputs, _same(features, context), scores)
        layer = self._float(f"{side}.enter")
        add(f"{side}.enter", layer, parts, self._bits[f"{side}.units"])
        self._add_units(self.encoder, f"{side}.units")
        trunk = _same(features, self._bits[f"{side}.units"])
        add(f"{side}.leave", self._float(f"{side}.leave"), trunk, SIDE_BITS)
        here = f"{kind}.analysis"
        seen = _same(features, self._bits[f"{kind}.side_prior.units"])
        enter = self._float(f"{here}.enter", rectified=True)
        stream = self._bits[f"{here}.units"]
        add(f"{here}.enter", enter, _join(inputs, inputs, seen), stream)
        self._add_units(self.encoder, f"{here}.units")
        trunk = _same(features, stream)
        add(f"{here}.leave", self._float(f"{here}.leave"), trunk, CORRECTION_BITS)
        arrays = attention_arrays(self._module(f"{here}.attention"), stream)
        self.encoder.arrays.update({f"{here}.attention.{k}": v for k, v in arrays.items()})

    def _key_bits(self) -> int:
        return fraction_bits(float(np.abs(self._table("key.context.bias")).max()))

    def _add_tables(self) -> None:
        steps, gains = integer_lifting(self._model.lifting, LIFTING_BITS)
        self.decoder.arrays |= {
            "wavelet.steps": steps,
            "wavelet.gains": np.rint(gains * 2.0**GAIN_BITS).astype(np.int64),
            "wavelet.inverse_gains": np.rint(2.0**GAIN_BITS / gains).astype(np.int64),
            "table": laplace_table(),
        }


def _array(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().double().numpy()


def _same(count: int, bits: int) -> Bits:
    return np.full(count, bits, np.int64)


def _join(*parts: Bits) -> Bits:
    return np.concatenate(parts)


def _steps(name: str, steps: NDArray[np.float64]) -> NDArray[np.int32]:
    if not 1 <= steps.min() <= steps.max() <= LARGEST_STEP:
        raise CalibrationError(
            f"'{name}' has steps of {steps.min():.0f} to {steps.max():.0f} units; 1 to "
            f"{LARGEST_STEP} are possible"
        )
    return steps.astype(np.int32)

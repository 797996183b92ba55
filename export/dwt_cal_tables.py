"""Tables of the integer DWT-CAL: distributions of symbols, and the encoder's attention."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_codec.base.dwt_cal_vae.encoding import HEAD
from edge_codec.base.dwt_cal_vae.numbers import SCALES
from edge_codec.errors import CalibrationError
from edge_codec.nn.cross_attention import SubbandAttention
from edge_codec.nn.laplace import LARGEST_LOG_SCALE, SMALLEST_LOG_SCALE
from edge_codec.nn.lifting import BANDS, Lifting

SYMBOLS = 256
TOTAL = 1 << 16


def laplace_table() -> NDArray[np.uint32]:
    """Cumulative frequencies of the symbols, shape (64, 257), uint32.

    Symbol 0 is the value 0, symbols 2k - 1 and 2k are k and -k, and the last one stands for all
    values beyond 127 and for those too rare for a frequency of their own. Every row ends at 65536;
    what rounding leaves over goes to the value 0.

    Notes
    -----
    P(0) = 1 - exp(-1 / (2 b)), P(r) = exp(-(|r| - 1/2) / b) (1 - exp(-1 / b)) / 2.
    """
    logs = np.linspace(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE, SCALES)
    rate = np.exp2(-logs)[:, None]
    size = np.arange(1, SYMBOLS // 2)
    other = -0.5 * np.exp(-(size - 0.5) * rate) * np.expm1(-rate)
    frequencies = np.zeros((SCALES, SYMBOLS), np.int64)
    frequencies[:, 1:-1] = np.rint(np.repeat(other, 2, axis=1) * TOTAL)
    tail = np.exp(-(size[-1] + 0.5) * rate[:, 0])
    frequencies[:, -1] = np.maximum(np.rint(tail * TOTAL), 1)
    frequencies[:, 0] = TOTAL - frequencies[:, 1:].sum(axis=1)
    if frequencies.min() < 0 or frequencies[:, 0].min() < 1:
        raise CalibrationError("a distribution's frequencies do not sum to 65536")
    table = np.zeros((SCALES, SYMBOLS + 1), np.uint32)
    table[:, 1:] = np.cumsum(frequencies, axis=1)
    return table


def integer_lifting(lifting: Lifting, bits: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Round the steps of a wavelet to fractions of 2**bits, and scale its coefficients to fit.

    Rounded steps change the length of the basis functions, and the brightness of a constant frame
    by a thousandth: the gains are those of the rounded ones.
    """
    rounded = copy.deepcopy(lifting)
    with torch.no_grad():
        steps = torch.round(rounded.steps.double() * 2.0**bits)
        rounded.steps.copy_(steps * 2.0**-bits)
        rounded.gains.fill_(1.0)
    gains: NDArray[np.float64] = rounded._norms().double().numpy()[:, 0, 0]
    return steps.numpy().astype(np.int32), gains


def attention_arrays(module: nn.Module, bits: int) -> dict[str, NDArray[np.float32]]:
    """Weights of the encoder's attention, which may be floats.

    Parameters
    ----------
    module : SubbandAttention
    bits : int
        Fraction bits of its outputs.

    Returns
    -------
    dict of str to ndarray, float32
        `embed` (400, 64) and `embed_bias`: queries, own keys and values, keys and values of the
        reference, eight of each for every subband; `project` and `project_bias`, times 2**bits.
    """
    if not isinstance(module, SubbandAttention):
        raise CalibrationError("the analysis has no attention between subbands")
    mask = np.zeros((len(BANDS) * HEAD, sum(BANDS)))
    start = 0
    for band, channels in enumerate(BANDS):
        mask[band * HEAD : (band + 1) * HEAD, start : start + channels] = 1.0
        start += channels
    parts = [(module.query, 1), (module.own, 2), (module.reference, 2)]
    embed = [_weight(layer) * np.tile(mask, (count, 1)) for layer, count in parts]
    arrays = {
        "embed": np.concatenate(embed),
        "embed_bias": np.concatenate([_bias(layer) for layer, _ in parts]),
        "project": _weight(module.project) * 2.0**bits,
        "project_bias": _bias(module.project) * 2.0**bits,
    }
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def _weight(layer: nn.Conv2d) -> NDArray[np.float64]:
    values: NDArray[np.float64] = layer.weight.detach().double().numpy()[:, :, 0, 0]
    return values


def _bias(layer: nn.Conv2d) -> NDArray[np.float64]:
    if layer.bias is None:
        raise CalibrationError("a layer of the attention has no bias")
    values: NDArray[np.float64] = layer.bias.detach().double().numpy()
    return values

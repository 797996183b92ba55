"""Which layers suffer from 8 bits, and which precision each one needs.

Sensitivity: one layer at a time is quantized, weights and input, while all others stay in float32,
and the loss at the network's output is measured on the sample. Layers whose loss is large go to
fp16, and if that is not enough to float32, one after the other, until the whole network keeps a
given limit. Attention begins at fp16, below which it never goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_codec.calibration.emit import emit
from edge_codec.calibration.network import Network
from edge_codec.calibration.table import Precision, Table
from edge_codec.errors import CalibrationError

Loss = Callable[[bytes], float]
"""Model -> loss in dB against the float model, at the end of the chain the network stands in."""

Progress = Callable[[Iterable[Any], "int | None", str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What quantizing one layer alone costs.

    Attributes
    ----------
    name : str
        Of the layer, or of the Softmax of an attention.
    precision : Precision
        What it was quantized to: int8, or fp16 for attention.
    sqnr_db : float
        Signal over quantization noise at the network's output; lower is worse.
    psnr_loss_db : float or None
        Loss at the end of the chain, where there is one.
    """

    name: str
    precision: Precision
    sqnr_db: float
    psnr_loss_db: float | None = None


def in_float(table: Table) -> Table:
    """Return the table with every layer and attention in float32."""
    layers = {n: replace(layer, precision=Precision.FP32) for n, layer in table.layers.items()}
    return replace(table, layers=layers, attention=dict.fromkeys(table.attention, Precision.FP32))


def measure(
    network: Network,
    table: Table,
    score: Callable[[bytes], float],
    loss: Loss | None,
    progress: Progress,
) -> list[Sensitivity]:
    """Quantize one layer at a time.

    Parameters
    ----------
    network : Network
        The float network, equalized as the table says.
    table : Table
        With all layers in int8.
    score : callable
        Model -> SQNR in dB.
    loss : callable or None
        Model -> PSNR loss in dB.
    progress : callable
        Wraps iterables: (items, number or None, what is done) -> the same items.

    Returns
    -------
    list of Sensitivity
        In the order of the network, attention last.
    """
    plain = in_float(table)
    names = [*table.layers, *table.attention]
    found = []
    for name in progress(names, len(names), "sensitivity"):
        model = emit(network, _restored(plain, table, name))
        precision = table.layers[name].precision if name in table.layers else table.attention[name]
        lost = None if loss is None else loss(model)
        found.append(Sensitivity(name, precision, score(model), lost))
    return found


def assign(
    network: Network,
    table: Table,
    sensitivities: Sequence[Sensitivity],
    loss: Loss,
    limit: float,
    progress: Progress,
) -> Table:
    """Raise the precision of the most sensitive layers until the loss keeps a limit.

    Parameters
    ----------
    sensitivities : sequence of Sensitivity
        What `measure` found.
    loss : callable
        Model -> loss in dB, of the whole network.
    limit : float
        Largest loss allowed.

    Raises
    ------
    CalibrationError
        If even float32 exceeds it.
    """
    by_noise = sorted(sensitivities, key=lambda item: item.sqnr_db)
    steps = [(item.name, Precision.FP16) for item in by_noise if item.name in table.layers]
    steps += [(item.name, Precision.FP32) for item in by_noise]
    found = loss(emit(network, table))
    for name, precision in progress(steps, len(steps), "precision"):
        if found <= limit:
            return table
        table = _raised(table, name, precision)
        found = loss(emit(network, table))
    if found <= limit:
        return table
    raise CalibrationError(
        f"even with all layers in float32 the loss is {found:.3g} dB, more than {limit:g}; is the "
        "limit right?"
    )


def _restored(plain: Table, table: Table, name: str) -> Table:
    """Return the float table with one entry of the quantized one."""
    if name in table.layers:
        return replace(plain, layers=plain.layers | {name: table.layers[name]})
    return replace(plain, attention=plain.attention | {name: table.attention[name]})


def _raised(table: Table, name: str, precision: Precision) -> Table:
    if name in table.layers:
        layer = replace(table.layers[name], precision=precision, correction=(), bound=None)
        return replace(table, layers=table.layers | {name: layer})
    return replace(table, attention=table.attention | {name: precision})

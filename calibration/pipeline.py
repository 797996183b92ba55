"""Calibration from end to end: a float ONNX file and a sample of frames to a Q/DQ ONNX file.

Power-of-two scales first; then cross-layer equalization, mixed precision and bias correction, each
measured at the network's output. Equalization and bias correction are kept only where they help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_codec.calibration import sensitivity
from edge_codec.calibration.bias import correct_biases
from edge_codec.calibration.borders import UNSIGNED
from edge_codec.calibration.emit import emit
from edge_codec.calibration.equalize import choose_shifts, equalized
from edge_codec.calibration.network import Network
from edge_codec.calibration.onnx_file import sha256
from edge_codec.calibration.plan import make_table
from edge_codec.calibration.prove import Proof, prove
from edge_codec.calibration.run import Feed, Score, observe
from edge_codec.calibration.sensitivity import Loss, Progress, Sensitivity
from edge_codec.calibration.table import Table
from edge_codec.errors import CalibrationError

SCALES = "power-of-two scales"
EQUALIZATION = "cross-layer equalization"
MIXED = "mixed precision"
BIAS = "bias correction"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to calibrate.

    Attributes
    ----------
    observer : str
        Rule that chooses the scales of activations.
    activations : str
        `uint8` where no value is negative: exact at the network's borders, and a bit finer. `int8`
        for backends that know nothing else, such as TensorRT.
    equalize, correct_bias : bool or None
        None keeps the step if it helps.
    sensitivity : bool
        Whether to measure every layer alone.
    limit : float or None
        Loss in dB that layers in fp16 and float32 are to keep; None leaves all layers in int8.
    threads : int
        Of ONNX Runtime.
    """

    observer: str = "mse"
    activations: str = UNSIGNED
    equalize: bool | None = None
    correct_bias: bool | None = None
    sensitivity: bool = False
    limit: float | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """The effect of one step.

    Attributes
    ----------
    name : str
    sqnr_db : float
        Signal over quantization noise at the network's output, with this step.
    kept : bool
    """

    name: str
    sqnr_db: float
    kept: bool


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What calibration gives.

    Attributes
    ----------
    model : bytes
        The Q/DQ ONNX file.
    table : Table
    proof : Proof
        Which layers, and whether the whole network, are exact.
    steps : tuple of Step
    sensitivities : tuple of Sensitivity
        Empty unless asked for.
    """

    model: bytes
    table: Table
    proof: Proof
    steps: tuple[Step, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()


def silent(items: Iterable[Any], total: int | None, what: str) -> Iterable[Any]:
    """Show no progress."""
    del total, what
    return items


def calibrate(
    model: bytes,
    sample_sha256: str,
    feeds: Sequence[Feed],
    settings: Settings | None = None,
    loss: Loss | None = None,
    progress: Progress = silent,
) -> Result:
    """Quantize a float network.

    Parameters
    ----------
    model : bytes
        Float ONNX file.
    sample_sha256 : str
        Of the frames that the feeds were made of.
    feeds : sequence of Feed
        Inputs of the network by name, one for each frame.
    settings : Settings, optional
    loss : callable, optional
        Model -> PSNR loss in dB at the end of the chain that the network stands in;
        `settings.limit` is a limit of it.
    progress : callable
        Wraps iterables: (items, number or None, what is done) -> the same items.

    Raises
    ------
    CalibrationError
        If the network has no layers to quantize, overflows, or cannot keep the limit, or a limit
        is given without a way to measure the loss.
    """
    settings = Settings() if settings is None else settings
    return _Calibration(model, sample_sha256, feeds, settings, loss, progress).run()


def apply_table(model: bytes, table: Table) -> Result:
    """Make the quantized network again from the float one and a table.

    Raises
    ------
    CalibrationError
        If the table belongs to another model.
    """
    table.check_belongs(sha256(model), table.sample_sha256)
    network = Network(model, table.activations == UNSIGNED)
    network = equalized(network, table.equalization)
    quantized = emit(network, table)
    return Result(quantized, table, _proof(network, quantized))


def _proof(network: Network, quantized: bytes) -> Proof:
    """Prove the quantized network, its layers by the names of the float one's."""
    proof = prove(quantized)
    layers = {layer.name: proof.layers[layer.node.name] for layer in network.layers}
    return replace(proof, layers=layers)


class _Calibration:
    """State between the steps: the network, the table so far, and what it scores."""

    def __init__(
        self,
        model: bytes,
        sample_sha256: str,
        feeds: Sequence[Feed],
        settings: Settings,
        loss: Loss | None,
        progress: Progress,
    ) -> None:
        if not feeds:
            raise CalibrationError("there are no frames to calibrate on")
        self._network = Network(model, settings.activations == UNSIGNED)
        if not self._network.layers:
            raise CalibrationError(
                "the network has no float convolution or product with constant weights; is it "
                "quantized already?"
            )
        self._hashes = (sha256(model), sample_sha256)
        self._feeds = feeds
        self._settings = settings
        self._progress = progress
        self._score = Score(model, feeds, settings.threads)
        if settings.limit is not None and loss is None:
            raise CalibrationError(
                "mixed precision needs a loss to keep a limit of: name the networks before or "
                "behind this one, so that frames come out"
            )
        self._loss = loss
        self._steps: list[Step] = []

    def run(self) -> Result:
        """Take all steps."""
        self._table = self._scaled(self._network)
        self._sqnr = self._score(emit(self._network, self._table))
        self._steps.append(Step(SCALES, self._sqnr, kept=True))
        if self._settings.equalize is not False:
            self._equalize()
        sensitivities = self._measure_sensitivity()
        self._mix(sensitivities)
        if self._settings.correct_bias is not False:
            self._correct_bias()
        model = emit(self._network, self._table)
        proof = _proof(self._network, model)
        return Result(model, self._table, proof, tuple(self._steps), tuple(sensitivities))

    def _scaled(self, network: Network) -> Table:
        feeds = self._progress(self._feeds, len(self._feeds), "observe")
        observers = observe(network, feeds, self._settings.threads)
        return make_table(network, observers, self._hashes, self._settings.observer)

    def _equalize(self) -> None:
        shifts = choose_shifts(self._network, self._feeds, self._settings.threads)
        if not shifts:
            return
        network = equalized(self._network, shifts)
        table = replace(self._scaled(network), equalization=shifts)
        if self._try(EQUALIZATION, network, table, self._settings.equalize):
            self._network = network

    def _measure_sensitivity(self) -> list[Sensitivity]:
        if not self._settings.sensitivity and self._settings.limit is None:
            return []
        return sensitivity.measure(
            self._network, self._table, self._score, self._loss, self._progress
        )

    def _mix(self, sensitivities: Sequence[Sensitivity]) -> None:
        limit = self._settings.limit
        if limit is None or self._loss is None:
            return
        self._table = sensitivity.assign(
            self._network, self._table, sensitivities, self._loss, limit, self._progress
        )
        self._sqnr = self._score(emit(self._network, self._table))
        self._steps.append(Step(MIXED, self._sqnr, kept=True))

    def _correct_bias(self) -> None:
        table = correct_biases(self._network, self._table, self._feeds, self._settings.threads)
        self._try(BIAS, self._network, table, self._settings.correct_bias)

    def _try(self, name: str, network: Network, table: Table, wanted: bool | None) -> bool:
        """Measure a step; keep it if it is wanted, or helps."""
        sqnr = self._score(emit(network, table))
        kept = wanted is True or sqnr > self._sqnr
        self._steps.append(Step(name, sqnr, kept))
        if kept:
            self._table, self._sqnr = table, sqnr
        return kept

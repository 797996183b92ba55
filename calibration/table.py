"""The calibration table: every choice that turns a float network into its quantized one.

A table belongs to one ONNX file and one sample of frames, by their SHA-256. With the file it is
enough to make the quantized network again, bit for bit; the sample is not needed any more. It is
kept as JSON, and read back with suspicion: a table is data from outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, TypeVar

from edge_codec.calibration.borders import LIMITS, SIGNED, UNSIGNED
from edge_codec.errors import CalibrationError

FORMAT = "edge-codec calibration table"
VERSION = 1
MAX_BYTES = 64 << 20
MAX_EXPONENT = 100
"""Largest magnitude of an exponent: float32 ends at 2**127, and sums need some room."""

MAX_CORRECTION = 1 << 24
_HASH = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class Precision(str, Enum):
    """How a layer computes, from the cheapest on."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class TensorScale:
    """Scale of an activation.

    Attributes
    ----------
    exponent : int
        A step is 2**exponent.
    dtype : str
        `uint8` or `int8`.
    observer : str
        Rule that chose the exponent; `exact` where the network itself says it.
    clip_share : float
        Share of the sample's values that saturate.
    """

    exponent: int
    dtype: str
    observer: str
    clip_share: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerScale:
    """How one layer computes.

    Attributes
    ----------
    precision : Precision
    source : str
        Tensor whose scale is that of the layer's input.
    output : str
        Tensor that the layer makes, behind its activation.
    weight_exponents : tuple of int
        One per output channel.
    correction : tuple of int
        Bias correction in units of the sum, one per output channel; empty for none.
    bound : int or None
        Largest possible magnitude of a sum; None for a float layer.
    """

    precision: Precision
    source: str
    output: str
    weight_exponents: tuple[int, ...]
    correction: tuple[int, ...] = ()
    bound: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """All choices of a calibration.

    Attributes
    ----------
    model_sha256, sample_sha256 : str
        Of the float ONNX file, and of the sample of frames.
    activations : str
        `uint8` where no value is negative, or `int8` everywhere.
    tensors : dict of str to TensorScale
        By tensor name.
    layers : dict of str to LayerScale
        By layer name.
    attention : dict of str to Precision
        By name of the Softmax node.
    equalization : dict of str to tuple of int
        Output channel `i` of the layer is divided by 2**k[i] before quantization, and the layer
        behind it multiplies again.
    """

    model_sha256: str
    sample_sha256: str
    activations: str = UNSIGNED
    tensors: dict[str, TensorScale] = field(default_factory=dict)
    layers: dict[str, LayerScale] = field(default_factory=dict)
    attention: dict[str, Precision] = field(default_factory=dict)
    equalization: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the table as a JSON file."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return (json.dumps(content, indent=1) + "\n").encode()

    def check_belongs(self, model_sha256: str, sample_sha256: str) -> None:
        """Refuse a table of another model or sample.

        Raises
        ------
        CalibrationError
            If a hash differs.
        """
        for what, here, wanted in (
            ("model", self.model_sha256, model_sha256),
            ("sample", self.sample_sha256, sample_sha256),
        ):
            if here != wanted:
                raise CalibrationError(
                    f"the calibration table belongs to another {what} (SHA-256 {here[:16]}..., not "
                    f"{wanted[:16]}...); use that {what}, or --force to calibrate anew"
                )


def read_table(data: bytes) -> Table:
    """Read a table from the bytes of its JSON file.

    Raises
    ------
    CalibrationError
        If it is no table, or a value is missing, superfluous or out of range.
    """
    if len(data) > MAX_BYTES:
        raise CalibrationError(f"a table of {len(data)} bytes; at most {MAX_BYTES} are believed")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"the calibration table is no JSON: {error}") from error
    fields = _fields(content, "table", {"format", "version", *Table.__dataclass_fields__})
    if fields["format"] != FORMAT or fields["version"] != VERSION:
        raise CalibrationError(
            f"'{fields['format']}' version {fields['version']} is no '{FORMAT}' of version "
            f"{VERSION}; calibrate anew"
        )
    table = Table(
        _hash(fields["model_sha256"], "model_sha256"),
        _hash(fields["sample_sha256"], "sample_sha256"),
        _one_of(fields["activations"], "activations", LIMITS),
        _each(fields["tensors"], "tensors", _tensor),
        _each(fields["layers"], "layers", _layer),
        _each(fields["attention"], "attention", _attention),
        _each(fields["equalization"], "equalization", _exponents),
    )
    for name, scale in table.tensors.items():
        if scale.dtype == UNSIGNED and table.activations == SIGNED:
            raise _bad(f"tensors.{name}.dtype", scale.dtype, SIGNED)
    for name, layer in table.layers.items():
        if layer.precision is Precision.INT8 and layer.source not in table.tensors:
            raise _bad(f"layers.{name}.source", layer.source, "a name in 'tensors'")
    return table


def _tensor(value: Any, where: str) -> TensorScale:
    fields = _fields(value, where, set(TensorScale.__dataclass_fields__))
    share = fields["clip_share"]
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise _bad(f"{where}.clip_share", share, "a number from 0 to 1")
    return TensorScale(
        _integer(fields["exponent"], f"{where}.exponent", MAX_EXPONENT),
        _one_of(fields["dtype"], f"{where}.dtype", LIMITS),
        _text(fields["observer"], f"{where}.observer"),
        float(share),
    )


def _layer(value: Any, where: str) -> LayerScale:
    fields = _fields(value, where, set(LayerScale.__dataclass_fields__))
    precision = _precision(fields["precision"], f"{where}.precision")
    exponents = _exponents(fields["weight_exponents"], f"{where}.weight_exponents")
    correction = _integers(fields["correction"], f"{where}.correction", MAX_CORRECTION)
    if len(correction) not in (0, len(exponents)):
        raise _bad(f"{where}.correction", len(correction), f"{len(exponents)} numbers, or none")
    bound = fields["bound"]
    if bound is not None and (bound := _integer(bound, f"{where}.bound", 1 << 62)) < 0:
        raise _bad(f"{where}.bound", bound, "a positive number")
    source = _text(fields["source"], f"{where}.source")
    output = _text(fields["output"], f"{where}.output")
    return LayerScale(precision, source, output, exponents, correction, bound)


def _attention(value: Any, where: str) -> Precision:
    precision = _precision(value, where)
    if precision is Precision.INT8:
        raise _bad(where, value, "fp16 or fp32")
    return precision


def _precision(value: Any, where: str) -> Precision:
    return Precision(_one_of(value, where, [item.value for item in Precision]))


def _exponents(value: Any, where: str) -> tuple[int, ...]:
    return _integers(value, where, MAX_EXPONENT)


def _integers(value: Any, where: str, limit: int) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise _bad(where, value, "a list")
    return tuple(_integer(item, where, limit) for item in value)


def _integer(value: Any, where: str, limit: int) -> int:
    if type(value) is not int or abs(value) > limit:
        raise _bad(where, value, f"an integer of magnitude up to {limit}")
    return value


def _hash(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _bad(where, value, "64 hexadecimal digits")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _bad(where, value, "a string")
    return value


def _one_of(value: Any, where: str, known: Any) -> str:
    if not isinstance(value, str) or value not in known:
        raise _bad(where, value, f"one of {', '.join(known)}")
    return value


def _fields(value: Any, where: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, value, "an object")
    if value.keys() != names:
        odd = ", ".join(sorted(value.keys() ^ names))
        raise CalibrationError(
            f"calibration table: {where} lacks, or has too many of, these fields: {odd[:200]}; "
            "calibrate anew"
        )
    return value


def _each(value: Any, where: str, read: Callable[[Any, str], T]) -> dict[str, T]:
    if not isinstance(value, dict):
        raise _bad(where, value, "an object")
    return {name: read(item, f"{where}.{name}") for name, item in value.items()}


def _bad(where: str, value: Any, expected: str) -> CalibrationError:
    return CalibrationError(
        f"calibration table: {where} is {str(value)[:60]!r}, expected {expected}; calibrate anew"
    )

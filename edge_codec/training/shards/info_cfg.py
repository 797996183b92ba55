"""`Info.cfg` of an ACDC patient: phases, disease group, height and weight.

    ED: 1
    ES: 12
    Group: DCM
    Height: 184.0
    NbFrame: 30
    Weight: 95.0

ED is end-diastole, the filled heart, and ES end-systole. The file counts phases from 1; everything
here counts them from 0. Bernard et al., "Deep Learning Techniques for Automatic MRI Cardiac
Multi-Structures Segmentation and Diagnosis", IEEE TMI 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_codec.errors import SourceError

FILE_NAME = "Info.cfg"

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""Normal, dilated, hypertrophic, after myocardial infarction, abnormal right ventricle."""


@dataclass(frozen=True, slots=True)
class PatientInfo:
    """What is known about a patient besides the images.

    Attributes
    ----------
    ed_phase, es_phase : int or None
        Phases of end-diastole and end-systole, from 0.
    n_phases : int or None
        Phases that the whole cine should have.
    group : str or None
        Disease; one of `GROUPS` in ACDC.
    height_cm, weight_kg : float or None
    """

    ed_phase: int | None = None
    es_phase: int | None = None
    n_phases: int | None = None
    group: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None


def parse_info(text: str, *, partial: bool) -> PatientInfo:
    """Read the text of an `Info.cfg`.

    Parameters
    ----------
    text : str
    partial : bool
        Whether ED, ES and NbFrame may be absent and the group may be any text.

    Raises
    ------
    SourceError
        If a line or a value is impossible, or what must be there is absent.
    """
    values = _parse_lines(text)
    absent = [name for name in ("ED", "ES", "NbFrame") if name not in values]
    if absent and not partial:
        raise SourceError(
            f"{FILE_NAME} lacks {', '.join(absent)}; add what is known, or accept it with --partial"
        )
    info = PatientInfo(
        ed_phase=_phase(values, "ED"),
        es_phase=_phase(values, "ES"),
        n_phases=_whole(values, "NbFrame"),
        group=values.get("Group"),
        height_cm=_positive(values, "Height"),
        weight_kg=_positive(values, "Weight"),
    )
    if info.group is not None and info.group not in GROUPS and not partial:
        raise SourceError(
            f"{FILE_NAME} names group '{info.group}', expected one of {', '.join(GROUPS)}; "
            "correct it, or accept it with --partial"
        )
    _check_phases(info)
    return info


def _parse_lines(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, separator, value = (part.strip() for part in line.partition(":"))
        if not separator or not name or not value:
            raise SourceError(f"line {number} of {FILE_NAME} is {line!r}, expected 'Name: value'")
        if name in values:
            raise SourceError(f"line {number} of {FILE_NAME} states {name} again; remove one")
        values[name] = value
    return values


def _check_phases(info: PatientInfo) -> None:
    for name, phase in (("ED", info.ed_phase), ("ES", info.es_phase)):
        if phase is not None and info.n_phases is not None and phase >= info.n_phases:
            raise SourceError(
                f"{FILE_NAME} says {name}: {phase + 1}, which is outside 1 to "
                f"NbFrame: {info.n_phases}; correct one of them"
            )
    if info.ed_phase is not None and info.ed_phase == info.es_phase:
        raise SourceError(
            f"{FILE_NAME} gives phase {info.ed_phase + 1} as both ED (end-diastole) and ES "
            "(end-systole); correct one of them"
        )


def _phase(values: dict[str, str], name: str) -> int | None:
    number = _whole(values, name)
    return None if number is None else number - 1


def _whole(values: dict[str, str], name: str) -> int | None:
    if name not in values:
        return None
    text = values[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) < 1 << 31):
        raise SourceError(f"{FILE_NAME} says {name}: {text[:20]}, expected a whole number from 1")
    return int(text)


def _positive(values: dict[str, str], name: str) -> float | None:
    if name not in values:
        return None
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SourceError(f"{FILE_NAME} says {name}: {values[name]}, expected a number above 0")
    return number

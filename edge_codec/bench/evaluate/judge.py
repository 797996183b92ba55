"""Decoded frames against what they were: labels, volumes, motion, on top of the image's figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.evaluate.choice import FILE, Choice
from edge_codec.bench.evaluate.expert import Labels
from edge_codec.bench.evaluate.network import Segment, segmented
from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.measure import OK, measure
from edge_codec.bench.rd.trial import Coded, Tier, Trial
from edge_codec.metrics.clinical import (
    LV,
    STRUCTURES,
    correlation,
    dice,
    hd95,
    heart_function,
    temporal_ratio,
    volume_curve,
    volume_preservation,
)

if TYPE_CHECKING:
    from edge_codec.bench.evaluate.exam import Exam

Spacing = tuple[float, float, float]
POINTS = 100.0  # a Dice of 0.01 is one point
# Of a file that was decoded elsewhere nobody knows them.
RATES = ("stream_bytes", "bpp", "ratio_to_16_bit", "encode_ms", "decode_ms", "timed", "other_work")


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """One codec at one setting on one exam.

    Attributes
    ----------
    record : dict
        The figures, as a JSON object.
    decoded : ndarray, shape (slices, phases, rows, columns), or None
        Decoded voxels; None where the codec failed.
    labels : ndarray, the same shape, uint8, or None
        The network's labels of them.
    """

    record: dict[str, Any]
    decoded: NDArray[Any] | None = None
    labels: Labels | None = None


def judge(exam: Exam, choice: Choice, segment: Segment, threads: int) -> Judgement:
    """Code an exam, verify and judge what comes back.

    Parameters
    ----------
    exam : Exam
    choice : Choice
        Codec and setting.
    segment : callable
        The network.
    threads : int
        Threads that the codec was allowed, for the record.
    """
    held: list[Coded] = []
    trial = _found(exam.case, choice)

    def code(case: Case) -> Coded:
        held.append(trial.code(case))
        return held[-1]

    result = measure(exam.case, choice.codec, replace(trial, code=code))
    record = {**result.record(), "threads": threads, "selection": choice.selection}
    if choice.codec.name == FILE:
        record.update(dict.fromkeys(RATES))
    if result.status != OK:
        return Judgement(record)
    decoded = held[-1].voxels
    labels = segmented(segment, decoded)
    return Judgement({**record, **clinical_fields(exam, decoded, labels)}, decoded, labels)


def clinical_fields(exam: Exam, decoded: NDArray[Any], labels: Labels) -> dict[str, Any]:
    """Return the clinical figures of decoded voxels and the network's labels of them."""
    named, spacing = exam.phases.named(), exam.spacing_mm
    at_phases = {name: labels[:, phase] for name, phase in named.items()}
    against_expert = drop = None
    if exam.reference is not None:
        expert = {name: exam.expert[phase] for name, phase in named.items()}
        against_expert = compare_phases(at_phases, expert, spacing)
        drop = dice_drop(exam.reference, against_expert)
    curves = [volume_curve(found, LV, spacing) for found in (exam.network, labels)]
    function = heart_function(**at_phases, spacing_mm=spacing).fields()
    before = heart_function(**exam.network_at_phases(), spacing_mm=spacing).fields()
    against_network: dict[str, Any] = compare_phases(at_phases, exam.network_at_phases(), spacing)
    against_network["all"] = {"dice": _mean_dice(labels, exam.network)}
    return {
        "function": function,
        "difference": {name: _difference(value, before[name]) for name, value in function.items()},
        "against_network": against_network,
        "against_expert": against_expert,
        "dice_drop_points": drop,
        "lv_curve": curves[1].tolist(),
        "lv_volume_preservation": volume_preservation(*curves),
        "lv_curve_correlation": correlation(*curves),
        "temporal_ratio": temporal_ratio(exam.case.voxels, decoded),
        "temporal_ratio_heart": temporal_ratio(exam.case.voxels, decoded, exam.case.heart.region),
    }


def compare_phases(
    found: Mapping[str, Labels], reference: Mapping[str, Labels], spacing_mm: Spacing
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Compare labels phase by phase, each structure as one 3-D object.

    Parameters
    ----------
    found, reference : mapping of str to ndarray, shape (slices, rows, columns), uint8
        Labels by the name of the phase.
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column); 0 where unknown.

    Returns
    -------
    dict
        Phase -> 'dice' and 'hd95_mm' -> structure -> figure, None where it does not exist.
    """
    known = all(step > 0 for step in spacing_mm)
    compared: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, labels in found.items():
        masks = {structure: (labels == label, reference[name] == label)
                 for structure, label in STRUCTURES.items()}  # fmt: skip
        compared[name] = {
            "dice": {structure: dice(*pair) for structure, pair in masks.items()},
            "hd95_mm": {
                structure: hd95(*pair, spacing_mm) if known else None
                for structure, pair in masks.items()
            },
        }
    return compared


def dice_drop(reference: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return how many points of Dice against the expert decoding costs.

    Parameters
    ----------
    reference, found : mapping
        `compare_phases` of the network's labels of original and of decoded frames with the
        expert's.

    Returns
    -------
    dict of str to float or None
        By structure, mean over the phases, positive where decoding makes it worse; 'mean' over the
        structures.
    """
    drops: dict[str, float | None] = {}
    for structure in STRUCTURES:
        pairs = [(reference[phase]["dice"][structure], found[phase]["dice"][structure])
                 for phase in reference]  # fmt: skip
        drops[structure] = mean_of_known(
            None if None in pair else POINTS * (pair[0] - pair[1]) for pair in pairs
        )
    drops["mean"] = mean_of_known(drops.values())
    return drops


def mean_of_known(values: Any) -> float | None:
    """Return the mean of those values that exist; None where none does."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _mean_dice(found: Labels, reference: Labels) -> dict[str, float | None]:
    """Mean over the phases of each structure's Dice, and over the structures."""
    means = {
        structure: mean_of_known(
            dice(found[:, phase] == label, reference[:, phase] == label)
            for phase in range(found.shape[1])
        )
        for structure, label in STRUCTURES.items()
    }
    return {**means, "mean": mean_of_known(means.values())}


def _found(case: Case, choice: Choice) -> Trial:
    """Return the trial of a choice; where none can be found, one that says why when it is run."""
    try:
        return choice.find(case)
    # A foreign library may raise anything while a setting is looked for; `measure` knows how to
    # make a row of it.
    except Exception as error:
        raised = error

    def fail(_: Case) -> Coded:
        raise raised

    return Trial(choice.selection, Tier.LOSSY, fail)

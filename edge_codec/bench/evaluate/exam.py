"""An exam on trial: its voxels, an expert's labels, and what the network says of the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_codec.bench.evaluate.expert import (
    Labels,
    Phases,
    find_phases,
    read_info,
    read_labels,
)
from edge_codec.bench.evaluate.judge import compare_phases
from edge_codec.bench.evaluate.network import Segment, segmented
from edge_codec.bench.rd.case import Case, load_case
from edge_codec.metrics.clinical import LV, heart_function, volume_curve


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """What decoded frames are judged by.

    Attributes
    ----------
    case : Case
        The voxels, as `edge-codec bench rd` has them.
    expert : mapping of int to ndarray, shape (slices, rows, columns), uint8
        An expert's labels by phase; empty where there are none.
    network : ndarray, shape (slices, phases, rows, columns), uint8
        The network's labels of the original frames.
    phases : Phases
        End-diastole and end-systole, the same ones for original and decoded frames.
    reference : mapping or None
        How far the network is from the expert on original frames (`compare_phases`); None where
        the expert has not labeled both phases.
    """

    case: Case
    expert: Mapping[int, Labels]
    network: Labels
    phases: Phases
    reference: Mapping[str, Any] | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxel centers along (slice, row, column); 0 where unknown."""
        return self.case.cine.info.spacing_mm

    def record(self) -> dict[str, Any]:
        """Return what is known of the exam without any codec, as a JSON object."""
        phases = self.phases.named()
        expert = expert_at_phases(self.expert, self.phases)
        functions = {
            source: heart_function(**labels, spacing_mm=self.spacing_mm).fields()
            if labels
            else None
            for source, labels in (("expert", expert), ("network", self.network_at_phases()))
        }
        return {
            **self.case.describe(),
            "spacing_mm": list(self.spacing_mm),
            "phases": {**phases, "found_by": self.phases.found_by},
            "function": functions,
            "network_against_expert": self.reference,
            "lv_curve": volume_curve(self.network, LV, self.spacing_mm).tolist(),
        }

    def network_at_phases(self) -> dict[str, Labels]:
        """Return the network's labels of the original at end-diastole and end-systole."""
        return at_phases(self.network, self.phases)


def load_exam(path: Path, name: str, segment: Segment) -> Exam:
    """Read an exam with everything beside it, and let the network label it.

    Parameters
    ----------
    path : Path
        Anything that `edge_codec.io.open_source` reads.
    name : str
        Name of the case.
    segment : callable
        The network.

    Raises
    ------
    SourceError
        If the exam or its labels cannot be read or do not fit.
    """
    case = load_case(path, name=name)
    rows, columns = case.voxels.shape[2:]
    expert = read_labels(path, (case.voxels.shape[0], case.voxels.shape[1], rows, columns))
    network = segmented(segment, case.voxels)
    curve = volume_curve(network, LV, case.cine.info.spacing_mm)
    phases = find_phases(read_info(path), expert, curve)
    labeled = expert_at_phases(expert, phases)
    reference = None
    if labeled:
        spacing = case.cine.info.spacing_mm
        reference = compare_phases(at_phases(network, phases), labeled, spacing)
    return Exam(case, expert, network, phases, reference)


def at_phases(labels: Labels, phases: Phases) -> dict[str, Labels]:
    """Return labels (slices, phases, rows, columns) at end-diastole and end-systole, by name."""
    return {name: labels[:, phase] for name, phase in phases.named().items()}


def expert_at_phases(expert: Mapping[int, Labels], phases: Phases) -> dict[str, Labels]:
    """Return an expert's labels by the names of both phases; empty where one is missing."""
    named = phases.named()
    if not all(phase in expert for phase in named.values()):
        return {}
    return {name: expert[phase] for name, phase in named.items()}

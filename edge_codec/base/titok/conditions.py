"""Facts about patient and phase as the network takes them, and as the stream's header keeps them.

None is required; zeros stand for what is not known. What the decoder is told it finds in the
header's model data, 7 bytes, so nobody's height or weight is in a stream unless it was given.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import BitstreamError, SpecError

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""Disease groups of ACDC (Bernard et al., 2018, section II)."""

CLINICAL = 12
MOST_HEIGHT_CM = 300.0
MOST_WEIGHT_KG = 1000.0
MOST_PHASES = 65_535

_DATA = struct.Struct("<BHHH")
MODEL_DATA_SIZE = _DATA.size


@dataclass(frozen=True, slots=True)
class ClinicalFacts:
    """What is told about the patient and the cycle.

    Attributes
    ----------
    height_cm, weight_kg : float
        Kept to 0.1; 0 where unknown.
    group : str
        One of `GROUPS`; empty where unknown.
    n_phases : int
        Phases of a heart cycle, so that a frame's phase is known; 0 where unknown.

    Raises
    ------
    SpecError
        If one is out of range.
    """

    height_cm: float = 0.0
    weight_kg: float = 0.0
    group: str = ""
    n_phases: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, value, most in (
            ("height_cm", self.height_cm, MOST_HEIGHT_CM),
            ("weight_kg", self.weight_kg, MOST_WEIGHT_KG),
        ):
            if not (math.isfinite(value) and (value == 0 or 1 <= value <= most)):
                raise SpecError(f"{name} is {value}; use 1 to {most:g}, or 0 where it is unknown")
        if self.group and self.group not in GROUPS:
            raise SpecError(
                f"group '{self.group}' is unknown; use one of {', '.join(GROUPS)}, or leave it out"
            )
        if not 0 <= self.n_phases <= MOST_PHASES:
            raise SpecError(f"n_phases is {self.n_phases}; use up to {MOST_PHASES}, 0 for unknown")

    def vector(self, phase: int) -> NDArray[np.float32]:
        """Return the network's input of a frame, shape (12,).

        Height and weight, each with a 1 where it is known; sine and cosine of the phase, and a 1;
        one number for each group.
        """
        vector = np.zeros(CLINICAL, np.float32)
        if self.height_cm:
            vector[0:2] = self.height_cm / 100 - 1.7, 1
        if self.weight_kg:
            vector[2:4] = self.weight_kg / 100 - 0.75, 1
        if self.n_phases:
            angle = 2 * math.pi * (phase % self.n_phases) / self.n_phases
            vector[4:7] = math.sin(angle), math.cos(angle), 1
        if self.group:
            vector[7 + GROUPS.index(self.group)] = 1
        return vector

    def pack(self) -> bytes:
        """Return the facts as a header's model data."""
        group = GROUPS.index(self.group) + 1 if self.group else 0
        tenths = (round(10 * value) for value in (self.height_cm, self.weight_kg))
        return _DATA.pack(group, *tenths, self.n_phases)


def unpack_facts(model_data: bytes) -> ClinicalFacts:
    """Read what `ClinicalFacts.pack` wrote.

    Raises
    ------
    BitstreamError
        If it is nothing that `pack` writes.
    """
    if len(model_data) != _DATA.size:
        raise BitstreamError(
            f"model data of {len(model_data)} bytes; model TITOK has {_DATA.size}: the header is "
            "none that edge-codec writes"
        )
    group, height, weight, n_phases = _DATA.unpack(model_data)
    if group > len(GROUPS):
        raise BitstreamError(f"model data name group {group}; known are 0 to {len(GROUPS)}")
    try:
        return ClinicalFacts(height / 10, weight / 10, GROUPS[group - 1] if group else "", n_phases)
    except SpecError as error:
        raise BitstreamError(f"model data hold impossible facts: {error}") from error


def told_cycle(n_phases: int) -> int:
    """Return the phases of a cycle as `ClinicalFacts` takes them: 0 where they are too many."""
    return n_phases if n_phases <= MOST_PHASES else 0

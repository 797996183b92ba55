"""What a cardiac report says, from labels: volumes, ejection fractions, myocardial mass.

A volume is the number of a structure's voxels times the volume of one, over all slices of a phase,
as the ACDC challenge counts it (Bernard et al., IEEE TMI 37(11), 2018): no interpolation between
slices, no correction of the base. Where the spacing of the voxels is not known there are no
volumes, but the ejection fraction, a ratio, is there.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError

# Labels as ACDC numbers them.
RV, MYOCARDIUM, LV = 1, 2, 3
STRUCTURES = {"lv": LV, "myocardium": MYOCARDIUM, "rv": RV}
MUSCLE_G_PER_ML = 1.05
"""Density of myocardium, as Schulz-Menger et al. use it, J Cardiovasc Magn Reson 22(19), 2020."""
_ML_PER_MM3 = 1e-3


@dataclass(frozen=True, slots=True)
class HeartFunction:
    """Volumes and function of one heart, from the labels of two phases.

    Attributes
    ----------
    lv_edv_ml, lv_esv_ml, rv_edv_ml, rv_esv_ml : float or None
        Volumes of the ventricles' cavities at end-diastole and end-systole.
    lv_ef_percent, rv_ef_percent : float or None
        Ejection fractions; None where the end-diastolic volume is 0.
    myocardium_ed_ml, myocardium_es_ml : float or None
        Volume of the left ventricle's muscle.
    mass_g : float or None
        Its mass at end-diastole, `MUSCLE_G_PER_ML` times the volume.

    Volumes and mass are None where the spacing is unknown.
    """

    lv_edv_ml: float | None
    lv_esv_ml: float | None
    lv_ef_percent: float | None
    rv_edv_ml: float | None
    rv_esv_ml: float | None
    rv_ef_percent: float | None
    myocardium_ed_ml: float | None
    myocardium_es_ml: float | None
    mass_g: float | None

    def fields(self) -> dict[str, float | None]:
        """Return the figures by name, in the order of the attributes."""
        return asdict(self)


def heart_function(
    ed: NDArray[Any], es: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> HeartFunction:
    """Compute volumes and function from the labels of two phases.

    Parameters
    ----------
    ed, es : ndarray, shape (slices, rows, columns), integer
        Labels at end-diastole and end-systole: `RV`, `MYOCARDIUM`, `LV`.
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column); 0 where unknown.

    Raises
    ------
    FrameError
        If the shapes differ.
    """
    if ed.shape != es.shape:
        raise FrameError(
            f"the labels at end-diastole have shape {ed.shape}, at end-systole {es.shape}; both "
            "must be of one exam"
        )
    ml = voxel_ml(spacing_mm)
    counts = {name: (int(np.count_nonzero(ed == label)), int(np.count_nonzero(es == label)))
              for name, label in STRUCTURES.items()}  # fmt: skip

    def volume(name: str, phase: int) -> float | None:
        return None if ml is None else counts[name][phase] * ml

    muscle = volume("myocardium", 0)
    return HeartFunction(
        volume("lv", 0),
        volume("lv", 1),
        ejection_fraction(*counts["lv"]),
        volume("rv", 0),
        volume("rv", 1),
        ejection_fraction(*counts["rv"]),
        muscle,
        volume("myocardium", 1),
        None if muscle is None else MUSCLE_G_PER_ML * muscle,
    )


def ejection_fraction(end_diastolic: float, end_systolic: float) -> float | None:
    """Return the share of the volume that a beat ejects, in percent.

    Parameters
    ----------
    end_diastolic, end_systolic : float
        Volumes in one unit.

    Returns
    -------
    float or None
        None where the end-diastolic volume is 0; negative where the other one is larger.
    """
    if end_diastolic <= 0:
        return None
    return 100 * (end_diastolic - end_systolic) / end_diastolic


def voxel_ml(spacing_mm: tuple[float, float, float]) -> float | None:
    """Return the volume of a voxel in ml; None where a distance is unknown."""
    if not all(step > 0 for step in spacing_mm):
        return None
    return math.prod(spacing_mm) * _ML_PER_MM3


def volume_curve(
    labels: NDArray[Any], label: int, spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return a structure's volume in every phase.

    Parameters
    ----------
    labels : ndarray, shape (slices, phases, rows, columns), integer
    label : int
        `RV`, `MYOCARDIUM` or `LV`.
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column); 0 where unknown.

    Returns
    -------
    ndarray, shape (phases,)
        In ml; in voxels where the spacing is unknown.
    """
    counts = np.count_nonzero(labels == label, axis=(0, 2, 3))
    curve: NDArray[np.float64] = counts * (voxel_ml(spacing_mm) or 1.0)
    return curve


def phases_of_curve(curve: NDArray[np.float64]) -> tuple[int, int]:
    """Return the phases of the largest and of the smallest volume of the left ventricle.

    Of equal volumes the first, counted from 0: end-diastole and end-systole where nobody has said.
    """
    return int(np.argmax(curve)), int(np.argmin(curve))


def volume_preservation(original: NDArray[Any], decoded: NDArray[Any]) -> float | None:
    """Return how much of a volume curve is kept: 1 minus sum |v' - v| over sum v.

    1 is all of it in every phase. Volumes that are too large count like those that are too small.

    Parameters
    ----------
    original, decoded : ndarray, shape (phases,)
        Volumes in one unit.

    Returns
    -------
    float or None
        None where the original has no volume.
    """
    whole = float(np.sum(original))
    if whole <= 0:
        return None
    return 1 - float(np.abs(np.subtract(decoded, original)).sum()) / whole

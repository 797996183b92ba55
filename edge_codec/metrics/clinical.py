"""Clinical measures: what decoding does to what is read off a heart. NumPy only.

- `overlap`: Dice, Hausdorff distance and its 95th percentile of two segmentations.
- `heart_function`: volumes, ejection fractions and mass from labels; the phases to take them from.
- `agreement`: Bland and Altman's bias and limits over patients, with confidence intervals.
- `temporal`: whether motion is kept.

Each module states its definitions and their sources; this one gathers their names. For research
only: none of it is a diagnosis, nor validated as one.
"""

from __future__ import annotations

from edge_codec.metrics.agreement import BlandAltman, Mean, bland_altman, mean_of, student_t
from edge_codec.metrics.heart_function import (
    LV,
    MUSCLE_G_PER_ML,
    MYOCARDIUM,
    RV,
    STRUCTURES,
    HeartFunction,
    ejection_fraction,
    heart_function,
    phases_of_curve,
    volume_curve,
    volume_preservation,
    voxel_ml,
)
from edge_codec.metrics.overlap import dice, hausdorff, hd95, surface, surface_distances
from edge_codec.metrics.temporal import correlation, temporal_ratio

__all__ = [
    "LV",
    "MUSCLE_G_PER_ML",
    "MYOCARDIUM",
    "RV",
    "STRUCTURES",
    "BlandAltman",
    "HeartFunction",
    "Mean",
    "bland_altman",
    "correlation",
    "dice",
    "ejection_fraction",
    "hausdorff",
    "hd95",
    "heart_function",
    "mean_of",
    "phases_of_curve",
    "student_t",
    "surface",
    "surface_distances",
    "temporal_ratio",
    "volume_curve",
    "volume_preservation",
    "voxel_ml",
]

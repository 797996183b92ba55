"""A folder in ACDC's layout whose hearts are rings, and a small network for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from acdc_samples import write_nifti
from numpy.typing import NDArray

import edge_codec.training
from edge_codec.training.segmentation import TrainingConfig, read_config

CONFIG = Path(edge_codec.training.__file__).parent / "configs" / "segmentation.yaml"
WIDTHS = (4, 6, 8, 8)


def heart(rows: int, columns: int, radius: float, seed: int) -> tuple[NDArray, NDArray]:
    """A frame and its labels, (rows, columns): bright cavities, a dark wall, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - rows / 2, x - 0.6 * columns)
    beside = np.hypot(y - rows / 2, x - 0.25 * columns) <= 0.15 * columns
    labels = np.select([distance <= radius, distance <= radius + 3, beside], [3, 2, 1], 0)
    samples = np.array([300.0, 800.0, 100.0, 900.0])[labels] + rng.normal(0, 20, labels.shape)
    return np.rint(samples).astype(np.int16), labels.astype(np.uint8)


def write_case(data: Path, case: str, seed: int) -> None:
    """Write a patient: 4D and two labeled frames of a crop, one frame of a full field of view."""
    crop, full = data / "acdc" / case, data / "fullfov" / case
    crop.mkdir(parents=True)
    full.mkdir(parents=True)
    # NIfTI is (x, y, z): each frame is transposed, with one slice.
    phases = [heart(36, 40, radius, seed) for radius in (8, 6, 5, 7)]
    exam = np.stack([samples.T[..., None] for samples, _ in phases], axis=-1)
    write_nifti(crop / f"{case}_4d.nii.gz", exam)
    for number in (1, 3):
        samples, labels = phases[number - 1]
        write_nifti(crop / f"{case}_frame{number:02d}.nii.gz", samples.T[..., None])
        write_nifti(crop / f"{case}_frame{number:02d}_gt.nii.gz", labels.T[..., None])
    samples, labels = heart(70, 60, 9, seed + 100)
    write_nifti(full / f"{case}_frame01.nii.gz", samples.T[..., None])
    write_nifti(full / f"{case}_frame01_gt.nii.gz", labels.T[..., None])


def write_data(data: Path, cases: tuple[str, ...] = ("patient001", "patient014")) -> None:
    for seed, case in enumerate(cases):
        write_case(data, case, seed)


def tiny_config(**train: object) -> TrainingConfig:
    """The shipped configuration on small squares and a small network; patient014 is held out."""
    config = read_config(CONFIG)
    values = {"steps": 3, "batch": 2, "warmup_steps": 1, "log_every": 1, "validate_every": 3}
    return dataclasses.replace(
        config,
        widths=WIDTHS,
        augment=dataclasses.replace(config.augment, size=32, deform=0.01, turn=0.1),
        train=dataclasses.replace(config.train, **{**values, **train}),
    )

"""Small patients in ACDC's layout, whole unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SLICES, PHASES, ROWS, COLUMNS = 2, 6, 12, 10
ED, ES = 1, 4  # as Info.cfg counts

INFO = {"ED": ED, "ES": ES, "Group": "DCM", "Height": 184.0, "NbFrame": PHASES, "Weight": 95.0}


def voxels_of(seed: int, phases: int = PHASES) -> NDArray[np.int16]:
    """Voxels as NIfTI orders them: (x, y, z, t)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 900, (COLUMNS, ROWS, SLICES, phases)).astype(np.int16)


def labels_of(radius: float) -> NDArray[np.uint8]:
    """Labels (x, y, z): an LV of a radius within a ring of myocardium, and an RV beside."""
    x, y = np.mgrid[:COLUMNS, :ROWS]
    distance = np.hypot(x - 4, y - 5)
    labels = np.select([distance <= radius, distance <= radius + 1.2, x >= 8], [3, 2, 1], 0)
    return np.repeat(labels.astype(np.uint8)[..., None], SLICES, axis=2)


def write_nifti(path: Path, voxels: NDArray[Any], spacing: float = 1.5) -> None:
    image = nib.Nifti1Image(voxels, np.eye(4))
    zooms = (spacing, spacing, 10.0, 1.0)
    image.header.set_zooms(zooms[: voxels.ndim])
    nib.save(image, path)


def write_info(folder: Path, **changes: Any) -> None:
    """Write Info.cfg; None leaves a line out."""
    values = {**INFO, **changes}
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n")


def write_patient(root: Path, name: str, seed: int = 0, **info: Any) -> Path:
    """Write a patient with labels of ED and ES; return its folder."""
    folder = root / name
    folder.mkdir(parents=True)
    write_info(folder, **info)
    voxels = voxels_of(seed)
    write_nifti(folder / f"{name}_4d.nii.gz", voxels)
    for number, radius in ((ED, 3.0), (ES, 2.0)):
        write_nifti(folder / f"{name}_frame{number:02d}.nii.gz", voxels[..., number - 1])
        write_nifti(folder / f"{name}_frame{number:02d}_gt.nii.gz", labels_of(radius))
    return folder


def write_patients(root: Path, count: int) -> list[str]:
    """Write so many patients; return their names."""
    names = [f"patient{number:03d}" for number in range(1, count + 1)]
    for seed, name in enumerate(names):
        write_patient(root, name, seed)
    return names

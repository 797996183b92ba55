from pathlib import Path

import numpy as np
import pytest

from edge_codec.bench.rd.case import load_case
from edge_codec.io import open_source

SAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


@pytest.fixture(scope="session")
def heart():
    """Voxels of a real heart: 2 slices x 3 phases of 66 x 65, int16."""
    frames = [frame for frame in open_source(SAMPLE).frames() if frame.phase_index % 7 == 0]
    voxels = np.zeros((2, 3, 66, 65), np.int16)
    for frame in frames:
        voxels[frame.slice_index, frame.phase_index // 7] = frame.samples[96:162, 96:161]
    return voxels


@pytest.fixture(scope="session")
def heart_file(heart, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "heart.npy"
    np.save(path, heart)
    return path


@pytest.fixture(scope="session")
def heart_case(heart_file):
    return load_case(heart_file)


@pytest.fixture
def make_case(tmp_path):
    """Return a function: voxels -> case."""

    def make(voxels, name="made"):
        path = tmp_path / f"{name}.npy"
        np.save(path, voxels)
        return load_case(path)

    return make

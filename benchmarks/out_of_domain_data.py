"""Images that are no cine of a heart: from installed packages, or generated.

Nothing of it is shipped. Packages are those of this project's extras; what their test folders hold
may change with their versions, which records therefore name.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.io import open_source

EXAMPLE = Path(__file__).parent.parent / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES = 8


@dataclass(frozen=True, slots=True)
class OtherCase:
    """One kind of image.

    Attributes
    ----------
    name : str
        For tables.
    what : str
        What it shows.
    source : str
        The package and its file, or how it is made.
    license : str
        Under which it may be used.
    load : callable
        Returns integers, shape (slices, phases, rows, columns).
    """

    name: str
    what: str
    source: str
    license: str
    load: Callable[[], NDArray[Any]]

    def voxels(self) -> NDArray[np.uint16]:
        """Return the voxels, shifted up where some are negative.

        Raises
        ------
        ImportError, OSError
            If the package or the file is not there.
        """
        stored = self.load().astype(np.int64)
        return np.ascontiguousarray(stored - min(0, int(stored.min())), np.uint16)


def _heart() -> NDArray[Any]:
    source = open_source(EXAMPLE)
    frames = np.stack([frame.samples for frame in source.frames()])
    return frames.reshape(-1, source.info.n_slices, *source.info.frame_shape).swapaxes(0, 1)


def _nifti(name: str) -> NDArray[Any]:
    """Return a file of nibabel's tests: volumes without time have one phase."""
    import nibabel

    path = Path(nibabel.__file__).parent / "tests" / "data" / name
    stored = np.asanyarray(nibabel.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]
    return np.transpose(stored.reshape(*stored.shape[:3], -1), (2, 3, 1, 0))


def _dicom(name: str) -> NDArray[Any]:
    """Return a file of pydicom's tests; of colors, the first channel."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        raise FileNotFoundError(f"pydicom {pydicom.__version__} has no test file {name}")
    data = pydicom.dcmread(str(path))
    pixels = data.pixel_array
    if data.SamplesPerPixel > 1:
        pixels = pixels[..., 0]
    return pixels.reshape(1, -1, *pixels.shape[-2:])


def _matplotlib_head() -> NDArray[Any]:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "s1045.ima.gz"
    return np.frombuffer(gzip.decompress(path.read_bytes()), ">u2").reshape(1, 1, 256, 256)


def screen(phases: int = PHASES) -> NDArray[np.uint8]:
    """Return text that scrolls, three rows of pixels from one phase to the next."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(1)
    letters = [chr(ord("a") + i) for i in range(26)]
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(200)]
    frames = []
    for phase in range(phases):
        image = Image.new("L", (256, 256), 255)
        draw = ImageDraw.Draw(image)
        for line in range(22):
            text = " ".join(words[8 * line : 8 * line + 8])
            draw.text((4, 20 + 12 * line - 3 * phase), text, fill=0)
        draw.rectangle((0, 0, 255, 15), fill=40)
        draw.text((6, 2), "a window", fill=230)
        frames.append(np.asarray(image))
    return np.stack(frames)[None]


def noise(phases: int = PHASES) -> NDArray[np.uint16]:
    """Return uniform noise of 12 bits, new in every phase."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 4096, (1, phases, 128, 128), dtype=np.uint16)


def constant(phases: int = PHASES) -> NDArray[np.uint16]:
    """Return frames of one value."""
    return np.full((1, phases, 128, 128), 700, np.uint16)


_NIBABEL, _PYDICOM = "nibabel, tests/data/", "pydicom, data/test_files/"
_MIT, _MADE = "MIT", "generated"

CASES = (
    OtherCase("heart", "cine MRI, what the models are made for", f"examples/{EXAMPLE.name}",
              "CC0", _heart),
    OtherCase("EPI", "brain, echo planar MRI, 2 volumes", _NIBABEL + "example4d.nii.gz", _MIT,
              lambda: _nifti("example4d.nii.gz")),
    OtherCase("fMRI", "part of a brain over time", _NIBABEL + "functional.nii", _MIT,
              lambda: _nifti("functional.nii")),
    OtherCase("T1 part", "part of a brain, T1 MRI", _NIBABEL + "anatomical.nii", _MIT,
              lambda: _nifti("anatomical.nii")),
    OtherCase("T1 head", "head, T1 MRI", "matplotlib, sample_data/s1045.ima.gz", "matplotlib's",
              _matplotlib_head),
    OtherCase("MR small", "MRI, scaled down", _PYDICOM + "MR_small.dcm", _MIT,
              lambda: _dicom("MR_small.dcm")),
    OtherCase("abdomen", "MRI with contrast", _PYDICOM + "examples_overlay.dcm", _MIT,
              lambda: _dicom("examples_overlay.dcm")),
    OtherCase("CT spine", "CT, scaled down", _PYDICOM + "CT_small.dcm", _MIT,
              lambda: _dicom("CT_small.dcm")),
    OtherCase("CT head", "CT", _PYDICOM + "J2K_pixelrep_mismatch.dcm", _MIT,
              lambda: _dicom("J2K_pixelrep_mismatch.dcm")),
    OtherCase("ultrasound", "still with text, first channel", _PYDICOM + "examples_jpeg2k.dcm",
              _MIT, lambda: _dicom("examples_jpeg2k.dcm")),
    OtherCase("echo", "ultrasound cine, coded as JPEG before", _PYDICOM + "examples_ybr_color.dcm",
              _MIT, lambda: _dicom("examples_ybr_color.dcm")),
    OtherCase("screen", "text that scrolls", "Pillow's font", _MADE, screen),
    OtherCase("noise", "uniform, 12 bits", "NumPy's generator", _MADE, noise),
    OtherCase("constant", "one value", "-", _MADE, constant),
)  # fmt: skip

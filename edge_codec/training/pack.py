"""One file of cine sequences to train on, small enough to take to another machine.

`python -m edge_codec.training.pack --data DATA --splits SPLITS --out PACK.zip --limit-mb 45` reads
the training cases in the layout that `edge_codec.training.data` describes and packs slices of
them, the middle ones of every exam first, until the file is full. A sequence is one slice over all
phases with its exam's window, and a mask of the heart where labels exist.

The file is a zip archive of LZMA streams, two for each sequence. Voxels are stored as differences
to their left neighbor, modulo 2**16, low and high bytes apart, as smooth images take less room that
way.
"""

from __future__ import annotations

import argparse
import json
import lzma
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_codec.errors import SourceError
from edge_codec.training.data import PATTERNS

SHARES = {"sunnybrook": 0.5, "acdc": 0.36, "fullfov": 0.14}
"""Parts of the file that each data set may fill."""

FIELDS = ("case", "group", "slice_index", "low", "width", "peak")


@dataclass(frozen=True, slots=True, eq=False)
class CineSequence:
    """One slice of an exam over all its phases.

    Attributes
    ----------
    case, group : str
        Patient and data set.
    slice_index : int
    voxels : ndarray, shape (phases, rows, columns), uint16
        Stored values minus the exam's smallest.
    low, width : int
        The exam's window: minimum to 99.9th percentile. 0..1 in the network is 0..`width` here.
    peak : int
        The exam's largest stored value, which its PSNR is measured against.
    heart : ndarray, shape (rows, columns), bool
        Where a label says heart in any phase, all false without labels.
    """

    case: str
    group: str
    slice_index: int
    voxels: NDArray[np.uint16]
    low: int
    width: int
    peak: int
    heart: NDArray[np.bool_]

    def units(self) -> NDArray[np.float32]:
        """Voxels in the network's units, (phases, rows, columns)."""
        return self.voxels.astype(np.float32) / np.float32(self.width)


def read_volume(path: Path) -> NDArray[np.int64]:
    """Read a NIfTI volume of integers as (slice, phase, row, column).

    Raises
    ------
    SourceError
        If it is no volume of three or four axes.
    """
    import nibabel  # a file reader of the training extra, not needed to import this module

    voxels = np.asanyarray(nibabel.Nifti1Image.from_filename(path).dataobj)
    if voxels.ndim not in (3, 4):
        raise SourceError(f"{path} has {voxels.ndim} axes; expected x, y, z and maybe time")
    voxels = voxels.reshape(*voxels.shape[:3], -1)
    return np.ascontiguousarray(np.rint(voxels).astype(np.int64).transpose(2, 3, 1, 0))


def sequences_of(
    voxels: NDArray[np.int64], case: str, group: str, heart: NDArray[np.bool_] | None = None
) -> list[CineSequence]:
    """Make one sequence per slice of an exam (slice, phase, row, column)."""
    low, peak = int(voxels.min()), int(voxels.max())
    width = max(round(float(np.percentile(voxels, 99.9))) - low, 1)
    if peak - low >= 1 << 16:
        raise SourceError(f"{case} spans {peak - low} values; training takes 16 bits at most")
    masks = np.zeros(voxels[:, 0].shape, bool) if heart is None else heart
    stored = (voxels - low).astype(np.uint16)
    return [
        CineSequence(case, group, index, stored[index], low, width, peak, masks[index])
        for index in range(len(stored))
    ]


def read_heart(folder: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Join all labels of a case: where any of them says heart, shape (slices, rows, columns)."""
    heart = np.zeros((shape[0], *shape[2:]), bool)
    for path in sorted(folder.glob("*_gt.nii.gz")):
        labels = read_volume(path)
        if labels.shape[0] == shape[0] and labels.shape[2:] == shape[2:]:
            heart |= (labels > 0).any(axis=1)
    return heart


def read_case(data: Path, case: str) -> list[list[CineSequence]]:
    """Read every exam of a case that is there, slices from the middle outward."""
    exams = []
    for group, pattern in PATTERNS.items():
        path = data / pattern.format(case=case)
        if path.exists():
            voxels = read_volume(path)
            found = sequences_of(voxels, case, group, read_heart(path.parent, voxels.shape))
            middle = (len(found) - 1) / 2
            exams.append(sorted(found, key=lambda one: abs(one.slice_index - middle)))
    return exams


def write_pack(sequences: Sequence[CineSequence], path: Path) -> None:
    """Write sequences into one file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, sequence in enumerate(sequences):
            for name, content in zip(_names(index), _compress(sequence), strict=True):
                archive.writestr(name, content)


def read_pack(path: Path) -> list[CineSequence]:
    """Read a file of sequences.

    Raises
    ------
    SourceError
        If it is not one, or is damaged.
    """
    sequences = []
    try:
        with zipfile.ZipFile(path) as archive:
            for index in range(len(archive.namelist()) // len(_names(0))):
                parts = [lzma.decompress(archive.read(name)) for name in _names(index)]
                sequences.append(_restore(*parts))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise SourceError(
            f"{path} is no pack of sequences ({error}); make one by edge_codec.training.pack"
        ) from error
    if not sequences:
        raise SourceError(f"{path} holds no sequences; make it by edge_codec.training.pack")
    return sequences


def _names(index: int) -> tuple[str, str]:
    return f"{index:04d}.json.xz", f"{index:04d}.voxels.xz"


def _compress(sequence: CineSequence) -> tuple[bytes, bytes]:
    """Return the two members of a sequence: description and mask, voxels."""
    description = {name: getattr(sequence, name) for name in FIELDS}
    description["shape"] = sequence.voxels.shape
    header = json.dumps(description).encode() + b"\n"
    left = np.diff(sequence.voxels, axis=2, prepend=np.uint16(0)).astype("<u2")
    planes = left.view(np.uint8).reshape(-1, 2).T
    mask = np.packbits(sequence.heart).tobytes()
    return lzma.compress(header + mask), lzma.compress(planes.tobytes(), preset=6)


def _restore(head: bytes, body: bytes) -> CineSequence:
    """Undo `_compress`."""
    line, _, mask = head.partition(b"\n")
    description = json.loads(line)
    shape = tuple(description["shape"])
    planes = np.frombuffer(body, np.uint8).reshape(2, -1).T
    left = np.ascontiguousarray(planes).view("<u2").reshape(shape)
    voxels = np.cumsum(left, axis=2, dtype=np.uint16)
    rows, columns = shape[1:]
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=rows * columns)
    case, group, index, low, width, peak = (description[name] for name in FIELDS)
    heart = bits.reshape(rows, columns).astype(bool)
    return CineSequence(case, group, index, voxels, low, width, peak, heart)


def choose(
    exams: Sequence[Sequence[CineSequence]], limit: int, shares: dict[str, float]
) -> Iterator[CineSequence]:
    """Pick slices, one of every exam a turn, until each data set has its part of `limit` bytes."""
    rest = {group: share * limit for group, share in shares.items()}
    for turn in range(max(len(exam) for exam in exams)):
        for exam in exams:
            if turn < len(exam) and rest.get(exam[0].group, 0.0) > 0:
                size = sum(len(part) for part in _compress(exam[turn]))
                rest[exam[0].group] -= size
                if rest[exam[0].group] >= 0:
                    yield exam[turn]


def main(argv: list[str] | None = None) -> None:
    """Parse options and pack."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.pack", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of NIfTI data sets")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--out", type=Path, required=True, help="file to write, PACK.zip")
    parser.add_argument("--limit-mb", type=float, default=45.0, help="largest size in 10**6 bytes")
    options = parser.parse_args(argv)
    cases = json.loads(options.splits.read_text())["train"]
    exams = [exam for case in tqdm(cases, unit="case") for exam in read_case(options.data, case)]
    if not exams:
        raise SourceError(f"none of the {len(cases)} training cases is under {options.data}")
    chosen = list(choose(exams, int(options.limit_mb * 1e6), SHARES))
    write_pack(chosen, options.out)
    print(f"{len(chosen)} sequences, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

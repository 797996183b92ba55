"""Rate-distortion curves of the float model over whole volumes.

`python -m edge_codec.training.curves --checkpoint averaged.pt --volume cine.nii.gz` codes every
slice as one group (a key frame, then all other phases) at some quality indices. For each it prints
bits per voxel by the model's likelihoods and the PSNR of the whole volume, peak = exam maximum.
Bits of container and frame headers, some bytes a frame, are not in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_codec.errors import SourceError
from edge_codec.metrics.image import psnr
from edge_codec.metrics.rate import bjontegaard
from edge_codec.nn.dwt_cal import DwtCal, DwtCalConfig
from edge_codec.nn.lifting import pad_to_blocks
from edge_codec.training.checkpoints import STATE_ERRORS, read_state
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.pack import CineSequence, read_volume, sequences_of
from edge_codec.training.rate_distortion import GroupOffsets


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSequence:
    """A sequence after coding and decoding.

    Attributes
    ----------
    voxels : ndarray, shape (phases, rows, columns), float64
        Rounded to stored values, minus the exam's smallest.
    bits, side_bits : ndarray, shape (phases,), float64
    squared_error : ndarray, shape (phases,), float64
        Sum over each frame, in stored units.
    """

    voxels: NDArray[np.float64]
    bits: NDArray[np.float64]
    side_bits: NDArray[np.float64]
    squared_error: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve.

    Attributes
    ----------
    quality : float
    bpp : float
        Bits per voxel.
    psnr_db : float
        Of the whole volume, peak = exam maximum.
    key_bpp, side_bpp : float
        Bits per voxel of a key frame, and bits of side latents over all voxels.
    frame_psnr_db : tuple of float
        By phase, mean squared error over all slices.
    frame_bpp : tuple of float
        By phase.
    """

    quality: float
    bpp: float
    psnr_db: float
    key_bpp: float
    side_bpp: float
    frame_psnr_db: tuple[float, ...]
    frame_bpp: tuple[float, ...]


@torch.no_grad()
def code_sequence(
    model: DwtCal, sequence: CineSequence, quality: float, offsets: GroupOffsets
) -> DecodedSequence:
    """Code a sequence as one group and decode it.

    Parameters
    ----------
    model : DwtCal
        In evaluation mode.
    sequence : CineSequence
    quality : float
        Index of the group, 0..63.
    offsets : GroupOffsets
    """
    device = next(model.parameters()).device
    phases, rows, columns = sequence.voxels.shape
    frames = pad_to_blocks(torch.from_numpy(sequence.units()).to(device))
    indices = offsets.quality(torch.tensor([quality], device=device), phases)
    state = None
    decoded, bits, side_bits = [], [], []
    for phase in range(phases):
        coded = model(frames[None, phase : phase + 1], state, indices[:, phase])
        state = coded.state
        decoded.append(coded.decoded[0, 0, :rows, :columns].cpu().double().numpy())
        bits.append(float(coded.bits[0]))
        side_bits.append(float(coded.side_bits[0]))
    largest = sequence.peak - sequence.low
    voxels = np.clip(np.rint(np.stack(decoded) * sequence.width), 0, largest)
    error = ((voxels - sequence.voxels) ** 2).sum(axis=(1, 2))
    return DecodedSequence(voxels, np.array(bits), np.array(side_bits), error)


def volume_point(
    model: DwtCal, sequences: Sequence[CineSequence], quality: float, offsets: GroupOffsets
) -> Point:
    """Code all sequences of one exam at a quality index.

    Parameters
    ----------
    model : DwtCal
        In evaluation mode.
    sequences : sequence of CineSequence
        Of one exam, equally long.
    quality : float
    offsets : GroupOffsets

    Raises
    ------
    SourceError
        If the sequences are not of one size.
    """
    shapes = {one.voxels.shape for one in sequences}
    if len(shapes) != 1:
        raise SourceError(f"sequences of {len(shapes)} sizes make no volume; expected one exam")
    coded = [code_sequence(model, one, quality, offsets) for one in sequences]
    phases, rows, columns = shapes.pop()
    pixels = len(sequences) * rows * columns
    bits = np.sum([one.bits for one in coded], axis=0)
    error = np.sum([one.squared_error for one in coded], axis=0)
    side = float(np.sum([one.side_bits for one in coded]))
    peak = float(max(abs(sequences[0].peak), 1))
    return Point(
        quality=quality,
        bpp=float(bits.sum() / (pixels * phases)),
        psnr_db=psnr(float(error.sum() / (pixels * phases)), peak),
        key_bpp=float(bits[0] / pixels),
        side_bpp=side / (pixels * phases),
        frame_psnr_db=tuple(round(psnr(float(e / pixels), peak), 2) for e in error),
        frame_bpp=tuple(round(float(b / pixels), 4) for b in bits),
    )


def load_model(path: Path) -> DwtCal:
    """Load `averaged.pt` as a model in evaluation mode.

    Raises
    ------
    SourceError
        If the file is none.
    """
    try:
        content = read_state(path)
        model = DwtCal(DwtCalConfig(**content["config"]))
        model.load_state_dict(content["state"])
    except (SourceError, *STATE_ERRORS) as error:
        raise SourceError(
            f"{path} holds no weights of dwt-cal ({error}); edge_codec.training.stages writes them "
            "as averaged.pt"
        ) from error
    return model.eval()


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options, code a volume, print its curve as JSON, one point a line."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.curves", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt of a training")
    parser.add_argument("--volume", type=Path, required=True, help="NIfTI exam")
    parser.add_argument("--qualities", type=float, nargs="+", default=[6, 14, 22, 30, 38, 46])
    parser.add_argument("--slices", type=int, nargs="+", help="these alone; all without")
    parser.add_argument("--anchor", type=Path, help="JSON list of [bpp, dB] to compare with")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    model = load_model(options.checkpoint)
    sequences = sequences_of(read_volume(options.volume), options.volume.name, "volume")
    if options.slices:
        sequences = [sequences[index] for index in options.slices]
    points = []
    for quality in tqdm(options.qualities, unit="point", file=sys.stderr):
        points.append(volume_point(model, sequences, quality, GroupOffsets()))
        print(json.dumps(asdict(points[-1])), flush=True)
    if options.anchor:
        print(json.dumps(compare(json.loads(options.anchor.read_text()), points)))


def compare(anchor: list[tuple[float, float]], points: Sequence[Point]) -> dict[str, Any]:
    """Bjontegaard's differences between points and an anchor's (bpp, dB)."""
    return asdict(bjontegaard(anchor, [(point.bpp, point.psnr_db) for point in points]))


if __name__ == "__main__":
    main()

"""What the segmentation network is trained by and watched with: loss, Dice, and a plot of the log.

The loss is cross-entropy plus one minus the mean Dice of the heart's three classes over the batch
(Milletari et al., 3DV 2016, with sums in place of sums of squares).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor

from edge_codec.metrics.overlap import dice
from edge_codec.nn.segmentation import CLASSES, SegmentationNetwork, frame_of_codes
from edge_codec.training.segmentation_data import LabeledVolume


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy plus Dice loss.

    Parameters
    ----------
    logits : Tensor, shape (n, 4, rows, columns)
    labels : Tensor, shape (n, rows, columns), int64
    weights : Tensor, shape (4,)
        Of the classes in the cross-entropy.
    """
    heart = logits.softmax(dim=1)[:, 1:]
    truth = F.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2)[:, 1:].to(heart.dtype)
    common = (heart * truth).sum(dim=(0, 2, 3))
    total = heart.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    overlap = ((2 * common + 1) / (total + 1)).mean()
    return F.cross_entropy(logits, labels, weight=weights) + 1 - overlap


@torch.no_grad()
def validate(network: SegmentationNetwork, volumes: list[LabeledVolume]) -> dict[str, list[float]]:
    """Measure a network on volumes; see `mean_dice`. Its labels are not cleaned up."""
    device = next(network.parameters()).device

    def segment(codes: NDArray[np.uint8]) -> NDArray[Any]:
        frame = frame_of_codes(torch.from_numpy(codes)[None, None].to(device))
        found: NDArray[Any] = network(frame)[0].argmax(dim=0).cpu().numpy()
        return found

    return mean_dice(segment, volumes)


def mean_dice(
    segment: Callable[[NDArray[np.uint8]], NDArray[Any]], volumes: list[LabeledVolume]
) -> dict[str, list[float]]:
    """Mean Dice of volumes by data set: RV, myocardium, LV.

    The Dice of a volume is over all of its slices as one object; 1 where neither has the class.

    Parameters
    ----------
    segment : callable
        Window codes (rows, columns) -> labels of the same shape.
    volumes : list of LabeledVolume
    """
    found: dict[str, list[list[float]]] = {}
    for volume in volumes:
        guess = np.stack([segment(codes) for codes in volume.codes])
        scores = [dice(guess == label, volume.labels == label) for label in (1, 2, 3)]
        plain = [1.0 if score is None else score for score in scores]
        found.setdefault(volume.group, []).append(plain)
    return {group: np.mean(scores, axis=0).tolist() for group, scores in found.items()}


def plot_log(log: Path, out: Path) -> bool:
    """Draw loss and Dice of the held-out cases over the steps.

    Returns
    -------
    bool
        False where matplotlib is not installed: training does not need it.
    """
    try:
        from matplotlib.figure import Figure  # of the extra `plot`
    except ImportError:
        return False
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([row["step"] for row in rows], [row["loss"] for row in rows])
    left.set(xlabel="step", ylabel="loss")
    watched = [row for row in rows if row.get("dice")]
    for group in sorted({group for row in watched for group in row["dice"]}):
        points = [(row["step"], np.mean(row["dice"][group])) for row in watched]
        right.plot(*zip(*points, strict=True), marker="o", label=group)
    right.set(xlabel="step", ylabel="mean Dice, held out")
    if watched:
        right.legend()
    figure.savefig(out, dpi=100)
    return True

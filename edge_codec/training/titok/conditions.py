"""What the network is told beside the frame, some of it left out at random while training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from edge_codec.base.titok.anatomy import ANATOMY, anatomy_features
from edge_codec.nn.titok import PATCH, Conditions
from edge_codec.training.titok.config import ToldOptions
from edge_codec.training.titok.judge import Judgment

FACTS = ((0, 2), (2, 4), (4, 7), (7, 12))
"""Where height, weight, phase and group lie in `ClinicalFacts.vector`."""

ALL_TOLD = ToldOptions(1.0, 1.0, 1.0)


def conditions(
    inside: Tensor,
    heart: Tensor,
    clinical: Tensor,
    judged: Judgment | None,
    told: ToldOptions,
) -> Conditions:
    """Tell what there is to tell, each thing with its probability.

    Draws from PyTorch's global generator.

    Parameters
    ----------
    inside, heart : Tensor, shape (n, 1, side, side)
    clinical : Tensor, shape (n, 12)
    judged : Judgment or None
        Of the frames; without it there is no anatomy to tell.
    told : ToldOptions
    """
    count = len(inside)
    shown = torch.rand(count, 2 + len(FACTS))
    chances = torch.tensor([told.heart, told.anatomy] + [told.clinical] * len(FACTS))
    shown = (shown < chances).float().to(inside.device)
    features = inside.new_zeros(count, ANATOMY)
    if judged is not None and told.anatomy > 0:
        features = _features(judged).to(inside.device)
    facts = torch.repeat_interleave(
        shown[:, 2:], torch.tensor([end - start for start, end in FACTS], device=inside.device), 1
    )
    return Conditions(
        inside,
        F.avg_pool2d(heart, PATCH) * shown[:, 0, None, None, None],
        features * shown[:, 1, None],
        clinical * facts,
    )


def _features(judged: Judgment) -> Tensor:
    probabilities = judged.probabilities.detach().cpu().numpy()
    return torch.from_numpy(np.stack([anatomy_features(one) for one in probabilities]))

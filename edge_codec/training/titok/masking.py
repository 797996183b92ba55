"""Stage 0: the encoder learns to fill in hidden patches of frames, from nothing but frames.

Most patches of a frame are replaced by gray, and from what the transformer makes of all patches a
linear layer paints the hidden ones (Xie et al., CVPR 2022, "SimMIM", sections 3.2 and 3.3: plain
patches, random masks, a linear head, and an error of hidden pixels alone). What the encoder learns
of how hearts look is what stage 1 starts from.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.nn.titok import GRAY, PATCH, Conditions, Past, TiTok, nothing_before
from edge_codec.nn.vqvae import depth_to_space
from edge_codec.training.titok.config import STAGES, TitokTraining
from edge_codec.training.titok.streams import Batch


class Masking:
    """Filling in of hidden patches.

    Parameters
    ----------
    model : TiTok
        Whose encoder is trained.
    config : TitokTraining
    device : str

    Attributes
    ----------
    model : TiTok
    module : nn.Module
        The model and the layer that paints.
    """

    def __init__(self, model: TiTok, config: TitokTraining, device: str) -> None:
        self.model = model
        self._share = config.train.masked_share
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(STAGES["pretrain"]))
        self._paint = nn.Linear(model.config.width, PATCH * PATCH).to(device)
        self.module: nn.Module = nn.ModuleDict({"model": model, "paint": self._paint})

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Hide patches of a batch and measure how well they are filled in; see `Coding.loss`."""
        del step  # every step is alike
        count, config = len(batch.frame), self.model.config
        hidden = (torch.rand(count, 1, config.grid, config.grid) < self._share).float()
        hidden = F.interpolate(hidden, scale_factor=PATCH, mode="nearest").to(batch.frame.device)
        seen = batch.frame * (1 - hidden) + GRAY * hidden
        past = nothing_before(config, count, seen.device)
        told = Conditions(
            batch.inside,
            seen.new_zeros(count, 1, config.grid, config.grid),
            seen.new_zeros(count, config.anatomy),
            seen.new_zeros(count, config.clinical),
        )
        counted = hidden * batch.inside
        error = counted * (self.fill_in(seen, past, told) - batch.frame).square()
        total = error.sum() / counted.sum().clamp_min(1.0)
        return total, {"window_error": total.detach()}

    def fill_in(self, seen: Tensor, past: Past, told: Conditions) -> Tensor:
        """Paint all patches of frames (n, 1, side, side)."""
        config = self.model.config
        patches = self.model.encoder.tokens(seen, past, told)[:, config.tokens : -2]
        grid = self._paint(patches).transpose(1, 2)
        return depth_to_space(grid.reshape(len(seen), -1, config.grid, config.grid), PATCH)

    def accept(self, step: int) -> None:
        """Go on after a step that was taken: nothing is kept from step to step."""

    def reject(self) -> None:
        """Forget a step that was left out."""

    def state(self) -> dict[str, Any]:
        """Give what `load` needs to go on."""
        return {"paint": self._paint.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self._paint.load_state_dict(state["paint"])

"""Weights averaged over the steps of a training: what is evaluated and exported."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class AveragedWeights:
    """Exponential moving average of a model's parameters.

    Parameters
    ----------
    model : nn.Module
    decay : float
        Weight of the past once many steps are done; early ones count less of it.
    buffers : bool
        Whether float buffers, such as the statistics of batch normalization, are averaged too.

    Attributes
    ----------
    values : dict of str to Tensor
    """

    def __init__(self, model: nn.Module, decay: float, buffers: bool = False) -> None:
        self.decay = decay
        self.buffers = buffers
        self.values = {name: value.clone() for name, value in self._current(model).items()}

    def _current(self, model: nn.Module) -> dict[str, Tensor]:
        values = {name: p.detach() for name, p in model.named_parameters()}
        if self.buffers:
            values |= {name: b for name, b in model.named_buffers() if b.is_floating_point()}
        return values

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow the model after a step of training, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = list(self._current(model).values())
        torch._foreach_lerp_(list(self.values.values()), current, 1.0 - decay)

    def load(self, values: dict[str, Tensor]) -> None:
        """Go on from saved averages."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def model(self, model: Model) -> Model:
        """Copy a model with the averaged weights, in evaluation mode."""
        averaged = copy.deepcopy(model)
        averaged.load_state_dict({**model.state_dict(), **self.values})
        return averaged.eval()

"""Training of the small network that reads sizes of the heart's parts from tokens.

The same network as `edge_codec.retrieval.token_reader`, which runs it without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_codec.retrieval.token_reader import BLOCKS, WEIGHTS, WIDTH

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class MixerTraining:
    """How the network is trained.

    Attributes
    ----------
    steps, batch : int
    rate : float
        Largest learning rate of AdamW; it rises over a tenth of the steps and falls to nothing.
    decay : float
        Weight decay.
    noise : float
        Standard deviation of what is added to the numbers.
    seed : int
    """

    steps: int = 2000
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    noise: float = 0.15
    seed: int = 0


class TokenMixer(nn.Module):
    """The network; its weights have the names and shapes of `WEIGHTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name: nn.Parameter(_start(name, shape)) for name, shape in WEIGHTS.items()}
        )

    def forward(self, seen: Tensor) -> Tensor:
        """Return shares (n, 32, 3), 0..1, of what is seen, (n, 32, 2 KNOWN)."""
        weights = self.weights
        known = seen @ weights["enter"] + weights["places"]
        for block in range(BLOCKS):
            told = F.relu(weights[f"gather{block}"] @ _normalized(known))
            known = known + weights[f"spread{block}"] @ told
            wide = _normalized(known) @ weights[f"widen{block}"] + weights[f"widen_bias{block}"]
            known = known + F.relu(wide) @ weights[f"narrow{block}"]
        return torch.sigmoid(_normalized(known) @ weights["leave"] + weights["leave_bias"])

    def arrays(self) -> dict[str, Floats]:
        """Return the weights as `TokenReader` takes them."""
        return {name: weight.detach().numpy().copy() for name, weight in self.weights.items()}


def train_mixer(
    seen: Halves,
    shares: Halves,
    plan: MixerTraining,
    tell: Callable[[str], None] = lambda text: None,
) -> TokenMixer:
    """Train a network on frames whose shares are known.

    Parameters
    ----------
    seen : ndarray, shape (frames, 32, 2 KNOWN), float16
        What is known of each, see `token_reader.with_mean`.
    shares : ndarray, shape (frames, 32, 3), float16, 0..1
        Share of each place that RV, myocardium and LV take.
    plan : MixerTraining
    tell : callable
        Takes a line of text now and then.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    mixer = TokenMixer().train()
    optimizer = torch.optim.AdamW(mixer.parameters(), plan.rate, weight_decay=plan.decay)
    rows, truth = torch.from_numpy(seen), torch.from_numpy(shares)
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * _schedule(step, plan.steps)
        picks = torch.randint(len(rows), (plan.batch,), generator=generator)
        known = rows[picks].float()
        known = known + plan.noise * torch.randn(known.shape, generator=generator)
        loss = _loss(mixer(known), truth[picks].float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 200 == 199:
            tell(f"step {step + 1}: loss {loss.item():.3f}")
    return mixer.eval()


def _loss(found: Tensor, truth: Tensor) -> Tensor:
    """Errors of places, small ones squared, and of their sums, which are what counts."""
    places = F.smooth_l1_loss(found, truth, beta=0.05)
    sums = (found.mean(1) - truth.mean(1)).abs().mean()
    return 10 * places + 20 * sums


def _schedule(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / max(1.0, 0.1 * steps))
    return rise * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _normalized(known: Tensor) -> Tensor:
    return F.layer_norm(known, (WIDTH,))


def _start(name: str, shape: tuple[int, ...]) -> Tensor:
    """Random weights of a size that keeps the numbers' size; biases that say 'little heart'."""
    if name == "leave_bias":
        return torch.full(shape, -2.0)
    if name.endswith(("bias0", "bias1")):
        return torch.zeros(shape)
    if name == "places":
        return 0.1 * torch.randn(shape)
    inputs = shape[1] if name.startswith(("gather", "spread")) else shape[0]
    return torch.randn(shape) / math.sqrt(inputs)

"""Vector quantizer on the unit sphere, whose codes follow the latents by moving averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

# A code is dead when it wins fewer than this fraction of an even share of the latents.
DEAD_SHARE = 0.02
REVIVED_SHARE = 0.3
ROWS_AT_ONCE = 16_384
"""Latents that are compared with all codes at a time: 256 MiB of products with 4,096."""


class SphereCodebook(nn.Module):
    """Nearest code by cosine, straight-through gradient, moving averages, revival of dead codes.

    Latents and codes have length 1 (Yu et al., 2022, "Vector-quantized image modeling with improved
    VQGAN", section 3.2), so that the nearest code is the one of the largest inner product.

    Parameters
    ----------
    codes, dim : int
        Number of codes and their length.
    decay : float
        Weight of the past in the moving averages.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, dim: int, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("vectors", F.normalize(torch.randn(codes, dim), dim=1))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", self.vectors.clone())

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Replace each latent by its nearest code; update the averages while training.

        Parameters
        ----------
        latents : Tensor, shape (n, tokens, dim), of length 1

        Returns
        -------
        codes : Tensor, shape (n, tokens, dim)
            With the gradient passed straight to `latents`.
        tokens : Tensor, shape (n, tokens), int64
        commitment : Tensor, scalar
            Mean squared distance of latents and codes; its gradient moves the latents only.
        """
        tokens = self.nearest(latents)
        codes = self.lookup(tokens)
        if self.training:
            self.update(latents.detach().flatten(0, 1), tokens.flatten())
        commitment = (latents - codes).square().sum(2).mean()
        return latents + (codes - latents).detach(), tokens, commitment

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """Index of the nearest code: (n, tokens, dim) to (n, tokens) int64."""
        return (latents @ self.vectors.T).argmax(2)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: (n, tokens) int64 to (n, tokens, dim)."""
        return F.embedding(tokens, self.vectors)

    @torch.no_grad()
    def update(self, rows: Tensor, tokens: Tensor) -> None:
        """Move each code towards the latents, (m, dim), that chose it by `tokens`, (m,)."""
        counts = torch.bincount(tokens, minlength=len(self.counts)).to(rows.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, tokens, rows)
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        self.vectors.copy_(F.normalize(self.sums, dim=1))

    @torch.no_grad()
    def revive(self, rows: Tensor) -> int:
        """Replace dead codes by latents, (m, dim), drawn at random; return how many there were."""
        share = self.counts.sum() / len(self.counts)
        dead = torch.nonzero(self.counts < DEAD_SHARE * share).flatten()[: len(rows)]
        picks = rows[torch.randperm(len(rows), device=rows.device)[: len(dead)]]
        self.counts[dead] = REVIVED_SHARE * share
        self.sums[dead] = picks * (REVIVED_SHARE * share)
        self.vectors[dead] = picks
        return len(dead)

    @torch.no_grad()
    def initialize(self, rows: Tensor, iterations: int = 10) -> None:
        """Start from latents, (m, dim), by Lloyd's iterations on the sphere."""
        codes = len(self.vectors)
        self.vectors.copy_(rows[torch.randperm(len(rows), device=rows.device)[:codes]])
        for _ in range(iterations):
            parts = torch.split(rows, ROWS_AT_ONCE)
            tokens = torch.cat([self.nearest(part[None])[0] for part in parts])
            counts = torch.bincount(tokens, minlength=codes).to(rows.dtype)
            sums = torch.zeros_like(self.sums).index_add_(0, tokens, rows)
            empty = counts == 0
            sums[empty] = rows[torch.randint(len(rows), (int(empty.sum()),), device=rows.device)]
            self.vectors.copy_(F.normalize(sums, dim=1))
            counts[empty] = 1.0
        self.counts.copy_(counts * (codes / counts.sum()))
        self.sums.copy_(self.vectors * self.counts[:, None])


def blurred(latents: Tensor, cosine: float) -> Tensor:
    """Turn latents of length 1 away at random, to an expected cosine: a quantizer in waiting.

    Training through noise of the size of the later quantizer's error gives true gradients and
    leaves the codebook nothing to collapse by.

    Parameters
    ----------
    latents : Tensor, shape (n, tokens, dim), of length 1
    cosine : float
        Between latents and result.
    """
    noise = torch.randn_like(latents)
    across = F.normalize(noise - (noise * latents).sum(2, keepdim=True) * latents, dim=2)
    return float(cosine) * latents + float((1 - cosine * cosine) ** 0.5) * across

"""Vector quantizer whose codebook follows the latents by exponential moving averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

# A code is dead when it wins fewer than this fraction of an even share of the latents.
DEAD_SHARE = 0.02


class EmaCodebook(nn.Module):
    """Nearest-code lookup with straight-through gradient and moving-average updates.

    Each code is the moving average of the latents that chose it (van den Oord et al., 2017,
    appendix A.1), so the codebook needs no gradient. Codes that nearly nobody chooses are replaced
    by latents of the current batch (`revive`), else most of a large codebook dies early.

    Parameters
    ----------
    codes, dim : int
        Number of codes and their length.
    decay : float
        Weight of the past in the moving averages.

    Attributes
    ----------
    grid : float or None
        Step of an 8-bit grid on which codes are rounded wherever they are used; None leaves them.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, dim: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.grid: float | None = None
        self.register_buffer("vectors", torch.randn(codes, dim))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", self.vectors.clone())

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Replace each latent by its nearest code; update the averages while training.

        Parameters
        ----------
        latent : Tensor, shape (n, dim, h, w), float

        Returns
        -------
        code : Tensor, shape (n, dim, h, w), float
            The codes, with the gradient passed straight to `latent`.
        tokens : Tensor, shape (n, h, w), int64
        commitment : Tensor, scalar
            Mean squared distance of `latent` to its codes; its gradient moves the latents only.
        """
        tokens = self.nearest(latent)
        if self.training:
            self.update(rows_of(latent.detach()), tokens.flatten())
        code = self.lookup(tokens)
        commitment = F.mse_loss(latent, code)
        return latent + (code - latent).detach(), tokens, commitment

    @torch.no_grad()
    def nearest(self, latent: Tensor) -> Tensor:
        """Index of the nearest code of each latent: (n, dim, h, w) to (n, h, w) int64."""
        n, _, h, w = latent.shape
        codes = self.codes()
        scores = torch.addmm(-0.5 * codes.square().sum(1), rows_of(latent), codes.T)
        return scores.argmax(1).reshape(n, h, w)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: (n, h, w) int64 to (n, dim, h, w)."""
        return F.embedding(tokens, self.codes()).permute(0, 3, 1, 2)

    def codes(self) -> Tensor:
        """Return the vectors as used, (codes, dim): rounded to `grid` if there is one."""
        if self.grid is None:
            return self.vectors
        return (self.vectors / self.grid).round().clamp(-127, 127) * self.grid

    @torch.no_grad()
    def update(self, rows: Tensor, tokens: Tensor) -> None:
        """Move each code towards the mean of `rows` (m, dim) that chose it by `tokens` (m,)."""
        counts = torch.bincount(tokens, minlength=len(self.counts)).to(rows.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, tokens, rows)
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        self.vectors.copy_(self.sums / self.counts.clamp_min(1e-3)[:, None])

    @torch.no_grad()
    def revive(self, latent: Tensor) -> int:
        """Replace dead codes by random latents of (n, dim, h, w); return how many there were."""
        rows = rows_of(latent.detach())
        share = self.counts.sum() / len(self.counts)
        dead = torch.nonzero(self.counts < DEAD_SHARE * share).flatten()
        dead = dead[: len(rows)]
        picks = rows[torch.randperm(len(rows), device=rows.device)[: len(dead)]]
        # A fifth of an even share: alive long enough to be chosen, quick to die again if it is not.
        self.counts[dead] = 0.2 * share
        self.sums[dead] = picks * (0.2 * share)
        self.vectors[dead] = picks
        return len(dead)

    @torch.no_grad()
    def initialize(self, rows: Tensor, iterations: int = 8) -> None:
        """Start the codebook from latents (m, dim) by Lloyd's iterations on a random choice."""
        codes, dim = self.vectors.shape
        picks = torch.randperm(len(rows), device=rows.device)[:codes]
        self.vectors.copy_(rows[picks])
        for _ in range(iterations):
            tokens = self.nearest(rows.T.reshape(1, dim, 1, -1)).flatten()
            counts = torch.bincount(tokens, minlength=codes).to(rows.dtype)
            sums = torch.zeros_like(self.vectors).index_add_(0, tokens, rows)
            empty = counts == 0
            sums[empty] = rows[torch.randint(len(rows), (int(empty.sum()),), device=rows.device)]
            counts[empty] = 1.0
            self.vectors.copy_(sums / counts[:, None])
        self.counts.copy_(counts * (codes / counts.sum()))
        self.sums.copy_(self.vectors * self.counts[:, None])


def rows_of(latent: Tensor) -> Tensor:
    """Latents as rows: (n, dim, h, w) to (n*h*w, dim)."""
    return latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1])


def usage(counts: Tensor) -> tuple[float, int]:
    """Perplexity and number of codes in use, from how often each was chosen, shape (codes,)."""
    share = counts / counts.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return float(entropy.exp()), int((counts > 0).sum())

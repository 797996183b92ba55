"""Parts of the 1D tokenizer: attention blocks, fusion with the tokens of earlier frames, a pyramid.

Attention is written out as products and a softmax, which is what every backend takes after export.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.nn.vqvae import depth_to_space, space_to_depth

FUSIONS = ("attention", "lstm", "none")
MASKED = -1e4
"""Logit of a key that is not there: far below any other, and finite in half precision."""


class Attention(nn.Module):
    """Multi-head attention of queries on keys (Vaswani et al., 2017, section 3.2).

    Parameters
    ----------
    width, heads : int
        Length of a token, and parts that attend by themselves; `heads` divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
        """Mix the keys' values for each query.

        Parameters
        ----------
        queries, keys : Tensor, shapes (n, q, width) and (n, k, width)
        bias : Tensor, optional
            Added to the logits; broadcast to (n, heads, q, k).

        Returns
        -------
        Tensor, shape (n, q, width)
        """
        query, key, value = (
            self._split(layer(x))
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        if bias is not None:
            logits = logits + bias
        mixed = logits.softmax(3) @ value
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        return x.reshape(n, length, self.heads, width // self.heads).transpose(1, 2)


class Block(nn.Module):
    """Transformer block with normalization before each part (Dosovitskiy et al., 2021, eq. 2, 3).

    Parameters
    ----------
    width, heads : int
        See `Attention`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        # A block that starts as the identity lets the way past the transformer learn first.
        nn.init.zeros_(self.attention.output.weight)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply to (n, length, width); `bias` as `Attention` takes it."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.attention(normed, normed, bias)
        mixed: Tensor = tokens + self.narrow(F.gelu(self.widen(self.norm_mlp(tokens))))
        return mixed


class Fusion(nn.Module):
    """Cross-attention of a frame's spatial tokens with the codes of the frames before it.

    Parameters
    ----------
    width, heads : int
        See `Attention`.
    tokens, code_dim, memory : int
        Codes of a frame, their length, and frames that are remembered.
    kind : str
        'attention': every code of every remembered frame is a key. 'lstm': an LSTM runs over each
        token's codes, oldest first, and its last states are the keys. One of `FUSIONS`.
    """

    def __init__(
        self, width: int, heads: int, tokens: int, code_dim: int, memory: int, kind: str
    ) -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Linear(code_dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, 1, tokens, width))
        self.age = nn.Parameter(0.02 * torch.randn(1, memory, 1, width))
        self.nothing = nn.Parameter(torch.zeros(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        nn.init.zeros_(self.attention.output.weight)
        if kind == "lstm":
            self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, tokens: Tensor, codes: Tensor, known: Tensor) -> Tensor:
        """Add what the frames before tell.

        Parameters
        ----------
        tokens : Tensor, shape (n, length, width)
        codes : Tensor, shape (n, memory, tokens, code_dim)
            Of the frames before, the latest first.
        known : Tensor, shape (n, memory)
            1 where there is such a frame, 0 where not.

        Returns
        -------
        Tensor, shape (n, length, width)
        """
        keys, there = self._keys(codes, known)
        n = len(codes)
        keys = torch.cat([self.nothing.expand(n, -1, -1), keys], 1)
        there = torch.cat([torch.ones_like(there[:, :1]), there], 1)
        bias = ((1 - there) * MASKED)[:, None, None]
        fused: Tensor = tokens + self.attention(self.norm(tokens), keys, bias)
        return fused

    def _keys(self, codes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        n, memory, count, _ = codes.shape
        embedded = self.embed(codes) + self.place
        if self.kind == "attention":
            keys = (embedded + self.age).reshape(n, memory * count, -1)
            return keys, known[:, :, None].expand(-1, -1, count).reshape(n, -1)
        # Unknown frames are the oldest: they come first and leave nothing but a constant.
        rows = (embedded * known[:, :, None, None]).flip(1).transpose(1, 2)
        states, _ = self.lstm(rows.reshape(n * count, memory, -1))
        return states[:, -1].reshape(n, count, -1), known[:, :1].expand(-1, count)


STRETCH_ROWS = 16
STAGES = 12
REPEATED = 4
"""From frame `STAGES` of a group on, the last stages take turns."""


def stage_of(age: Tensor) -> Tensor:
    """Return which linear transform a frame takes, by how many frames of its group came before."""
    later = STAGES - REPEATED + (age - STAGES) % REPEATED
    return torch.where(age < STAGES, age, later)


class ShortcutIn(nn.Module):
    """The way past the transformer: pixels of the stretch that a latent starts from, to the latent.

    One linear transform for each stage of a group. It starts as cosines and is fitted in closed
    form before training (`edge_codec.training.titok.linear`), so that training begins with a codec
    that works, and the rest of the network learns what a linear transform leaves.

    Parameters
    ----------
    canvas, tokens, code_dim : int
        As in `TiTokConfig`.
    """

    def __init__(self, canvas: int, tokens: int, code_dim: int) -> None:
        super().__init__()
        self.columns = canvas * canvas // (tokens * STRETCH_ROWS)
        weight = torch.zeros(STAGES, STRETCH_ROWS * self.columns, code_dim)
        weight[:, :, :-1] = lowest_cosines(self.columns, code_dim - 1).T
        # The last is constant: measured against it, the others keep their length on the sphere.
        bias = torch.zeros(STAGES, code_dim)
        bias[:, -1] = 1.0
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, frame: Tensor, age: Tensor) -> Tensor:
        """Turn (n, 1, canvas, canvas) and ages, (n,), into (n, tokens, code_dim)."""
        stage = stage_of(age)
        return stretches(frame, self.columns) @ self.weight[stage] + self.bias[stage][:, None]


class ShortcutOut(nn.Module):
    """The way back from codes to pixels; parameters as `ShortcutIn`."""

    def __init__(self, canvas: int, tokens: int, code_dim: int) -> None:
        super().__init__()
        self.columns = canvas * canvas // (tokens * STRETCH_ROWS)
        self.canvas = canvas
        weight = torch.zeros(STAGES, code_dim, STRETCH_ROWS * self.columns)
        weight[:, :-1] = lowest_cosines(self.columns, code_dim - 1)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(STAGES, STRETCH_ROWS * self.columns))

    def forward(self, codes: Tensor, age: Tensor) -> Tensor:
        """Turn (n, tokens, code_dim) and ages, (n,), into (n, 1, canvas, canvas)."""
        stage = stage_of(age)
        pixels = codes @ self.weight[stage] + self.bias[stage][:, None]
        n, side = len(codes), self.canvas
        grid = (n, side // STRETCH_ROWS, side // self.columns, STRETCH_ROWS, self.columns)
        return pixels.reshape(grid).transpose(2, 3).reshape(n, 1, side, side)


def stretches(frame: Tensor, columns: int) -> Tensor:
    """Cut (n, 1, side, side) into (n, tokens, pixels), row by row of stretches."""
    n, _, side, _ = frame.shape
    grid = (n, side // STRETCH_ROWS, STRETCH_ROWS, side // columns, columns)
    return frame.reshape(grid).transpose(2, 3).flatten(3).flatten(1, 2)


def lowest_cosines(columns: int, count: int) -> Tensor:
    """Return orthonormal cosine images of the lowest frequencies, (count, rows * columns)."""
    rows = STRETCH_ROWS
    down, right = _cosines(rows), _cosines(columns)
    frequency = torch.arange(rows)[:, None].square() / rows**2 + (
        torch.arange(columns)[None].square() / columns**2
    )
    chosen = frequency.flatten().argsort(stable=True)[:count].tolist()
    return torch.stack(
        [torch.outer(down[k // columns], right[k % columns]).flatten() for k in chosen]
    )


def _cosines(length: int) -> Tensor:
    places = (torch.arange(length) + 0.5) * (math.pi / length)
    waves = torch.cos(places[None] * torch.arange(length)[:, None]) * math.sqrt(2 / length)
    waves[0] /= math.sqrt(2)
    return waves


class Residual(nn.Module):
    """Two 3x3 convolutions and the way past them (He et al., 2016).

    Parameters
    ----------
    channels : int
        Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (n, channels, h, w)."""
        y: Tensor = x + self.second(F.gelu(self.first(F.gelu(x))))
        return y


class Pyramid(nn.Module):
    """Planes of pixels to features at 1/4, 1/8 and 1/16 of the resolution.

    A few convolutions in front of a transformer learn from far fewer frames than a plain projection
    of patches (Xiao et al., 2021, "Early convolutions help transformers see better").

    Parameters
    ----------
    planes, fine, middle, width : int
        Channels of the input, and of the three scales.
    """

    def __init__(self, planes: int, fine: int, middle: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(16 * planes, fine, 3, padding=1)
        self.fine = Residual(fine)
        self.to_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = Residual(middle)
        self.to_coarse = nn.Conv2d(middle, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn (n, planes, 16h, 16w) into (.., 4h, 4w), (.., 2h, 2w) and (.., h, w)."""
        fine = self.fine(self.stem(space_to_depth(x, 4)))
        middle = self.middle(self.to_middle(F.gelu(fine)))
        return fine, middle, self.to_coarse(F.gelu(middle))


class Painter(nn.Module):
    """Patch tokens to a frame: motion of the frame before at 1/8, then what is new at 1/4.

    Parameters
    ----------
    fine, middle, width : int
        As in `Pyramid`, whose features are joined in.
    reach : float
        Largest motion between frames, in pixels along each axis.
    """

    def __init__(self, fine: int, middle: int, width: int, reach: float = 8.0) -> None:
        super().__init__()
        self.reach = reach
        self.from_coarse = nn.Conv2d(width, 4 * middle, 1)
        self.join_middle = nn.Conv2d(2 * middle, middle, 1)
        self.middle = Residual(middle)
        self.motion = nn.Conv2d(middle, 2, 3, padding=1)
        self.from_middle = nn.Conv2d(middle, 4 * fine, 1)
        self.join_fine = nn.Conv2d(2 * fine + 32, fine, 1)
        self.fine = nn.Sequential(Residual(fine), Residual(fine))
        self.change = nn.Conv2d(fine, 16, 3, padding=1)
        for layer in (self.motion, self.change):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, patches: Tensor, scales: tuple[Tensor, Tensor], previous: Tensor, draft: Tensor
    ) -> Tensor:
        """Paint a frame.

        Parameters
        ----------
        patches : Tensor, shape (n, width, h, w)
        scales : (Tensor, Tensor)
            Features of the pyramid: (n, fine, 4h, 4w) and (n, middle, 2h, 2w).
        previous, draft : Tensor, shape (n, 1, 16h, 16w)
            The frame before, and what the linear transform alone makes of the codes.

        Returns
        -------
        Tensor, shape (n, 1, 16h, 16w)
        """
        scale_fine, scale_middle = scales
        x = depth_to_space(self.from_coarse(F.gelu(patches)), 2)
        x = self.middle(self.join_middle(torch.cat([x, scale_middle], 1)))
        moved = warped(previous, self.reach * torch.tanh(self.motion(F.gelu(x))))
        x = depth_to_space(self.from_middle(F.gelu(x)), 2)
        planes = space_to_depth(torch.cat([moved, draft], 1), 4)
        x = self.join_fine(torch.cat([x, scale_fine, planes], 1))
        return draft + depth_to_space(self.change(F.gelu(self.fine(x))), 4)


def warped(frame: Tensor, motion: Tensor) -> Tensor:
    """Fetch each pixel from where the motion says.

    Parameters
    ----------
    frame : Tensor, shape (n, 1, 8h, 8w)
    motion : Tensor, shape (n, 2, h, w)
        Columns and rows to the right and below, in pixels; interpolated to the frame's size.

    Returns
    -------
    Tensor, shape (n, 1, 8h, 8w)
        Bilinear; beyond the border its pixels go on.
    """
    rows, columns = frame.shape[2:]
    field = F.interpolate(motion, (rows, columns), mode="bilinear", align_corners=False)
    down = (torch.arange(rows, device=frame.device, dtype=frame.dtype) + 0.5) * (2 / rows) - 1
    right = (torch.arange(columns, device=frame.device, dtype=frame.dtype) + 0.5) * (
        2 / columns
    ) - 1
    grid = torch.stack(
        [
            right[None, None] + field[:, 0] * (2 / columns),
            down[None, :, None] + field[:, 1] * (2 / rows),
        ],
        3,
    )
    return F.grid_sample(frame, grid, mode="bilinear", padding_mode="border", align_corners=False)

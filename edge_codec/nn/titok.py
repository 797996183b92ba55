"""TiTok-MRI: a frame as 32 tokens of 12 bits, each frame told by what the frames before left open.

Follows TiTok (Yu et al., 2024, "An image is worth 32 tokens for reconstruction and generation"):
learned latent tokens pass through a transformer together with the patches of the frame, and only
they, quantized to a codebook of 4,096 codes of length 12 on the unit sphere, go to the decoder.
What a cine adds: encoder and decoder both know the decoded frame before, so that 48 bytes a frame
are spent on what it lacks and the picture becomes finer from frame to frame; both attend to the
tokens of the last frames; and the encoder may be told where the heart is, by a segmentation
network, and facts about the patient, none of which is required.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.nn.sphere_codebook import SphereCodebook, blurred
from edge_codec.nn.titok_parts import Block, Fusion, Painter, Pyramid, ShortcutIn, ShortcutOut

PATCH = 16
GRAY = 0.4
"""What stands in for a decoded frame before the first."""


@dataclass(frozen=True, slots=True)
class TiTokConfig:
    """Sizes of the network.

    Attributes
    ----------
    canvas : int
        Side of the square that frames are fitted into, in pixels; a multiple of 16.
    width, heads, encoder_depth, decoder_depth : int
        Of the transformers.
    fine, middle : int
        Channels of the convolutions at 1/4 and 1/8 of the resolution.
    tokens, codes, code_dim : int
        Tokens of a frame, and the codebook.
    memory : int
        Frames before whose tokens are attended to.
    fusion : str
        How, see `Fusion`; 'none' leaves it out.
    anatomy, clinical : int
        Lengths of the vectors of `Conditions`.
    """

    canvas: int = 128
    width: int = 192
    heads: int = 6
    encoder_depth: int = 3
    decoder_depth: int = 3
    fine: int = 48
    middle: int = 96
    tokens: int = 32
    codes: int = 4096
    code_dim: int = 12
    memory: int = 4
    fusion: str = "attention"
    anatomy: int = 16
    clinical: int = 12

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.canvas // PATCH


SIZES = {
    "s": TiTokConfig(),
    "b": TiTokConfig(width=320, heads=10, encoder_depth=6, decoder_depth=8, fine=64, middle=128),
}


@dataclass(frozen=True, slots=True)
class Past:
    """What the decoder knows before a frame.

    Attributes
    ----------
    frame : Tensor, shape (n, 1, canvas, canvas)
        The decoded frame before, `GRAY` where there is none.
    codes : Tensor, shape (n, memory, tokens, code_dim)
        Codes of the frames before, the latest first; zeros where there are none.
    known : Tensor, shape (n, memory)
        1 where there is such a frame, 0 where not.
    age : Tensor, shape (n,), int64
        Frames since the group began.
    """

    frame: Tensor
    codes: Tensor
    known: Tensor
    age: Tensor

    def after(self, frame: Tensor, codes: Tensor) -> Past:
        """Return what is known after a frame and its codes, (n, tokens, code_dim)."""
        known = torch.cat([torch.ones_like(self.known[:, :1]), self.known[:, :-1]], 1)
        return Past(frame, torch.cat([codes[:, None], self.codes[:, :-1]], 1), known, self.age + 1)

    @property
    def any_known(self) -> Tensor:
        """1 where there is a frame before, shape (n, 1, 1, 1)."""
        return self.known[:, :1, None, None]


def nothing_before(config: TiTokConfig, count: int, device: torch.device | str = "cpu") -> Past:
    """Return the past of first frames."""
    side = config.canvas
    codes = torch.zeros(count, config.memory, config.tokens, config.code_dim, device=device)
    known = torch.zeros(count, config.memory, device=device)
    age = torch.zeros(count, dtype=torch.int64, device=device)
    return Past(torch.full((count, 1, side, side), GRAY, device=device), codes, known, age)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may be told beside the frame; zeros stand for what is not known.

    Attributes
    ----------
    inside : Tensor, shape (n, 1, canvas, canvas)
        1 where the canvas shows the frame, 0 in its padding.
    heart : Tensor, shape (n, 1, grid, grid), 0..1
        Share of the heart in each patch; seen by the encoder only.
    anatomy : Tensor, shape (n, anatomy)
        Features of the segmentation; seen by the encoder only.
    clinical : Tensor, shape (n, clinical)
        Facts about patient and phase; seen by both halves.
    """

    inside: Tensor
    heart: Tensor
    anatomy: Tensor
    clinical: Tensor


class Encoder(nn.Module):
    """Frame and past to latents."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.pyramid = Pyramid(4, config.fine, config.middle, config.width)
        self.places = nn.Parameter(0.02 * torch.randn(1, config.grid**2, config.width))
        self.latents = nn.Parameter(0.02 * torch.randn(1, config.tokens, config.width))
        self.gather = nn.Linear(config.width, config.width)
        self.anatomy = nn.Linear(config.anatomy, config.width)
        self.clinical = nn.Linear(config.clinical, config.width)
        self.heart_bias = nn.Parameter(torch.zeros(config.heads))
        self.fusion = _fusion(config)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads) for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.code_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.shortcut = ShortcutIn(config.canvas, config.tokens, config.code_dim)

    def forward(self, frame: Tensor, past: Past, told: Conditions) -> Tensor:
        """Return latents of length 1, (n, tokens, code_dim), of (n, 1, canvas, canvas)."""
        kept = self.tokens(frame, past, told)[:, : self.config.tokens]
        return F.normalize(self.head(kept) + self.shortcut(frame - past.frame, past.age), dim=2)

    @property
    def is_linear(self) -> bool:
        """Whether the transformer adds nothing yet: its head is 0, as training begins."""
        return not bool(self.head.weight.any() or self.head.bias.any())

    def tokens(self, frame: Tensor, past: Past, told: Conditions) -> Tensor:
        """Return what the transformer makes of latents, patches and two tokens of what is told.

        Returns
        -------
        Tensor, shape (n, tokens + grid**2 + 2, width)
        """
        known = past.any_known.expand_as(frame)
        planes = torch.cat([frame, frame - past.frame, told.inside, known], 1)
        patches = self.pyramid(planes)[2].flatten(2).transpose(1, 2) + self.places
        # A latent starts from its own stretch of patches, so that it has something to say at once.
        near = patches.reshape(len(patches), self.config.tokens, -1, self.config.width).mean(2)
        latents = self.latents + self.gather(near)
        told_tokens = torch.stack([self.anatomy(told.anatomy), self.clinical(told.clinical)], 1)
        tokens = torch.cat([latents, patches, told_tokens], 1)
        if self.fusion is not None:
            tokens = self.fusion(tokens, past.codes, past.known)
        bias = self._bias(told.heart)
        for block in self.blocks:
            tokens = block(tokens, bias)
        normed: Tensor = self.norm(tokens)
        return normed

    def _bias(self, heart: Tensor) -> Tensor:
        """Logits that draw attention to patches of the heart, (n, heads, 1, keys)."""
        shares = F.pad(heart.flatten(1), (self.config.tokens, 2))
        return shares[:, None, None] * self.heart_bias[None, :, None, None]


class Decoder(nn.Module):
    """Codes and past to a frame."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.pyramid = Pyramid(4, config.fine, config.middle, config.width)
        self.embed = nn.Linear(config.code_dim, config.width)
        self.places = nn.Parameter(0.02 * torch.randn(1, config.grid**2, config.width))
        self.latents = nn.Parameter(0.02 * torch.randn(1, config.tokens, config.width))
        self.scatter = nn.Linear(config.width, config.width)
        self.clinical = nn.Linear(config.clinical, config.width)
        self.fusion = _fusion(config)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.painter = Painter(config.fine, config.middle, config.width)
        self.shortcut = ShortcutOut(config.canvas, config.tokens, config.code_dim)

    def forward(self, codes: Tensor, past: Past, told: Conditions) -> Tensor:
        """Return a frame, (n, 1, canvas, canvas), of (n, tokens, code_dim)."""
        known = past.any_known.expand_as(past.frame)
        draft = past.frame + self.shortcut(codes, past.age)
        planes = torch.cat([past.frame, draft, told.inside, known], 1)
        fine, middle, coarse = self.pyramid(planes)
        latents = self.latents + self.embed(codes)
        spread = self.scatter(latents).repeat_interleave(
            self.config.grid**2 // self.config.tokens, 1
        )
        patches = coarse.flatten(2).transpose(1, 2) + self.places + spread
        tokens = torch.cat([latents, patches, self.clinical(told.clinical)[:, None]], 1)
        if self.fusion is not None:
            tokens = self.fusion(tokens, past.codes, past.known)
        for block in self.blocks:
            tokens = block(tokens)
        kept = self.norm(tokens[:, self.config.tokens : -1])
        grid = self.config.grid
        square = kept.transpose(1, 2).reshape(len(codes), self.config.width, grid, grid)
        frame: Tensor = self.painter(square, (fine, middle), past.frame, draft)
        return frame


def _fusion(config: TiTokConfig) -> Fusion | None:
    if config.fusion == "none":
        return None
    return Fusion(
        config.width, config.heads, config.tokens, config.code_dim, config.memory, config.fusion
    )


@dataclass(frozen=True, slots=True)
class Coded:
    """One frame through the tokenizer.

    Attributes
    ----------
    frame : Tensor, shape (n, 1, canvas, canvas)
    latents, codes : Tensor, shape (n, tokens, code_dim)
    tokens : Tensor or None, shape (n, tokens), int64
        None without a quantizer.
    commitment : Tensor, scalar
    """

    frame: Tensor
    latents: Tensor
    codes: Tensor
    tokens: Tensor | None
    commitment: Tensor


class TiTok(nn.Module):
    """Encoder, codebook and decoder together, as they are trained.

    Parameters
    ----------
    config : TiTokConfig
    """

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.codebook = SphereCodebook(config.codes, config.code_dim)
        self.decoder = Decoder(config)

    def forward(
        self, frame: Tensor, past: Past, told: Conditions, cosine: float | None = None
    ) -> Coded:
        """Code and decode a frame.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, canvas, canvas), float
            Window codes over `WINDOW_ONE`: 0..1.33.
        past : Past
        told : Conditions
        cosine : float, optional
            Noise in the quantizer's place, see `blurred`.
        """
        latents = self.encoder(frame, past, told)
        if cosine is not None:
            codes, tokens, commitment = blurred(latents, cosine), None, latents.new_zeros(())
        else:
            codes, tokens, commitment = self.codebook(latents)
        return Coded(self.decoder(codes, past, told), latents, codes, tokens, commitment)

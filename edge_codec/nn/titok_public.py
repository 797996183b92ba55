"""Weights of the public TiTok checkpoints in this network's place.

Yu et al. (2024) published TiTok trained on ImageNet (https://github.com/bytedance/1d-tokenizer,
Apache-2.0; the checkpoints' licenses are stated beside them). Their files are named as their code
names its modules (`modeling/titok.py`, `modeling/modules/blocks.py`), and this is how the parts
meet::

    encoder.transformer.N                    encoder.blocks.N, and the same for the decoder
      ln_1, ln_2                               norm_attention, norm_mlp
      attn.in_proj_weight, in_proj_bias        attention.query, key, value: thirds of it
      attn.out_proj, mlp.c_fc, mlp.c_proj      attention.output, widen, narrow
    encoder.ln_post, decoder.ln_post         encoder.norm, decoder.norm
    encoder.patch_embed                      encoder.pyramid, for gray frames; see `_embed_patches`
    encoder.positional_embedding             encoder.places, without the class token, interpolated
    latent_tokens + latent positions         encoder.latents, where there are as many
    encoder.conv_out                         encoder.head, unless the file is of the older kind
    decoder.decoder_embed                    decoder.embed
    decoder positions + mask_token           decoder.places, likewise interpolated
    decoder latent positions                 decoder.latents, where there are as many
    quantize.embedding                       codebook.vectors, brought to length 1

The older kind, which has `decoder.ffn.2`, mixes its latents in an order that this network does not
have (`is_legacy` in their code). Class tokens, `ln_pre` and the painting of pixels have no
counterpart here. What a file has and this network does not is left, with the reason, and what this
network has beside stays as it was: it is a start for a training, no tokenizer yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.errors import SourceError, SpecError
from edge_codec.nn.safetensors_file import SafetensorsFile
from edge_codec.nn.titok import Decoder, Encoder, TiTok
from edge_codec.nn.titok_parts import Pyramid

PUBLIC_SUFFIX = ".safetensors"
HEAD_WIDTH = 64
"""Length of a head's part of a token in all of their sizes."""

LINEAR_BIAS = 8.0
"""GELU(x + 8) is x + 8 to seven digits for x of -2 and above."""

_BLOCK = {
    "ln_1.weight": "norm_attention.weight",
    "ln_1.bias": "norm_attention.bias",
    "attn.out_proj.weight": "attention.output.weight",
    "attn.out_proj.bias": "attention.output.bias",
    "ln_2.weight": "norm_mlp.weight",
    "ln_2.bias": "norm_mlp.bias",
    "mlp.c_fc.weight": "widen.weight",
    "mlp.c_fc.bias": "widen.bias",
    "mlp.c_proj.weight": "narrow.weight",
    "mlp.c_proj.bias": "narrow.bias",
}
_NEEDED = ("encoder.positional_embedding", "encoder.latent_token_positional_embedding")


@dataclass(slots=True)
class PublicWeights:
    """What became of the tensors of a public checkpoint.

    Attributes
    ----------
    taken : list of str
        Names in the file.
    left : dict of str to str
        The others, with the reason.
    """

    taken: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """One line for each reason, with how many tensors it holds for."""
        reasons = sorted(set(self.left.values()))
        counts = [f"{list(self.left.values()).count(reason)} left: {reason}" for reason in reasons]
        return "; ".join([f"{len(self.taken)} tensors taken", *counts])


def load_public(model: TiTok, path: Path) -> PublicWeights:
    """Take from a public TiTok checkpoint what fits a network.

    Parameters
    ----------
    model : TiTok
        Changed in place.
    path : Path
        `model.safetensors` of a tokenizer.

    Raises
    ------
    SourceError
        If the file is damaged, or is no checkpoint of TiTok.
    SpecError
        If widths agree and heads do not: then the same numbers would mean something else.
    """
    file = SafetensorsFile(path)
    absent = [name for name in _NEEDED if len(file.shapes.get(name, ())) != 2]
    if absent:
        raise SourceError(f"{path} has no {absent[0]}; expected the tokenizer of TiTok")
    config, width = model.config, file.shapes[_NEEDED[0]][1]
    if width == config.width and config.heads * HEAD_WIDTH != width:
        raise SpecError(
            f"the network has {config.heads} heads; with a width of {width}, {path} has "
            f"{width // HEAD_WIDTH}"
        )
    transplant = _Transplant(model, file)
    with torch.no_grad():
        transplant.run()
    return transplant.found


class _Transplant:
    """Goes through the parts of a checkpoint."""

    def __init__(self, model: TiTok, file: SafetensorsFile) -> None:
        self._model = model
        self._file = file
        self.found = PublicWeights()

    def run(self) -> None:
        model = self._model
        self._embed_patches(model.encoder.pyramid)
        for name, half in (("encoder", model.encoder), ("decoder", model.decoder)):
            self._blocks(name, half)
            for part in ("weight", "bias"):
                self._copy(f"{name}.ln_post.{part}", getattr(half.norm, part))
            self._places(name, half)
        self._latents()
        self._head(model.encoder.head)
        for part in ("weight", "bias"):
            self._copy(f"decoder.decoder_embed.{part}", getattr(model.decoder.embed, part))
        self._codebook()
        for name in self._file.shapes:
            if name not in self.found.taken and name not in self.found.left:
                self.found.left[name] = "no counterpart in this network"

    def _blocks(self, name: str, half: Encoder | Decoder) -> None:
        for number, block in enumerate(half.blocks):
            theirs = f"{name}.transformer.{number}."
            for source, target in _BLOCK.items():
                self._copy(theirs + source, block.get_parameter(target))
            for part in ("weight", "bias"):
                ours = [block.get_submodule(f"attention.{x}") for x in ("query", "key", "value")]
                self._copy_thirds(f"{theirs}attn.in_proj_{part}", [getattr(x, part) for x in ours])

    def _copy(self, name: str, target: Tensor) -> None:
        """Copy a tensor where its shape, up to axes of length 1, is the target's."""
        if name not in self._file:
            return
        shape = tuple(length for length in self._file.shapes[name] if length != 1)
        if shape != tuple(length for length in target.shape if length != 1):
            self._leave(name, target.shape)
        else:
            target.copy_(self._read(name).reshape(target.shape))
            self.found.taken.append(name)

    def _copy_thirds(self, name: str, targets: list[Tensor]) -> None:
        """Copy a tensor that holds query, key and value one after the other."""
        if name not in self._file:
            return
        length, *rest = targets[0].shape
        if self._file.shapes[name] != (3 * length, *rest):
            self._leave(name, (3 * length, *rest))
            return
        for target, third in zip(targets, self._read(name).chunk(3), strict=True):
            target.copy_(third)
        self.found.taken.append(name)

    def _places(self, name: str, half: Encoder | Decoder) -> None:
        """Interpolate positions on their grid to ours; the first belongs to their class token."""
        source = f"{name}.positional_embedding"
        if source not in self._file:
            return
        count, width = self._file.shapes[source]
        grid = round(max(count - 1, 0) ** 0.5)
        if width != half.config.width or grid < 1 or grid * grid != count - 1:
            self._leave(source, half.places.shape)
            return
        square = self._read(source)[1:].T.reshape(1, width, grid, grid)
        ours = half.config.grid
        square = F.interpolate(square, (ours, ours), mode="bicubic", align_corners=False)
        half.places.copy_(square.flatten(2).transpose(1, 2))
        self.found.taken.append(source)
        mask = f"{name}.mask_token"
        if self._file.shapes.get(mask) == (1, 1, width):
            half.places.add_(self._read(mask))
            self.found.taken.append(mask)

    def _latents(self) -> None:
        self._copy("latent_tokens", self._model.encoder.latents)
        name = "encoder.latent_token_positional_embedding"
        if "latent_tokens" in self.found.taken:
            self._model.encoder.latents.add_(self._read(name))
            self.found.taken.append(name)
        else:
            self._leave(name, self._model.encoder.latents.shape)
        self._copy("decoder.latent_token_positional_embedding", self._model.decoder.latents)

    def _head(self, head: nn.Linear) -> None:
        names = "encoder.conv_out.weight", "encoder.conv_out.bias"
        if "decoder.ffn.2.weight" in self._file:
            self.found.left |= dict.fromkeys(names, "made for the older kind's order of latents")
            return
        self._copy(names[0], head.weight)
        self._copy(names[1], head.bias)

    def _codebook(self) -> None:
        codebook = self._model.codebook
        self._copy("quantize.embedding.weight", codebook.vectors)
        if "quantize.embedding.weight" in self.found.taken:
            codebook.vectors.copy_(F.normalize(codebook.vectors, dim=1))
            codebook.counts.fill_(1.0)
            codebook.sums.copy_(codebook.vectors)

    def _embed_patches(self, pyramid: Pyramid) -> None:
        """Make the pyramid compute what their projection of patches makes of a gray frame.

        Its first convolution copies the 16 pixels of each cell of 4x4 of the frame's plane, the
        next two gather four neighbors each, and the last one's weights are theirs, summed over the
        colors. A bias carries the values through the GELUs' straight part. Channels that this
        leaves over start with no weight in the sum, and learn.
        """
        name = "encoder.patch_embed.weight"
        fine, middle, width = (
            layer.out_channels for layer in (pyramid.stem, pyramid.to_middle, pyramid.to_coarse)
        )
        if self._file.shapes.get(name) != (width, 3, 16, 16) or fine < 16 or middle < 64:
            for each in (name, "encoder.patch_embed.bias"):
                if each in self._file:
                    self._leave(each, (width, 3, 16, 16))
            return
        gray = self._read(name).sum(1)
        # Pixel (row, column) of a patch: bits 3 of both choose the quarter, 2 the cell, the rest
        # the pixel. Channels of the first layer: (row, column, plane) of the frame's first plane.
        planes = pyramid.stem.in_channels // 16
        pyramid.stem.weight[:16] = 0
        _bias(pyramid.stem)[:16] = LINEAR_BIAS
        pyramid.stem.weight[range(16), range(0, 16 * planes, planes), 1, 1] = 1
        pyramid.to_middle.weight[:64] = 0
        _bias(pyramid.to_middle)[:64] = 0
        pyramid.to_coarse.weight.zero_()
        _silence(pyramid.fine.second)
        _silence(pyramid.middle.second)
        for down in range(2):
            for right in range(2):
                start = 16 * (2 * down + right)
                pyramid.to_middle.weight[
                    range(start, start + 16), range(16), 1 + down, 1 + right
                ] = 1
        for down in range(2):
            for right in range(2):
                quarter = gray[:, 8 * down : 8 * down + 8, 8 * right : 8 * right + 8]
                cells = quarter.reshape(width, 2, 4, 2, 4).permute(0, 1, 3, 2, 4)
                pyramid.to_coarse.weight[:, :64, 1 + down, 1 + right] = cells.reshape(width, 64)
        self.found.taken.append(name)
        bias = _bias(pyramid.to_coarse)
        bias.zero_()
        self._copy("encoder.patch_embed.bias", bias)
        bias.sub_(LINEAR_BIAS * gray.sum((1, 2)))

    def _read(self, name: str) -> Tensor:
        return torch.from_numpy(self._file.read(name))

    def _leave(self, name: str, wanted: tuple[int, ...]) -> None:
        self.found.left[name] = f"its shape is not {tuple(wanted)}"


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        raise SpecError("a convolution of the pyramid has no bias")
    return layer.bias


def _silence(layer: nn.Conv2d) -> None:
    layer.weight.zero_()
    _bias(layer).zero_()

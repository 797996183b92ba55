"""Which form of attention pays: the same short training with each, from the same start.

`python -m edge_codec.training.attention_forms --config C --data PACK --start averaged.pt --out O`
replaces the attention of the conditional codec by each of `FORMS`, trains as the configuration
says, and codes the held-out cases; prints one JSON object per form. All forms keep the blocks'
motion and start from the same weights but for what the form adds; attention starts fresh in all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.metrics.rate import bjontegaard
from edge_codec.nn.cost import parameters
from edge_codec.nn.cross_attention import WEIGHTS, SubbandAttention
from edge_codec.nn.depth_unit import silent
from edge_codec.nn.dwt_cal import DwtCal
from edge_codec.nn.vqvae import ConvUnit
from edge_codec.training.curves import load_model
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.pack import CineSequence, read_pack
from edge_codec.training.stages import StageConfig, Trainer, read_config, train, validate

SEARCH = 3
"""Positions at an eighth of the resolution, along each axis, that `FeatureWindow` looks at."""


class NoAttention(nn.Module):
    """Stands for the attention between subbands, or for the learned window: adds nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        """Give zeros (n, channels, h, w)."""
        return x.new_zeros(len(x), self.channels, *x.shape[-2:])


class GlobalSubbandAttention(SubbandAttention):
    """Each subband attends to what all of the subbands hold anywhere in the frame.

    Linear attention over all positions: keys and values are summed over the frame first, so that
    the cost does not grow with the square of its size.
    """

    def forward(self, coefficients: Tensor, reference: Tensor) -> Tensor:
        """Apply to two sets of coefficients (n, 64, h, w): gives (n, outputs, h, w)."""
        query = self._per_band(self.query, coefficients, 1).relu()
        own = self._per_band(self.own, coefficients, 2)
        other = self._per_band(self.reference, reference, 2)
        keys, values = torch.cat((own, other), dim=1).chunk(2, dim=2)
        keys = keys.relu() / (keys.shape[1] * keys.shape[-2] * keys.shape[-1])
        table = torch.einsum("nkdhw,nkehw->nde", keys, values)
        total = torch.einsum("nkdhw->nd", keys)
        weight = 1.0 + torch.einsum("nqdhw,nd->nqhw", query, total)[:, :, None]
        mixed = torch.einsum("nqdhw,nde->nqehw", query, table) / weight
        y: Tensor = self.project(mixed.flatten(1, 2))
        return y


class FeatureWindow(nn.Module):
    """A context that also attends to the previous decoded features in a window around a position.

    Queries come from the context, keys and values from the features, in a window of
    `SEARCH` x `SEARCH` positions of 8 pixels; weights as in `SubbandAttention`.
    """

    def __init__(self, context: nn.Module, features: int) -> None:
        super().__init__()
        self.context = context
        self.query = ConvUnit(features, features, 1, relu=False)
        self.key = ConvUnit(features, features, 1, relu=False)
        self.value = ConvUnit(features, features, 1, relu=False)
        self.project = silent(ConvUnit(features, features, 1, relu=False))

    def forward(self, before: Tensor, features: Tensor, quality: Tensor) -> Tensor:
        """Context (n, features, h, w), as the context alone gives it."""
        context: Tensor = self.context(before, features, quality)
        n, channels, h, w = context.shape
        window = [
            F.unfold(part(features), SEARCH, padding=SEARCH // 2).reshape(n, channels, -1, h, w)
            for part in (self.key, self.value)
        ]
        weights = (self.query(context)[:, :, None] * window[0]).sum(dim=1, keepdim=True).relu()
        weights = weights / (1.0 + weights.sum(dim=2, keepdim=True))
        mixed: Tensor = context + self.project((weights * window[1]).sum(dim=2))
        return mixed


FORMS = ("motion", "window", "subbands", "window_subbands", "window_global", "window_features")
"""Motion alone; with the learned window; with attention between subbands, position by position;
with both, which is what ships; with the subbands' attention over the whole frame instead; with all
of what ships and attention to the previous features."""


def give_form(model: DwtCal, form: str, seed: int) -> DwtCal:
    """Replace the attention of the conditional codec by one of `FORMS`."""
    torch.manual_seed(seed)
    codec, features = model.inter, model.config.features
    attention: nn.Module = SubbandAttention(features)
    if form in ("motion", "window"):
        attention = NoAttention(features)
    elif form == "window_global":
        attention = GlobalSubbandAttention(features)
    codec.analysis.add_module("attention", attention)
    if form in ("motion", "subbands"):
        codec.add_module("window", NoAttention(WEIGHTS + 1))
    if form == "window_features":
        codec.add_module("context", FeatureWindow(codec.context, features))
    return model


def measure(
    form: str, config: StageConfig, start: Path, out: Path, sequences: list[CineSequence]
) -> dict[str, Any]:
    """Train one form and code the held-out cases with its averaged weights."""
    model = load_model(start)
    model.start_inter_from_key()
    once = dataclasses.replace(config.train, key_starts_inter=False)
    config = dataclasses.replace(config, train=once)
    folder = out / f"{form}_{config.train.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, folder, give_form(model, form, config.train.seed))
    train(trainer, sequences)
    watched = {one.case: one for one in reversed(sequences) if one.case in config.held_out}
    points = validate(trainer, list(watched.values()))
    return {
        "form": form,
        "seed": config.train.seed,
        "steps": trainer.step,
        "seconds": round(trainer.elapsed_s),
        "inter_parameters": parameters(model.inter),
        "points": points,
    }


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options, train and measure, print one JSON object per form."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.attention_forms")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the training")
    parser.add_argument("--data", type=Path, required=True, help="file of edge_codec.training.pack")
    parser.add_argument("--start", type=Path, required=True, help="averaged.pt of the key stage")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--seed", type=int, help="instead of the configuration's")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = read_config(options.config)
    if options.seed is not None:
        again = dataclasses.replace(config.train, seed=options.seed)
        config = dataclasses.replace(config, train=again)
    sequences = read_pack(options.data)
    anchor: list[tuple[float, float]] = []
    for form in options.forms:
        result = measure(form, config, options.start, options.out, sequences)
        curve = [(point["bpp"], point["psnr"]) for point in result["points"]]
        anchor = anchor or curve
        result["rate_percent"] = bjontegaard(anchor, curve).rate_percent
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

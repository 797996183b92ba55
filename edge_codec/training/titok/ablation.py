"""What each part is worth: the same short training without it, from one common start.

`benchmarks/titok_ablation.py` runs it and keeps the records. The three forms of fusion all begin
with new weights of the fusion, and are to be compared with each other; the other variants keep the
start's and are to be compared with `all`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from edge_codec.errors import SpecError
from edge_codec.nn.titok import TiTok
from edge_codec.nn.titok_parts import FUSIONS
from edge_codec.training.titok.checkpoint import load_titok
from edge_codec.training.titok.cines import Library
from edge_codec.training.titok.config import TitokTraining
from edge_codec.training.titok.judge import Judge
from edge_codec.training.titok.trainer import Trainer, train

TERMS = ("perceptual", "segmentation", "temporal", "periodicity", "clinical", "consistency")

VARIANTS = (
    "all",
    *(f"fusion_{kind}" for kind in FUSIONS),
    "no_heart_bias",
    "no_heart_weight",
    "no_quality_weight",
    "no_entropy",
    *(f"no_{term}" for term in TERMS),
)
"""`all` is the configuration as it is; `no_heart_bias` is never told where the heart is."""

MEASURES = ("psnr_db", "ssim", "dice", "temporal_ratio", "usage", "entropy_bits")


def variant_config(config: TitokTraining, variant: str) -> TitokTraining:
    """Leave a part out of a configuration.

    Raises
    ------
    SpecError
        If there is no such variant, or the configuration has no such part.
    """
    if variant not in VARIANTS:
        raise SpecError(f"variant '{variant}' is unknown; use some of {', '.join(VARIANTS)}")
    kind, _, part = variant.partition("_")
    if kind == "fusion":
        return dataclasses.replace(config, network=dataclasses.replace(config.network, fusion=part))
    if kind == "all":
        return config
    if variant == "no_heart_bias":
        if config.told.heart == 0:
            raise SpecError("the configuration never tells where the heart is; set told.heart")
        return dataclasses.replace(config, told=dataclasses.replace(config.told, heart=0.0))
    name = part.removesuffix("_weight")
    if getattr(config.loss, name) == 0:
        raise SpecError(f"loss.{name} is 0 in the configuration; there is nothing to leave out")
    return dataclasses.replace(config, loss=dataclasses.replace(config.loss, **{name: 0.0}))


def variant_model(start: TiTok, config: TitokTraining, variant: str) -> TiTok:
    """Return a copy of the start, with new weights of another fusion where the variant has one."""
    torch.manual_seed(config.train.seed)
    network, state = start.config, start.state_dict()
    if variant.startswith("fusion_"):
        network = dataclasses.replace(network, fusion=config.network.fusion)
        state = {name: value for name, value in state.items() if ".fusion." not in name}
    model = TiTok(network)
    model.load_state_dict(state, strict=False)
    return model


def ablate(
    config: TitokTraining,
    start: Path,
    data: tuple[Library, Library],
    judge: Judge | None,
    out: Path,
    variants: Iterable[str] = VARIANTS,
) -> Iterator[dict[str, Any]]:
    """Train each variant and measure it on the held-out cines.

    Parameters
    ----------
    config : TitokTraining
        With all parts; `train.steps` is how long each variant trains.
    start : Path
        `averaged.pt` that all begin with.
    data : (Library, Library)
        To train on, and held out.
    judge : Judge, optional
    out : Path
        Folder; each variant has one of its own in it.
    variants : iterable of str
        Some of `VARIANTS`.

    Yields
    ------
    dict
        `variant`, `steps`, `seconds`, and `MEASURES` as `validate` gives them.

    Raises
    ------
    SourceError, SpecError
        If there is no start or no held-out cine, or a variant cannot be made; before any training.
    """
    library, held_out = data
    if len(held_out) == 0:
        raise SpecError(f"the data hold no patient {', '.join(config.held_out)} to measure on")
    made = {variant: variant_config(config, variant) for variant in variants}
    common = load_titok(start)
    for variant, changed in made.items():
        folder = out / variant
        folder.mkdir(parents=True, exist_ok=True)
        model = variant_model(common, changed, variant)
        trainer = Trainer(changed, folder, library, model, judge)
        train(trainer, Library([]), show=False)
        found = trainer.validate(held_out)
        yield {
            "variant": variant,
            "steps": trainer.step,
            "seconds": round(trainer.elapsed_s),
            **{name: found[name] for name in MEASURES},
        }

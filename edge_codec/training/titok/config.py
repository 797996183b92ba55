"""A stage of training as its YAML file describes it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edge_codec.base.titok.canvas import SIDE
from edge_codec.errors import SpecError
from edge_codec.nn.titok import SIZES, TiTokConfig
from edge_codec.training.cine_augment import CineLimits

Section = TypeVar("Section")

STAGES: dict[str, tuple[str, ...]] = {
    "pretrain": ("encoder.",),
    "adapters": (
        "encoder.latents", "encoder.gather.", "encoder.anatomy.", "encoder.clinical.",
        "encoder.heart_bias", "encoder.fusion.", "encoder.norm.", "encoder.head.",
        "encoder.shortcut.", "decoder.",
    ),
    "decoder": ("encoder.fusion.", "decoder."),
    "whole": ("encoder.", "decoder."),
}  # fmt: skip
"""Beginnings of the names of the parameters that each stage trains; the codebook has none, it
follows the latents."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How cines become streams.

    Attributes
    ----------
    batch, rounds : int
        Frames of a step, and steps in which every stream has its turn: `batch * rounds` streams.
        With one round a step's frames depend on what the step before taught, and what one step
        overdoes the next ones see and overdo the other way: the training may swing itself up.
    life : (int, int)
        Fewest and most frames of a cine before the stream goes on with another one.
    change_chance : float
        Probability of a change within `limits`.
    reverse_chance, mirror_chance : float
        Probability of going backward in time, and of left and right changing places.
    shift : float
        Largest shift along each axis, as a part of the canvas's side.
    limits : CineLimits
        Of rotation, scale, tempo and contrast.
    """

    batch: int
    life: tuple[int, int]
    rounds: int = 1
    change_chance: float = 0.85
    reverse_chance: float = 0.0
    mirror_chance: float = 0.0
    shift: float = 0.0
    limits: CineLimits = field(default_factory=CineLimits)


@dataclass(frozen=True, slots=True)
class ToldOptions:
    """Probabilities that a frame's network is told something beside the frame.

    Attributes
    ----------
    heart, anatomy : float
        The map of the heart, and the features of the segmentation.
    clinical : float
        Each fact by itself: height, weight, phase of the cycle, group.
    """

    heart: float = 0.0
    anatomy: float = 0.0
    clinical: float = 0.0


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms of the loss, 0 for those that are not computed; see `losses`.

    Attributes
    ----------
    pixel_squared, pixel_absolute, structural, perceptual, segmentation, temporal : float
    periodicity, clinical, consistency, commitment, entropy : float
        Of the terms.
    heart : float
        Added to the weight of a pixel in the heart; the rest weighs 1.
    quality : float
        Power by which frames that came out worse weigh more; 0 for all alike.
    """

    pixel_squared: float = 0.0
    pixel_absolute: float = 0.0
    structural: float = 0.0
    perceptual: float = 0.0
    segmentation: float = 0.0
    temporal: float = 0.0
    periodicity: float = 0.0
    clinical: float = 0.0
    consistency: float = 0.0
    commitment: float = 0.0
    entropy: float = 0.0
    heart: float = 0.0
    quality: float = 0.0

    @property
    def need_judge(self) -> bool:
        """Whether a term looks through the segmentation network."""
        return self.perceptual > 0 or self.segmentation > 0 or self.clinical > 0


@dataclass(frozen=True, slots=True)
class QuantizerOptions:
    """How the codebook comes to be.

    Attributes
    ----------
    noise_steps : int
        First steps, with noise in the quantizer's place; the codebook then starts from the latents
        of the last of them. 0 to go on with the codebook there is.
    cosine : float
        Of latents and what the noise makes of them, 0..1.
    rows : int
        Latents to start from.
    revive_every : int
        Steps between replacements of codes that nothing chooses any more.
    revive_until : float
        Part of the schedule after which codes are left to themselves.
    """

    noise_steps: int = 0
    cosine: float = 0.86
    rows: int = 200_000
    revive_every: int = 25
    revive_until: float = 0.85


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The schedule.

    Attributes
    ----------
    seed, steps, warmup_steps : int
        Steps end the schedule; the learning rate rises over the first `warmup_steps`.
    learning_rate, final_learning_rate, weight_decay, clip_norm : float
        The rate falls along a cosine.
    ema_decay : float
    checkpoint_seconds : float
    log_every, validate_every : int
        Steps.
    validate_frames : int
        Frames of each held-out cine that validation codes.
    masked_share : float
        Part of the patches that stage `pretrain` hides.
    rates : dict of str to float
        Factors of the learning rate, by the beginning of the parameters' names; the longest that
        fits counts. Codes that follow the latents need latents that move slowly.
    """

    seed: int
    steps: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    clip_norm: float
    ema_decay: float
    checkpoint_seconds: float
    log_every: int
    validate_every: int
    validate_frames: int = 24
    masked_share: float = 0.6
    rates: dict[str, float] = field(default_factory=dict)

    def rate_factor(self, name: str) -> float:
        """Return the factor of the learning rate of a parameter."""
        fitting = [beginning for beginning in self.rates if name.startswith(beginning)]
        return self.rates[max(fitting, key=len)] if fitting else 1.0


@dataclass(frozen=True, slots=True)
class TitokTraining:
    """One stage.

    Attributes
    ----------
    stage : str
        One of `STAGES`.
    network : TiTokConfig
        What to build where training starts from nothing.
    held_out : tuple of str
        Patients of the training data to validate on.
    """

    stage: str
    network: TiTokConfig
    held_out: tuple[str, ...]
    streams: StreamOptions
    told: ToldOptions
    loss: LossWeights
    quantizer: QuantizerOptions
    train: TrainOptions


_MALFORMED = (KeyError, AttributeError, TypeError, ValueError)


def read_config(path: Path) -> TitokTraining:
    """Read a YAML configuration.

    Raises
    ------
    SpecError
        If it cannot be read, a field is missing, unknown or out of range, or the size or the stage
        is unknown.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise SpecError("it holds no fields")
        config = _config(content)
    except (OSError, yaml.YAMLError, SpecError, *_MALFORMED) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SpecError(f"{path}: {reason}; the shipped titok_*.yaml show all fields") from error
    return config


def _config(content: dict[str, Any]) -> TitokTraining:
    unknown = (
        content.keys() - {field.name for field in dataclasses.fields(TitokTraining)} - {"size"}
    )
    if unknown:
        raise SpecError(f"unknown fields {', '.join(sorted(unknown))}")
    streams = dict(content["streams"])
    streams["limits"] = _section(CineLimits, streams.get("limits", {}))
    config = TitokTraining(
        str(content["stage"]),
        network_of(str(content["size"]), content.get("network", {})),
        tuple(map(str, content["held_out"])),
        _section(StreamOptions, streams),
        _section(ToldOptions, content.get("told", {})),
        _section(LossWeights, content.get("loss", {})),
        _section(QuantizerOptions, content.get("quantizer", {})),
        _section(TrainOptions, content["train"]),
    )
    _check(config)
    return config


def network_of(size: str, changes: dict[str, Any]) -> TiTokConfig:
    """Return a size of `SIZES`, with some of its fields changed.

    Raises
    ------
    SpecError
        If there is no such size or field, or the canvas is none that frames are fitted to.
    """
    if size not in SIZES:
        raise SpecError(f"size '{size}' is unknown; use {' or '.join(SIZES)}")
    try:
        network = dataclasses.replace(SIZES[size], **changes)
    except TypeError as error:
        raise SpecError(f"network: {error}") from error
    if network.canvas != SIDE:
        raise SpecError(f"the canvas is {network.canvas}; frames are fitted to one of {SIDE}")
    return network


def _section(kind: type[Section], content: dict[str, Any]) -> Section:
    """Build a section; YAML has lists where the code has tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


def _check(config: TitokTraining) -> None:
    """Refuse what would train, but not what was meant."""
    if config.stage not in STAGES:
        raise SpecError(f"stage '{config.stage}' is unknown; use one of {', '.join(STAGES)}")
    streams, train = config.streams, config.train
    low, high = streams.life
    if min(streams.batch, streams.rounds) < 1 or not 1 <= low <= high:
        raise SpecError(
            f"a batch of {streams.batch}, {streams.rounds} rounds and lives of {low} to {high}; "
            "use 1 or more"
        )
    chances = {
        "streams.change_chance": streams.change_chance,
        "streams.reverse_chance": streams.reverse_chance,
        "streams.mirror_chance": streams.mirror_chance,
        "streams.shift": streams.shift,
        "quantizer.cosine": config.quantizer.cosine,
        "quantizer.revive_until": config.quantizer.revive_until,
        "train.masked_share": train.masked_share,
        **{f"told.{name}": value for name, value in dataclasses.asdict(config.told).items()},
    }
    for name, value in chances.items():
        if not 0 <= value <= 1:
            raise SpecError(f"{name} is {value}; use 0 to 1")
    weights = {
        **{f"loss.{name}": value for name, value in dataclasses.asdict(config.loss).items()},
        **{f"train.rates.{name}": value for name, value in train.rates.items()},
    }
    for name, value in weights.items():
        if not (math.isfinite(value) and value >= 0):
            raise SpecError(f"{name} is {value}; use 0 or more")
    quantizer, network = config.quantizer, config.network
    rows = min(quantizer.rows, quantizer.noise_steps * streams.batch * network.tokens)
    if quantizer.noise_steps > 0 and rows < network.codes:
        raise SpecError(
            f"the codebook would start from {rows} latents, and has {network.codes} codes; raise "
            "quantizer.noise_steps or quantizer.rows"
        )
    every = (train.steps, train.log_every, train.validate_every, quantizer.revive_every)
    if min(every) < 1:
        raise SpecError("steps and what happens every so many of them must be 1 or more")

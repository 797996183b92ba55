"""Train the segmentation network: `python -m edge_codec.training.segmentation`.

    python -m edge_codec.training.segmentation --config C --data D [--splits S] --out O [--resume]

`D` is a folder in ACDC's layout (`edge_codec.training.segmentation_data`); of the splits only the
cases of `train` are read. Writes `checkpoint.pt` (resumable at any step: the data of a step depend
on the seed and the step alone), `averaged.pt` (the weights to export), `log.jsonl`, and a plot of
the log where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from edge_codec.errors import EdgeCodecError, SourceError, SpecError
from edge_codec.nn.segmentation import SegmentationConfig, SegmentationNetwork
from edge_codec.training.checkpoints import (
    CHECKPOINT,
    STATE_ERRORS,
    read_state,
    resumed,
    write_training,
)
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.ema import AveragedWeights
from edge_codec.training.running import LOG, PLOT, Run
from edge_codec.training.schedule import rate_of
from edge_codec.training.segmentation_augment import (
    AugmentOptions,
    LabeledFrame,
    draw_batch,
    frames_of,
)
from edge_codec.training.segmentation_data import LabeledVolume, read_cases, read_labeled
from edge_codec.training.segmentation_measure import plot_log, segmentation_loss, validate


@dataclasses.dataclass(frozen=True, slots=True)
class TrainOptions:
    """The `train` section of a configuration.

    Attributes
    ----------
    seed, steps, warmup_steps, batch : int
        Steps end the schedule; the learning rate rises over the first `warmup_steps`.
    learning_rate, final_learning_rate, weight_decay, clip_norm, ema_decay : float
        The rate falls along a cosine.
    class_weights : tuple of float
        Of the four classes in the cross-entropy.
    checkpoint_seconds : float
    log_every, validate_every : int
        Steps.
    """

    seed: int
    steps: int
    warmup_steps: int
    batch: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    clip_norm: float
    ema_decay: float
    class_weights: tuple[float, ...]
    checkpoint_seconds: float
    log_every: int
    validate_every: int


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A configuration; `configs/segmentation.yaml` is the shipped one.

    Attributes
    ----------
    widths : tuple of int
        See `SegmentationConfig`.
    held_out : tuple of str
        Cases to validate on.
    augment : AugmentOptions
    train : TrainOptions
    """

    widths: tuple[int, ...]
    held_out: tuple[str, ...]
    augment: AugmentOptions
    train: TrainOptions


def read_config(path: Path) -> TrainingConfig:
    """Read a YAML configuration.

    Raises
    ------
    SpecError
        If it cannot be read, or a field is missing or unknown.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        train = dict(content["train"])
        train["class_weights"] = tuple(train["class_weights"])
        return TrainingConfig(
            tuple(content["widths"]),
            tuple(content["held_out"]),
            AugmentOptions(**content["augment"]),
            TrainOptions(**train),
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SpecError(
            f"{path}: {error!r}; the shipped segmentation.yaml shows all fields"
        ) from error


class Trainer:
    """Network, optimizer, averaged weights and progress, with checkpoints.

    Parameters
    ----------
    config : TrainingConfig
    out : Path
        Folder of checkpoints and log.
    device : str
        "cpu" or "cuda".
    """

    def __init__(self, config: TrainingConfig, out: Path, device: str = "cpu") -> None:
        self.config = config
        self.options = config.train
        self.out = out
        self.device = device
        torch.manual_seed(self.options.seed)
        network = SegmentationNetwork(SegmentationConfig(config.widths)).train().to(device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedWeights(self.network, self.options.ema_decay, buffers=True)
        self.weights = torch.tensor(self.options.class_weights, device=device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.options.learning_rate,
            weight_decay=self.options.weight_decay,
        )
        self.step = 0
        self.elapsed_s = 0.0

    def learning_rate(self) -> float:
        """Rate of the next step: rising, then along a cosine to `final_learning_rate`."""
        return rate_of(self.options, self.step)

    def train_step(self, frames: list[LabeledFrame]) -> float:
        """Take one optimizer step on a batch of these frames; return its loss."""
        rng = np.random.default_rng([self.options.seed, self.step])
        images, labels = draw_batch(frames, self.config.augment, self.options.batch, rng)
        images = images.to(self.device, memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        loss = segmentation_loss(self.network(images), labels.to(self.device), self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm)
        self.optimizer.step()
        self.averaged.update(self.network, self.step)
        self.step += 1
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint and the averaged network; a crash leaves the old ones whole."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.values,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        averaged = self.averaged.model(self.network).state_dict()
        write_training(self.out, state, self.network.config, averaged)

    def resume(self) -> None:
        """Continue from `checkpoint.pt`.

        Raises
        ------
        SourceError
            If there is none, or it belongs to another network.
        """
        with resumed(self.out, self.device) as state:
            self.network.load_state_dict(state["network"])
            self.averaged.load(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])


def train(trainer: Trainer, volumes: list[LabeledVolume]) -> None:
    """Run the schedule to its end, logging and saving on the way.

    Raises
    ------
    SourceError
        If there is nothing to train on.
    """
    options, held_out = trainer.options, trainer.config.held_out
    watched = [volume for volume in volumes if volume.case in held_out]
    frames = frames_of([volume for volume in volumes if volume.case not in held_out])
    if not frames:
        raise SourceError("all cases are held out; name fewer in the configuration")
    losses: list[float] = []
    show = sys.stderr.isatty()
    with Run(trainer, options.steps, options.checkpoint_seconds, show=show) as run:
        while trainer.step < options.steps:
            losses.append(trainer.train_step(frames))
            run.advance()
            if trainer.step % options.log_every == 0 or trainer.step == options.steps:
                run.write(_row(trainer, losses, watched), loss=f"{np.mean(losses):.3f}")
                losses.clear()
            run.save_if_due()
    plot_log(trainer.out / LOG, trainer.out / PLOT)


def _row(trainer: Trainer, losses: list[float], watched: list[LabeledVolume]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": trainer.step,
        "elapsed_s": round(trainer.elapsed_s),
        "loss": float(np.mean(losses)),
        "lr": trainer.learning_rate(),
    }
    options = trainer.options
    if trainer.step % options.validate_every == 0 or trainer.step == options.steps:
        row["dice"] = validate(trainer.averaged.model(trainer.network), watched)
    return row


def load_network(path: Path) -> SegmentationNetwork:
    """Load `averaged.pt` as a network in evaluation mode.

    Raises
    ------
    SourceError
        If it cannot be read or holds another network.
    """
    content = read_state(path)
    try:
        network = SegmentationNetwork(SegmentationConfig(tuple(content["config"]["widths"])))
        network.load_state_dict(content["state"])
    except STATE_ERRORS as error:
        raise SourceError(f"{path} holds no segmentation network: {error}") from error
    return network.eval()


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(
        prog="edge_codec.training.segmentation", description="Train the segmentation network."
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder in ACDC's layout")
    parser.add_argument("--splits", type=Path, help="JSON; only its train cases are read")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--resume", action="store_true", help="continue OUT/checkpoint.pt if any")
    parser.add_argument("--steps", type=int, help="end of the schedule instead of the config's")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        config = read_config(options.config)
        if options.steps:
            config = dataclasses.replace(
                config, train=dataclasses.replace(config.train, steps=options.steps)
            )
        cases = read_cases(options.splits, "train") if options.splits else None
        volumes = read_labeled(options.data, cases)
        options.out.mkdir(parents=True, exist_ok=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trainer = Trainer(config, options.out, device)
        if options.resume and (options.out / CHECKPOINT).exists():
            trainer.resume()
        train(trainer, volumes)
    except EdgeCodecError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()

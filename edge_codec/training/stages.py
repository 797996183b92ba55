"""Train dwt-cal in stages: `python -m edge_codec.training.stages --config C --data PACK --out O`.

Each stage is a configuration of its own and starts from the averaged weights of the one before
(`--start`): the key-frame codec, short groups, long rollouts. Writes `checkpoint.pt` (resumable at
any step: the data of a step depend on the seed and the step alone), `averaged.pt` (the weights to
evaluate, export, or start the next stage from), `log.jsonl`, and a plot of the log where matplotlib
is installed. fp32 on a CPU, bfloat16 where CUDA is.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from edge_codec.errors import SpecError
from edge_codec.nn.dwt_cal import SIZES, DwtCal
from edge_codec.training.checkpoints import CHECKPOINT, resumed, write_training
from edge_codec.training.curves import load_model, volume_point
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.ema import AveragedWeights
from edge_codec.training.gradient_guard import GradientGuard
from edge_codec.training.pack import CineSequence, read_pack
from edge_codec.training.rate_distortion import GroupLoss, GroupOffsets, group_loss
from edge_codec.training.running import LOG, PLOT, Run
from edge_codec.training.schedule import rate_of
from edge_codec.training.sequences import ClipOptions, ClipSource, batches
from edge_codec.training.training_plot import plot_log

BETAS = (0.9, 0.98)


@dataclasses.dataclass(frozen=True, slots=True)
class StageOptions:
    """The `train` section of a configuration.

    Attributes
    ----------
    seed, steps, warmup_steps : int
        Steps end the schedule; the learning rate rises over the first `warmup_steps`.
    learning_rate, final_learning_rate, weight_decay, clip_norm : float
        The rate falls along a cosine.
    ema_decay : float
    qualities : (float, float)
        Range of the groups' quality indices, drawn evenly.
    prediction_weight, side_weight : float
        See `group_loss`.
    key_starts_inter : bool
        Begin with the key-frame codec's weights in the conditional codec.
    checkpoint_seconds : float
    log_every, validate_every : int
        Steps.
    """

    seed: int
    steps: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    clip_norm: float
    ema_decay: float
    qualities: tuple[float, float]
    prediction_weight: float
    side_weight: float
    key_starts_inter: bool
    checkpoint_seconds: float
    log_every: int
    validate_every: int


@dataclasses.dataclass(frozen=True, slots=True)
class StageConfig:
    """One stage.

    Attributes
    ----------
    size : str
        A name of `SIZES`.
    held_out : tuple of str
        Cases to validate on.
    offsets : GroupOffsets
    clips : ClipOptions
    train : StageOptions
    """

    size: str
    held_out: tuple[str, ...]
    offsets: GroupOffsets
    clips: ClipOptions
    train: StageOptions


def read_config(path: Path) -> StageConfig:
    """Read a YAML configuration.

    Raises
    ------
    SpecError
        If it cannot be read, or a field is missing or unknown, or the size is.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = StageConfig(
            content["size"],
            tuple(content["held_out"]),
            GroupOffsets(**_tuples(content["offsets"])),
            ClipOptions(**_tuples(content["clips"])),
            StageOptions(**_tuples(content["train"])),
        )
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: {error!r}; the shipped dwt_cal_*.yaml show all fields") from error
    if config.size not in SIZES:
        raise SpecError(f"{path}: size '{config.size}' is unknown; use {' or '.join(SIZES)}")
    return config


def _tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}


class Trainer:
    """Model, optimizer, averaged weights and progress of one stage, with checkpoints.

    Parameters
    ----------
    config : StageConfig
    out : Path
        Folder of checkpoints and log.
    model : DwtCal, optional
        Where to start; fresh weights without it.
    device : str
        "cpu" or "cuda".
    """

    def __init__(
        self, config: StageConfig, out: Path, model: DwtCal | None = None, device: str = "cpu"
    ) -> None:
        self.config = config
        self.options = config.train
        self.out = out
        self.device = device
        torch.manual_seed(self.options.seed)
        if model is None:
            model = DwtCal(SIZES[config.size])
        if self.options.key_starts_inter:
            model.start_inter_from_key()
        self.model: DwtCal = model.train().to(device)
        self.averaged = AveragedWeights(self.model, self.options.ema_decay)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.options.learning_rate,
            betas=BETAS,
            weight_decay=self.options.weight_decay,
        )
        self.guard = GradientGuard()
        self.step = 0
        self.elapsed_s = 0.0

    def learning_rate(self) -> float:
        """Rate of the next step: rising, then along a cosine to `final_learning_rate`."""
        return rate_of(self.options, self.step)

    def train_step(self, frames: Tensor, weights: Tensor) -> GroupLoss:
        """Take one optimizer step.

        Parameters
        ----------
        frames : Tensor, shape (n, t, rows, columns), float32
        weights : Tensor, shape (n, 1, rows, columns), float32

        Returns
        -------
        GroupLoss
            Without gradients. A step that the guard leaves out changes nothing.

        Raises
        ------
        TrainingError
            If the guard has left out too many steps in a row.
        """
        frames, weights = frames.to(self.device), weights.to(self.device)
        rng = np.random.default_rng([self.options.seed, self.step, 1])
        drawn = rng.uniform(*self.options.qualities, len(frames)).astype(np.float32)
        base = torch.from_numpy(drawn).to(self.device)
        quality = self.config.offsets.quality(base, frames.shape[1])
        torch.manual_seed(int(rng.integers(1 << 62)))  # of the noise on the side latents
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            rollout = self.model.rollout(frames, quality)
        shares = self.options.prediction_weight, self.options.side_weight
        loss = group_loss(rollout, frames, weights, base, quality, *shares)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        if self.guard.accepts(float(norm)):
            self.optimizer.step()
            self.averaged.update(self.model, self.step)
        self.step += 1
        return GroupLoss(loss.total.detach(), loss.rate.detach(), loss.error.detach())

    def save(self) -> None:
        """Write the checkpoint and the averaged model; a crash leaves the old ones whole."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.values,
            "optimizer": self.optimizer.state_dict(),
            "guard": self.guard.state(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        averaged = self.averaged.model(self.model).state_dict()
        write_training(self.out, state, self.model.config, averaged)

    def resume(self) -> None:
        """Continue from `checkpoint.pt`.

        Raises
        ------
        SourceError
            If there is none, or it belongs to another network.
        """
        with resumed(self.out, self.device) as state:
            self.model.load_state_dict(state["model"])
            self.averaged.load(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.guard.load(**state["guard"])
            self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])


def train(trainer: Trainer, sequences: list[CineSequence], workers: int = 0) -> None:
    """Run the stage to its end, logging and saving on the way."""
    options, config = trainer.options, trainer.config
    # The first of a case in a pack is its middle slice.
    watched = {one.case: one for one in reversed(sequences) if one.case in config.held_out}
    source = ClipSource(
        [one for one in sequences if one.case not in config.held_out], config.clips, options.seed
    )
    losses: list[GroupLoss] = []
    with Run(trainer, options.steps, options.checkpoint_seconds) as run:
        for batch in batches(source, trainer.step, options.steps, workers):
            losses.append(trainer.train_step(*batch))
            run.advance()
            if trainer.step % options.log_every == 0:
                row = _row(trainer, losses)
                losses.clear()
                if trainer.step % options.validate_every == 0:
                    row["validation"] = validate(trainer, list(watched.values()))
                run.write(row, loss=f"{row['loss']:.3f}", bpp=f"{row['bpp']:.3f}")
            run.save_if_due()
    plot_log(trainer.out / LOG, trainer.out / PLOT)


def _row(trainer: Trainer, losses: list[GroupLoss]) -> dict[str, Any]:
    """Means over some steps, for the log."""
    error = float(torch.stack([loss.error.mean() for loss in losses]).mean())
    row = {"step": trainer.step, "elapsed_s": round(trainer.elapsed_s)}
    return row | {
        "loss": float(torch.stack([loss.total for loss in losses]).mean()),
        "bpp": float(torch.stack([loss.rate.mean() for loss in losses]).mean()),
        "key_bpp": float(torch.stack([loss.rate[:, 0].mean() for loss in losses]).mean()),
        "window_psnr": -10 * math.log10(max(error, 1e-12)),
        "lr": trainer.learning_rate(),
        "gradient_norm": trainer.guard.usual(),
        "skipped_steps": trainer.guard.skipped,
    }


def validate(trainer: Trainer, sequences: list[CineSequence]) -> list[dict[str, float]]:
    """Code the held-out sequences at the ends and the middle of the range of indices."""
    model = trainer.averaged.model(trainer.model)
    low, high = trainer.options.qualities
    points = []
    for quality in (low, (low + high) / 2, high):
        found = [volume_point(model, [one], quality, trainer.config.offsets) for one in sequences]
        if found:
            points.append({
                "quality": quality,
                "bpp": float(np.mean([point.bpp for point in found])),
                "psnr": float(np.mean([point.psnr_db for point in found])),
            })  # fmt: skip
    return points


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.stages", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="file of edge_codec.training.pack")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--start", type=Path, help="averaged.pt of the stage before")
    parser.add_argument("--resume", action="store_true", help="continue OUT/checkpoint.pt if any")
    parser.add_argument("--size", choices=sorted(SIZES), help="instead of the configuration's")
    parser.add_argument("--steps", type=int, help="end of the schedule, likewise")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--workers", type=int, default=0, help="threads that draw clips ahead")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    config = read_config(options.config)
    if options.size:
        config = dataclasses.replace(config, size=options.size)
    if options.steps:
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, steps=options.steps)
        )
    model = load_model(options.start) if options.start else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(config, options.out, model, device)
    if options.resume and (options.out / CHECKPOINT).exists():
        trainer.resume()
    train(trainer, read_pack(options.data), options.workers)


if __name__ == "__main__":
    main()

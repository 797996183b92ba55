"""Train the refinement of whole cines on pairs of `edge_codec.training.titok.refiner_pairs`.

`python -m edge_codec.training.titok.refiner --pairs FOLDER --out OUT --resume` takes one cine a
step. The loss is the logarithm of the squared error, over the frames and over the heart, which is
what the PSNR is but for its factor, so that a cine counts the same whether it came out well or
not; and 1 - SSIM.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from edge_codec.base.titok.refining import AGES, places_near
from edge_codec.errors import SourceError
from edge_codec.metrics.image import psnr, ssim
from edge_codec.nn.cine_refiner import CineRefiner, RefinerConfig
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.checkpoints import CHECKPOINT, resumed, write_training
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.ema import AveragedWeights
from edge_codec.training.running import Run
from edge_codec.training.schedule import rate_of
from edge_codec.training.titok.judge import BRIGHTEST
from edge_codec.training.titok.losses import HEART_MARGIN, structural_similarity
from edge_codec.training.titok.refiner_pairs import NAMES, Pair, read_pair

HEART_WEIGHT, STRUCTURE_WEIGHT = 0.5, 2.0
"""Of the heart's logarithm, and of 1 - SSIM, beside the frames' logarithm."""

LEAST_ERROR = 1e-6
"""Added to squared errors: what 8-bit window codes cannot tell."""

FINAL_RATE, WEIGHT_DECAY, CLIP_NORM, EMA_DECAY = 0.02, 1e-3, 1.0, 0.998
LOG_EVERY, CHECKPOINT_SECONDS = 50, 120.0
VALIDATED_CINES = 40
CUT, CUT_STEP = 64, 8
"""Side of the squares of a canvas that are trained on, and what their corners are multiples of."""


@dataclass(frozen=True, slots=True)
class RefinerOptions:
    """The schedule, see `edge_codec.training.schedule`.

    Attributes
    ----------
    steps, validate_every, seed, warmup_steps : int
    learning_rate : float
    """

    steps: int
    learning_rate: float
    validate_every: int
    seed: int
    warmup_steps: int = 50

    @property
    def final_learning_rate(self) -> float:
        """Where the cosine ends."""
        return FINAL_RATE * self.learning_rate


class RefinerTrainer:
    """Weights, optimizer and what a checkpoint keeps.

    Parameters
    ----------
    options : RefinerOptions
    paths : list of Path
        Pairs to train on.
    out : Path
        Folder of checkpoint and log.
    """

    def __init__(self, options: RefinerOptions, paths: list[Path], out: Path) -> None:
        self.options, self.out, self._paths = options, out, paths
        torch.manual_seed(options.seed)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = CineRefiner(RefinerConfig()).to(self.device)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedWeights(self.model, EMA_DECAY)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.step = 0
        self.elapsed_s = 0.0

    def train_step(self) -> dict[str, float]:
        """Refine one cine and learn from it; return the loss, and the PSNR before and after."""
        options = self.options
        rng = np.random.default_rng([options.seed, self.step])
        pair = read_pair(self._paths[int(rng.integers(len(self._paths)))])
        batch = _changed(tensors(pair, self.device), rng)
        refined = self.model(*batch.inputs)
        loss = refinement_loss(refined, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_of(options, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self.averaged.update(self.model, self.step)
        self.step += 1
        before, after = (
            float(_error(frames, batch.original, batch.inside))
            for frames in (batch.decoded, refined.detach())
        )
        return {
            "loss": float(loss.detach()),
            "before": psnr(before, 1.0),
            "after": psnr(after, 1.0),
        }

    @torch.no_grad()
    def validate(self, paths: list[Path]) -> dict[str, Any]:
        """Compare PSNR (peak: the exam's maximum) and SSIM before and after, means over cines."""
        model, rows = self.averaged.model(self.model), []
        for path in paths:
            pair = read_pair(path)
            batch = tensors(pair, self.device)
            refined = model(*batch.inputs).clamp(0, BRIGHTEST)
            rows.append([*quality(batch.decoded, batch, pair), *quality(refined, batch, pair)])
        means = np.array(rows).mean(axis=0).tolist()
        names = ("psnr", "heart_psnr", "ssim")
        return {
            "before": dict(zip(names, means[:3], strict=True)),
            "after": dict(zip(names, means[3:], strict=True)),
        }

    def save(self) -> None:
        """Write the checkpoint and the averaged model; a crash leaves the old ones whole."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.values,
            "optimizer": self.optimizer.state_dict(),
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
            If it belongs to another network.
        """
        with resumed(self.out, self.device) as state:
            self.model.load_state_dict(state["model"])
            self.averaged.load(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])


@dataclass(frozen=True, slots=True, eq=False)
class RefinerBatch:
    """A pair as tensors; (phases, 1, side, side), 0..1.33, but for `near`, `age` and `inside`."""

    original: Tensor
    decoded: Tensor
    heart: Tensor
    inside: Tensor
    age: Tensor
    near: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the network takes."""
        return self.decoded, self.inside, self.age, self.near


def tensors(pair: Pair, device: str = "cpu") -> RefinerBatch:
    """Return a pair as the network takes it."""

    def planes(array: np.ndarray[Any, Any], scale: float) -> Tensor:
        return (torch.from_numpy(array).to(device).float() / scale)[:, None]

    ages = np.minimum(pair.ages, AGES - 1)
    return RefinerBatch(
        planes(pair.original, WINDOW_ONE),
        planes(pair.decoded, WINDOW_ONE),
        planes(pair.heart, 1.0),
        planes(pair.inside[None], 1.0),
        torch.from_numpy(ages).to(device),
        torch.from_numpy(places_near(len(ages))).to(device),
    )


def quality(frames: Tensor, batch: RefinerBatch, pair: Pair) -> tuple[float, float, float]:
    """Return PSNR and PSNR in the heart of a slice, in dB, and SSIM, every fourth frame's mean.

    The peak is the exam's maximum; where nobody said heart, the second is the first.
    """
    error = float(_error(frames, batch.original, batch.inside))
    has_heart = bool(batch.heart.any())
    heart = float(_error(frames, batch.original, batch.heart)) if has_heart else error
    similar = [
        ssim(a[0].cpu().numpy(), b[0].cpu().numpy(), pair.peak)
        for a, b in zip(batch.original[::4], frames[::4], strict=True)
    ]
    return psnr(error, pair.peak), psnr(heart, pair.peak), float(np.mean(similar))


def refinement_loss(refined: Tensor, batch: RefinerBatch) -> Tensor:
    """Loss of a slice, a scalar; see the module's text."""
    loss = _log_error(refined, batch.original, batch.inside)
    structure = structural_similarity(refined, batch.original).mean()
    loss = loss + STRUCTURE_WEIGHT * (1 - structure)
    if batch.heart.any():
        wide = F.max_pool2d(batch.heart, HEART_MARGIN, 1, HEART_MARGIN // 2)
        loss = loss + HEART_WEIGHT * _log_error(refined, batch.original, wide * batch.inside)
    return loss


def _log_error(frames: Tensor, original: Tensor, weights: Tensor) -> Tensor:
    return torch.log(_error(frames, original, weights) + LEAST_ERROR)


def _error(frames: Tensor, original: Tensor, weights: Tensor) -> Tensor:
    weights = weights.expand_as(frames)
    return (weights * (frames - original).square()).sum() / weights.sum()


def _changed(batch: RefinerBatch, rng: np.random.Generator) -> RefinerBatch:
    """Cut out a square, the same of all frames, and turn it upside down or to the side by chance.

    The network sees near pixels only, so that a quarter of the canvas teaches nearly as much as all
    of it, in a quarter of the time.
    """
    side = batch.original.shape[-1]
    top, left = (int(CUT_STEP * rng.integers((side - CUT) // CUT_STEP + 1)) for _ in range(2))
    axes = [axis for axis in (2, 3) if rng.random() < 0.5]

    def change(planes: Tensor) -> Tensor:
        return planes[:, :, top : top + CUT, left : left + CUT].flip(axes)

    original, decoded = change(batch.original), change(batch.decoded)
    heart, inside = change(batch.heart), change(batch.inside)
    return RefinerBatch(original, decoded, heart, inside, batch.age, batch.near)


def train(trainer: RefinerTrainer, held_out: list[Path]) -> None:
    """Run to the end, logging and saving on the way."""
    options, rows = trainer.options, []
    spread = np.linspace(0, len(held_out) - 1, min(VALIDATED_CINES, len(held_out))).astype(int)
    chosen = [held_out[place] for place in spread]
    with Run(trainer, options.steps, CHECKPOINT_SECONDS) as run:
        while trainer.step < options.steps:
            rows.append(trainer.train_step())
            run.advance()
            if trainer.step % LOG_EVERY == 0:
                row = {name: float(np.mean([one[name] for one in rows])) for name in rows[0]}
                rows.clear()
                gain = f"{row['after'] - row['before']:.2f}"
                run.write({"step": trainer.step, **row}, gain=gain)
            if trainer.step % options.validate_every == 0 and chosen:
                run.write({"step": trainer.step, "validation": trainer.validate(chosen)})
            run.save_if_due()


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.titok.refiner")
    parser.add_argument("--pairs", type=Path, required=True, nargs="+", help="folders of pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--steps", type=int, default=3000, help="cines")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validate-every", type=int, default=300, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue OUT/checkpoint.pt if any")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    found = [sorted(p for f in options.pairs for p in (f / n).glob("*.npz")) for n in NAMES]
    if not found[0]:
        raise SourceError(
            "no pairs to train on; make some by edge_codec.training.titok.refiner_pairs"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    schedule = RefinerOptions(
        options.steps, options.learning_rate, options.validate_every, options.seed
    )
    trainer = RefinerTrainer(schedule, found[0], options.out)
    if options.resume and (options.out / CHECKPOINT).exists():
        trainer.resume()
    train(trainer, found[1])


if __name__ == "__main__":
    main()

"""Train the VQ-VAE: `python -m edge_codec.training.loop --config C --data D --splits S --out O`.

Writes `checkpoint.pt` (resumable), `averaged.pt` (the weights to export) and `log.jsonl` into the
output folder. Optional `--seconds` ends the learning-rate schedule at a wall-clock time instead of
a step count, for machines that are shared.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
import yaml
from torch import Tensor
from tqdm import tqdm

from edge_codec.nn.codebook import usage
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, VQVAEConfig
from edge_codec.training.checkpoints import resumed, write_training
from edge_codec.training.data import CropOptions, Exam, crops, read_split

CROP_FIELDS = {field.name for field in dataclasses.fields(CropOptions)}


@dataclasses.dataclass(frozen=True, slots=True)
class TrainOptions:
    """The `train` section of a configuration; `configs/vqvae.yaml` explains the fields."""

    seed: int
    steps: int
    warmup_steps: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    commitment: float
    ema_decay: float
    revive_every: int
    revive_until: float
    freeze_encoder_at: float
    checkpoint_seconds: float
    validate_every: int


class Trainer:
    """Model, optimizer, averaged weights and progress, with checkpoints.

    Parameters
    ----------
    config : dict
        Sections `model`, `data` and `train`, as read from YAML.
    out : Path
        Folder of checkpoints and log.
    seconds : float, optional
        Wall-clock length of the schedule; the step count decides without it.
    model : VQVAE, optional
        Model to go on training; a fresh one without it.
    """

    def __init__(
        self,
        config: dict[str, Any],
        out: Path,
        seconds: float | None,
        model: VQVAE | None = None,
    ) -> None:
        self.options = TrainOptions(**config["train"])
        self.model_config = VQVAEConfig(**config["model"])
        self.out = out
        self.seconds = seconds
        torch.manual_seed(self.options.seed)
        model = VQVAE(self.model_config) if model is None else model
        self.model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.options.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=self.options.weight_decay,
        )
        self.step = 0
        self.elapsed_s = 0.0

    def progress(self) -> float:
        """Part of the schedule that is done, 0..1."""
        by_steps = self.step / self.options.steps
        return min(1.0, by_steps if self.seconds is None else self.elapsed_s / self.seconds)

    def learning_rate(self) -> float:
        """Cosine from `learning_rate` to `final_learning_rate`, after 200 steps of warm-up."""
        start, end = self.options.learning_rate, self.options.final_learning_rate
        cosine = end + (start - end) * 0.5 * (1 + math.cos(math.pi * self.progress()))
        return cosine * min(1.0, (self.step + 1) / 200)

    def train_step(self, codes: Tensor) -> dict[str, Any]:
        """Take one optimizer step on codes (batch, 1, size, size), 0..255; return its losses."""
        options = self.options
        frame = (codes * CODE_SCALE).contiguous(memory_format=torch.channels_last)
        quantize = self.step >= options.warmup_steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        output, tokens, commitment = self.model(frame, quantize)
        distortion = F.mse_loss(output, frame)
        self.optimizer.zero_grad(set_to_none=True)
        (distortion + options.commitment * commitment).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._average()
        self.step += 1
        mse = float(distortion.detach()) / CODE_SCALE**2
        return {"mse": mse, "commitment": float(commitment.detach()), "tokens": tokens}

    def start_codebook(self, batches: Iterator[tuple[Tensor, list[str]]]) -> None:
        """Initialize the codebook from the latents of a few dozen batches."""
        with torch.no_grad():
            latents = [self.model.analysis(next(batches)[0] * CODE_SCALE) for _ in range(30)]
        rows = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in latents])
        self.model.codebook.initialize(rows)

    def revive(self, codes: Tensor) -> int:
        """Replace dead codes by latents of a batch, early enough in the schedule."""
        if self.progress() > self.options.revive_until or not self.model.codebook.training:
            return 0
        with torch.no_grad():
            latent: Tensor = self.model.analysis(codes * CODE_SCALE)
            count: int = self.model.codebook.revive(latent)
        return count

    def freeze_encoder(self) -> None:
        """Go on with the averaged weights and train the decoder alone on the tokens they give."""
        self.model.load_state_dict({**self.model.state_dict(), **self.averaged})
        self.model.analysis.requires_grad_(False)
        self.model.codebook.eval()

    def averaged_model(self) -> VQVAE:
        """Build a copy of the model with the averaged weights, in evaluation mode."""
        model: VQVAE = copy.deepcopy(self.model)
        model.load_state_dict({**self.model.state_dict(), **self.averaged})
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint and the averaged model; a crash leaves the old ones whole."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        averaged = self.averaged_model().state_dict()
        write_training(self.out, state, self.model_config, averaged)

    def resume(self) -> None:
        """Continue from `checkpoint.pt`.

        Raises
        ------
        SourceError
            If there is none, or it belongs to another network.
        """
        with resumed(self.out) as state:
            self.model.load_state_dict(state["model"])
            self.averaged = {name: state["averaged"][name] for name in self.averaged}
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])

    def _average(self) -> None:
        decay = min(self.options.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            parameters = [p.detach() for _, p in self.model.named_parameters()]
            torch._foreach_lerp_(list(self.averaged.values()), parameters, 1.0 - decay)


@torch.no_grad()
def evaluate(model: VQVAE, exams: list[Exam], frames_per_exam: int = 12) -> dict[str, float]:
    """Mean PSNR of exams per data set, in dB, peak = exam maximum, on clipped and rounded codes."""
    scores: dict[str, list[float]] = {}
    for exam in exams:
        flat = exam.codes.reshape(-1, *exam.codes.shape[2:])
        picks = np.linspace(0, len(flat) - 1, min(frames_per_exam, len(flat))).round().astype(int)
        rows, columns = flat.shape[1:]
        pad = ((0, 0), (0, -rows % 8), (0, -columns % 8))
        codes = torch.from_numpy(np.pad(flat[picks], pad, mode="edge")).float()[:, None]
        output = model.decode(model.encode(codes * CODE_SCALE)) / CODE_SCALE
        error = (output.round().clamp(0, 255) - codes)[:, :, :rows, :columns]
        mse = max(float(error.square().mean()), 1e-9)
        scores.setdefault(exam.group, []).append(10 * math.log10(exam.peak_codes**2 / mse))
    return {group: float(np.mean(values)) for group, values in scores.items()}


def load_averaged(path: Path) -> VQVAE:
    """Load `averaged.pt` as a model in evaluation mode."""
    content = torch.load(path, weights_only=True)
    model = VQVAE(VQVAEConfig(**content["config"]))
    model.load_state_dict(content["state"])
    return model.eval()


def train(trainer: Trainer, config: dict[str, Any], data: Path, splits: Path) -> None:
    """Run the schedule to its end, logging and saving on the way."""
    section = config["data"]
    exams, validation = read_split(data, splits, frozenset(section["held_out"]))
    watched = validation + [exam for exam in exams if exam.group == "sunnybrook"]
    options = CropOptions(**{k: v for k, v in section.items() if k in CROP_FIELDS})
    batches = crops(exams, options, np.random.default_rng(trainer.options.seed + trainer.step))
    log = (trainer.out / "log.jsonl").open("a", buffering=1)
    bar = tqdm(total=trainer.options.steps, initial=trainer.step, unit="step")
    counts = torch.zeros(trainer.model_config.codes)
    last, saved, mse = time.monotonic(), time.monotonic(), 0.0
    while trainer.progress() < 1.0:
        if trainer.step == trainer.options.warmup_steps:
            trainer.start_codebook(batches)
        if (
            trainer.model.codebook.training
            and trainer.progress() >= trainer.options.freeze_encoder_at
        ):
            trainer.freeze_encoder()
        codes, _ = next(batches)
        result = trainer.train_step(codes)
        counts += torch.bincount(result["tokens"].flatten(), minlength=len(counts))
        mse += 0.02 * (result["mse"] - mse)
        revived = trainer.revive(codes) if trainer.step % trainer.options.revive_every == 0 else 0
        now = time.monotonic()
        trainer.elapsed_s, last = trainer.elapsed_s + now - last, now
        bar.update(1)
        if trainer.step % trainer.options.validate_every == 0 or trainer.progress() >= 1.0:
            perplexity, used = usage(counts)
            counts.zero_()
            row = {"step": trainer.step, "elapsed_s": round(trainer.elapsed_s), "mse": mse}
            row |= {"perplexity": perplexity, "used": used, "revived": revived}
            row |= {
                "lr": trainer.learning_rate(),
                "psnr": evaluate(trainer.averaged_model(), watched),
            }
            log.write(json.dumps(row) + "\n")
            bar.set_postfix(mse=f"{mse:.1f}", **{k: f"{v:.2f}" for k, v in row["psnr"].items()})
        if now - saved > trainer.options.checkpoint_seconds:
            trainer.save()
            saved = now
    trainer.save()
    bar.close()
    log.close()


def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.loop", description="Train a VQ-VAE.")
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder of NIfTI data sets")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    parser.add_argument("--seconds", type=float, help="end the schedule at this wall-clock time")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load(options.config.read_text())
    trainer = Trainer(config, options.out, options.seconds)
    if options.resume:
        trainer.resume()
    train(trainer, config, options.data, options.splits)


if __name__ == "__main__":
    main()

"""A stage's run: optimizer, averaged weights, schedule, checkpoints, log.

Data and randomness of a step depend on the seed, the number of the step and what the checkpoint
keeps, so that a training that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_codec.errors import SpecError
from edge_codec.nn.titok import TiTok
from edge_codec.training.checkpoints import resumed, write_training
from edge_codec.training.ema import AveragedWeights
from edge_codec.training.gradient_guard import GradientGuard
from edge_codec.training.running import LOG, PLOT, Run
from edge_codec.training.schedule import rate_of
from edge_codec.training.titok.cines import Library
from edge_codec.training.titok.coding import Coding
from edge_codec.training.titok.config import TitokTraining
from edge_codec.training.titok.judge import Judge
from edge_codec.training.titok.masking import Masking
from edge_codec.training.titok.plot import plot_log
from edge_codec.training.titok.streams import Streams
from edge_codec.training.titok.validation import validate, validate_masking

BETAS = (0.9, 0.98)


class Trainer:
    """One stage.

    Parameters
    ----------
    config : TitokTraining
    out : Path
        Folder of checkpoints and log.
    library : Library
        Cines to train on.
    model : TiTok, optional
        Where to start; fresh weights without it.
    judge : Judge, optional
    device : str
        "cpu" or "cuda".

    Raises
    ------
    SpecError
        If a term of the loss needs the judge and there is none, or a rate is for no parameter that
        the stage trains.
    """

    def __init__(
        self,
        config: TitokTraining,
        out: Path,
        library: Library,
        model: TiTok | None = None,
        judge: Judge | None = None,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.options = config.train
        self.out = out
        self.device = device
        self.judge = None if judge is None else judge.to(device)
        torch.manual_seed(self.options.seed)
        fresh = TiTok(config.network) if model is None else model
        # Convolutions of few channels are twice as fast on a CPU with channels last.
        self.model = fresh.train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.task: Coding | Masking = (
            Masking(self.model, config, device)
            if config.stage == "pretrain"
            else Coding(self.model, config, self.judge, device)
        )
        self.averaged = AveragedWeights(self.model, self.options.ema_decay)
        groups = self._by_rate()
        self._factors = list(groups)
        self.optimizer = torch.optim.AdamW(
            [{"params": tensors} for tensors in groups.values()],
            lr=self.options.learning_rate,
            betas=BETAS,
            weight_decay=self.options.weight_decay,
        )
        self.guard = GradientGuard()
        self.streams = Streams(library, config.streams, self.options.seed)
        self.step = 0
        self.elapsed_s = 0.0

    def learning_rate(self) -> float:
        """Rate of the next step: rising, then along a cosine to `final_learning_rate`."""
        return rate_of(self.options, self.step)

    def train_step(self) -> dict[str, float]:
        """Take one optimizer step.

        Returns
        -------
        dict of str to float
            The loss and its terms. A step that the guard leaves out changes no weight.

        Raises
        ------
        TrainingError
            If the guard has left out too many steps in a row.
        """
        batch = self.streams.next().to(self.device)
        rng = np.random.default_rng([self.options.seed, self.step, 1])
        torch.manual_seed(int(rng.integers(1 << 62)))
        total, terms = self.task.loss(batch, self.step)
        for group, factor in zip(self.optimizer.param_groups, self._factors, strict=True):
            group["lr"] = factor * self.learning_rate()
        if self.guard.accepts(self._gradient_norm(total)):
            self.optimizer.step()
            self.averaged.update(self.model, self.step)
            self.task.accept(self.step)
        else:
            self.task.reject()
        self.step += 1
        return {"loss": float(total.detach()), **{name: float(x) for name, x in terms.items()}}

    def save(self) -> None:
        """Write the checkpoint and the averaged model; a crash leaves the old ones whole."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.values,
            "optimizer": self.optimizer.state_dict(),
            "guard": self.guard.state(),
            "streams": self.streams.state(),
            "task": self.task.state(),
            "rates": self.options.rates,
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
            If there is none, or it belongs to another network or stage, or to other rates.
        """
        with resumed(self.out, self.device) as state:
            if state["rates"] != self.options.rates:
                raise ValueError(f"its rates are {state['rates']}")
            self.model.load_state_dict(state["model"])
            self.averaged.load(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.guard.load(**state["guard"])
            self.streams.load(state["streams"])
            self.task.load(state["task"])
            self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])

    def validate(self, held_out: Library) -> dict[str, Any]:
        """Measure the averaged model on the held-out cines."""
        model = self.averaged.model(self.model)
        if isinstance(self.task, Masking):
            return validate_masking(model, self.task, held_out)
        quantizer = self.config.quantizer
        cosine = quantizer.cosine if self.step < quantizer.noise_steps else None
        frames = self.options.validate_frames
        return validate(model, held_out, self.judge, frames, self.config.told, cosine)

    def _gradient_norm(self, total: Tensor) -> float:
        """Compute and clip the gradient; return its length before.

        A loss that is not finite has no gradient: motion that is not a number would have the
        gradient of `grid_sample` write outside of its memory.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if not bool(torch.isfinite(total)):
            return math.inf
        total.backward()  # type: ignore[no-untyped-call]
        return float(torch.nn.utils.clip_grad_norm_(self._trained(), self.options.clip_norm))

    def _by_rate(self) -> dict[float, list[Tensor]]:
        """Parameters of the stage, by the factor of their learning rate."""
        named = self.task.module.named_parameters()
        trained = {name.removeprefix("model."): p for name, p in named if p.requires_grad}
        for beginning in self.options.rates:
            if not any(name.startswith(beginning) for name in trained):
                raise SpecError(
                    f"train.rates.{beginning}: stage {self.config.stage} trains no such parameter"
                )
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in trained.items():
            groups.setdefault(self.options.rate_factor(name), []).append(parameter)
        return groups

    def _trained(self) -> list[Tensor]:
        return [p for p in self.task.module.parameters() if p.requires_grad]


def train(trainer: Trainer, held_out: Library, show: bool = True) -> None:
    """Run the stage to its end, logging and saving on the way."""
    options = trainer.options
    found: list[dict[str, float]] = []
    with Run(trainer, options.steps, options.checkpoint_seconds, show=show) as run:
        while trainer.step < options.steps:
            found.append(trainer.train_step())
            run.advance()
            if trainer.step % options.log_every == 0:
                row = _row(trainer, found)
                found.clear()
                run.write(row, loss=f"{row['loss']:.3f}", psnr=f"{row['window_psnr']:.2f}")
            if trainer.step % options.validate_every == 0 and len(held_out) > 0:
                run.write({"step": trainer.step, "validation": trainer.validate(held_out)})
            run.save_if_due()
    plot_log(trainer.out / LOG, trainer.out / PLOT)


def _row(trainer: Trainer, found: list[dict[str, float]]) -> dict[str, Any]:
    """Means over some steps, for the log."""
    names = sorted({name for row in found for name in row})
    means = {name: float(np.mean([row[name] for row in found if name in row])) for name in names}
    error = means.pop("window_error")
    row: dict[str, Any] = {"step": trainer.step, "elapsed_s": round(trainer.elapsed_s)}
    return row | {
        **means,
        "window_psnr": -10 * math.log10(max(error, 1e-12)),
        "lr": trainer.learning_rate(),
        "gradient_norm": trainer.guard.usual(),
        "skipped_steps": trainer.guard.skipped,
    }

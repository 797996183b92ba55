"""Stages 1 to 3: what a step does with a batch of streams, and the codebook's coming to be.

First noise stands in the quantizer's place, of the size of the later quantizer's error: gradients
are true and nothing can collapse. Then the codebook starts from the latents of the last of these
steps, by k-means, and follows the latents from there on; codes that nothing chooses are replaced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_codec.nn.titok import GRAY, Coded, Past, TiTok, nothing_before
from edge_codec.training.titok.conditions import conditions
from edge_codec.training.titok.config import STAGES, TitokTraining
from edge_codec.training.titok.judge import BRIGHTEST, Judge
from edge_codec.training.titok.losses import HierarchicalLoss, Seen
from edge_codec.training.titok.streams import Batch


class Coding:
    """Coding of streams of cines, with the past of each.

    Parameters
    ----------
    model : TiTok
        Its parameters that the stage does not train are frozen.
    config : TitokTraining
    judge : Judge, optional
        Segments the frames; needed by some terms of the loss.
    device : str

    Attributes
    ----------
    model : TiTok
    module : nn.Module
        Whose parameters are trained.

    Raises
    ------
    SpecError
        If a term of the loss needs the judge and there is none.
    """

    def __init__(
        self, model: TiTok, config: TitokTraining, judge: Judge | None, device: str
    ) -> None:
        self.model = model
        self.module: nn.Module = model
        self._config = config
        self._judge = judge
        self._loss = HierarchicalLoss(config.loss, judge)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(STAGES[config.stage]))
        streams = config.streams.batch * config.streams.rounds
        self._all = nothing_before(model.config, streams, device)
        # Half precision is enough to compare with, and the same before and after a resumption.
        depth = config.streams.life[1] if config.loss.periodicity > 0 else 1
        self._shown = self._all.frame.half().expand(depth, -1, -1, -1, -1).clone()
        self._rows: list[Tensor] = []
        self._work: tuple[Batch, Past, Coded] | None = None
        self._before = self._codebook_state()

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Code a batch.

        Returns
        -------
        total : Tensor, scalar
        terms : dict of str to Tensor
            For the log.
        """
        past = self._before_frames(batch)
        quantizer = self._config.quantizer
        is_noisy = step < quantizer.noise_steps
        if step == quantizer.noise_steps and self._rows:
            self.model.codebook.initialize(torch.cat(self._rows))
            self._rows.clear()
        self._before = self._codebook_state()
        judged = None
        if self._judge is not None:
            with torch.no_grad():
                judged = self._judge(batch.frame)
        heart = batch.heart if judged is None else judged.heart * batch.inside
        told = conditions(batch.inside, heart, batch.clinical, judged, self._config.told)
        coded = self.model(batch.frame, past, told, quantizer.cosine if is_noisy else None)
        self._work = batch, past, coded
        total, terms = self._loss(
            Seen(
                frame=batch.frame,
                inside=batch.inside,
                heart=heart,
                coded=coded,
                change=batch.frame - batch.before,
                past_frame=past.frame,
                known=past.known[:, 0],
                cycle_frame=self._cycle_frame(batch),
                cycle_known=(batch.cycle > 0).float(),
                vectors=self.model.codebook.vectors,
                judged=judged,
                again=lambda frame: self.model.encoder(frame, past, told),
            )
        )
        error = batch.inside * (coded.frame.detach() - batch.frame).square()
        terms["window_error"] = error.sum() / batch.inside.sum()
        return total, terms

    def accept(self, step: int) -> None:
        """Go on after a step that was taken."""
        if self._work is None:
            return
        (batch, past, coded), quantizer = self._work, self._config.quantizer
        rows = coded.latents.detach().flatten(0, 1)
        if coded.tokens is None:
            self._rows.append(rows)
            while sum(map(len, self._rows)) - len(self._rows[0]) >= quantizer.rows:
                del self._rows[0]
        elif (step + 1) % quantizer.revive_every == 0 and (
            step < quantizer.revive_until * self._config.train.steps
        ):
            self.model.codebook.revive(rows)
        frame = coded.frame.detach().clamp(0.0, BRIGHTEST)
        self._keep(batch, past.after(frame, coded.codes.detach()))

    def reject(self) -> None:
        """Forget a step that was left out: its codes and frames may not be finite."""
        with torch.no_grad():
            for buffer, value in zip(self.model.codebook.buffers(), self._before, strict=True):
                buffer.copy_(value)
        if self._work is not None:
            self._keep(*self._work[:2])

    def state(self) -> dict[str, Any]:
        """Give what `load` needs to go on."""
        past = self._all
        return {
            "past": [past.frame, past.codes, past.known, past.age],
            "shown": self._shown,
            "rows": torch.cat(self._rows) if self._rows else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self._all = Past(*state["past"])
        self._shown = state["shown"]
        self._rows = [] if state["rows"] is None else [state["rows"]]

    def _codebook_state(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self.model.codebook.buffers()]

    def _before_frames(self, batch: Batch) -> Past:
        """Return the past of a batch's streams, nothing for those that begin a life."""
        who, fresh = batch.members, batch.fresh
        old, every = ~fresh, self._all
        frame = every.frame[who]
        return Past(
            torch.where(fresh[:, None, None, None], torch.full_like(frame, GRAY), frame),
            every.codes[who] * old[:, None, None, None],
            every.known[who] * old[:, None],
            every.age[who] * old,
        )

    def _keep(self, batch: Batch, past: Past) -> None:
        """Remember what the streams of a step know after it."""
        self._work = None
        for kept, new in zip(_parts(self._all), _parts(past), strict=True):
            kept[batch.members] = new
        self._shown[batch.turn % len(self._shown), batch.members] = past.frame.half()

    def _cycle_frame(self, batch: Batch) -> Tensor:
        """Return what was shown so many turns before, anything where that is 0."""
        places = (batch.turn - batch.cycle) % len(self._shown)
        return self._shown[places, batch.members].float()


def _parts(past: Past) -> tuple[Tensor, ...]:
    return past.frame, past.codes, past.known, past.age

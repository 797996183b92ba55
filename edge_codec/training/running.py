"""What goes on around the steps of a training: time, a bar, a log, checkpoints now and then."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tqdm import tqdm

LOG, PLOT = "log.jsonl", "log.png"


class Trained(Protocol):
    """What is trained.

    Attributes
    ----------
    out : Path
        Folder of checkpoints and log.
    step : int
        Steps that are done.
    elapsed_s : float
        Time they took, in all runs.
    """

    out: Path
    step: int
    elapsed_s: float

    def save(self) -> None:
        """Write the checkpoint."""


class Run:
    """One run of a training, as a context; saves at its end, unless it is left by an exception.

    Parameters
    ----------
    trainer : Trained
    steps : int
        Of the whole training, for the bar.
    checkpoint_seconds : float
        How often to save.
    show : bool
        Whether there is a bar.
    """

    def __init__(
        self, trainer: Trained, steps: int, checkpoint_seconds: float, *, show: bool = True
    ) -> None:
        self._trainer = trainer
        self._seconds = checkpoint_seconds
        self._bar = tqdm(total=steps, initial=trainer.step, unit="step", disable=not show)
        self._log = (trainer.out / LOG).open("a", buffering=1, encoding="utf-8")
        self._last = self._saved = time.monotonic()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log, and save what was reached."""
        self._log.close()
        self._bar.close()
        if kind is None:
            self._trainer.save()

    def advance(self) -> None:
        """Count a step that was just taken, and its time."""
        now = time.monotonic()
        self._trainer.elapsed_s += now - self._last
        self._last = now
        self._bar.update(1)

    def write(self, row: dict[str, Any], **shown: str) -> None:
        """Append a row to the log, and show some text beside the bar."""
        self._log.write(json.dumps(row) + "\n")
        if shown:
            self._bar.set_postfix(**shown)

    def save_if_due(self) -> None:
        """Save when it is time: after the step's rows, which going on does not write again."""
        if self._last - self._saved > self._seconds:
            self._trainer.save()
            self._saved = self._last

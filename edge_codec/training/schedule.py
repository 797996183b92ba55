"""Learning rates over a training."""

from __future__ import annotations

import math
from typing import Protocol


class Schedule(Protocol):
    """What a configuration says of the learning rate.

    Attributes
    ----------
    steps, warmup_steps : int
        Of the whole training, and of its beginning, over which the rate rises.
    learning_rate, final_learning_rate : float
        Ends of the cosine.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102 (the class describes all four)
    @property
    def warmup_steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def final_learning_rate(self) -> float: ...  # noqa: D102


def rate_of(schedule: Schedule, step: int) -> float:
    """Return the rate of a step, counted from 0: rising evenly, and along a cosine to the end.

    I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017,
    eq. 5, without restarts.
    """
    part = min(1.0, step / schedule.steps)
    start, end = schedule.learning_rate, schedule.final_learning_rate
    cosine = end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))
    return cosine * min(1.0, (step + 1) / max(schedule.warmup_steps, 1))

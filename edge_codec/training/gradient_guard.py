"""Which steps of a training to leave out: those whose gradient is not finite or is a spike.

Clipping a gradient to a length keeps its direction, and the direction of a gradient a hundred times
as long as its neighbors is that of one freak batch. One such step is lost without regret, many in
a row mean that the training itself is lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from edge_codec.errors import TrainingError

REMEMBERED = 100
"""Accepted norms that a new one is compared with."""

FEWEST = 20
"""With fewer of them every finite norm is accepted."""

LARGEST_RATIO = 10.0
"""Of an accepted norm to the median of those remembered."""

MOST_IN_A_ROW = 20
"""Steps left out one after the other before the training stops."""


class GradientGuard:
    """Judges the norm of each step's gradient by those of the steps before.

    Attributes
    ----------
    norms : deque of float
        Of the last accepted steps.
    skipped, in_a_row : int
        Steps left out since the start, and without an accepted one after them.
    """

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=REMEMBERED)
        self.skipped = 0
        self.in_a_row = 0

    def accepts(self, norm: float) -> bool:
        """Tell whether to take the step with a gradient of this norm.

        Raises
        ------
        TrainingError
            If `MOST_IN_A_ROW` steps in a row were not to be taken.
        """
        usual = self.usual() if len(self.norms) >= FEWEST else math.inf
        if math.isfinite(norm) and norm <= LARGEST_RATIO * usual:
            self.norms.append(norm)
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_IN_A_ROW:
            raise TrainingError(
                f"{self.in_a_row} gradients in a row had norms like {norm:.3g}; expected finite "
                f"ones up to {LARGEST_RATIO * usual:.3g}: go on from an earlier checkpoint with a "
                "lower learning rate or shorter clips"
            )
        return False

    def usual(self) -> float:
        """Median of the norms remembered, 0 without any."""
        return median(self.norms) if self.norms else 0.0

    def state(self) -> dict[str, list[float] | int]:
        """Give what `load` needs to go on."""
        return {"norms": list(self.norms), "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load(self, norms: Iterable[float], skipped: int, in_a_row: int) -> None:
        """Go on from a saved `state`."""
        self.norms = deque(norms, maxlen=REMEMBERED)
        self.skipped, self.in_a_row = skipped, in_a_row

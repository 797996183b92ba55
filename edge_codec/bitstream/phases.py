"""Which phase of a slice is coded when: the rising order, or that of an archive.

A frame's *turn* is how many frames of its slice are coded before it. The turns of a stream are its
phases, but in an archive each group of phases stands in the order of a hierarchy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_codec.group_order import coding_order
from edge_codec.spec import StreamSpec


class PhaseOrder:
    """Turns from phases, and phases from turns.

    Parameters
    ----------
    spec : StreamSpec
        Description of the stream.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._n_phases = spec.info.n_phases if spec.archive else 0  # 0: nothing is reordered
        self._key_interval = spec.key_interval

    def phase_at(self, turn: int) -> int:
        """Return the phase that has a turn; beyond the last phase, the turn itself."""
        if turn >= self._n_phases:
            return turn
        first = turn - turn % self._key_interval
        return first + self._order(first)[turn - first]

    def turn_of(self, phase: int) -> int:
        """Return the turn of a phase; beyond the last phase, the phase itself."""
        if phase >= self._n_phases:
            return phase
        first = phase - phase % self._key_interval
        return first + self._order(first).index(phase - first)

    def phases_at(self, turns: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return `phase_at` of many turns.

        Parameters
        ----------
        turns : ndarray, shape (n,), uint32
            The turns.

        Returns
        -------
        ndarray, shape (n,), uint32
            Their phases.
        """
        phases = turns.copy()
        if not self._n_phases:
            return phases
        last = self._n_phases - 1 - (self._n_phases - 1) % self._key_interval
        for first, inside in (
            (0, turns < last),
            (last, (turns >= last) & (turns < self._n_phases)),
        ):
            steps = turns[inside] % np.uint32(self._key_interval)
            order = np.array(self._order(first), np.uint32)
            phases[inside] = turns[inside] - steps + order[steps]
        return phases

    def _order(self, first: int) -> tuple[int, ...]:
        """Return the order of the group that begins with phase `first`."""
        return coding_order(min(self._key_interval, self._n_phases - first))

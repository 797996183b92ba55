"""Losses of a network as they come: in bursts, by Gilbert's and Elliott's model.

A chain of two states, good and bad, takes one step for each datagram; each state loses datagrams
with a probability of its own. With `loss_good` 0 and `loss_bad` 1 this is Gilbert's simple model:
the mean burst has `1 / p_bad_to_good` datagrams.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edge_codec.errors import SpecError


@dataclass(frozen=True, slots=True)
class GilbertLoss:
    """Probabilities of the chain, and what follows from them.

    Attributes
    ----------
    p_good_to_bad, p_bad_to_good : float
        Probability of a change of state at each datagram, 0 to 1, not both 0.
    loss_good, loss_bad : float
        Probability that a datagram is lost in that state, 0 to 1.
    seed : int
        Of the random numbers; equal seeds lose equal datagrams.
    """

    p_good_to_bad: float
    p_bad_to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what are no probabilities.

        Raises
        ------
        SpecError
            If one lies outside 0 to 1, or the chain never moves.
        """
        for name in ("p_good_to_bad", "p_bad_to_good", "loss_good", "loss_bad"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SpecError(f"{name} is {value}; a probability lies in 0 to 1")
        if not self.p_good_to_bad and not self.p_bad_to_good:
            raise SpecError("the chain never moves; give it a probability above 0 to change state")

    @classmethod
    def of_rate(cls, rate: float, burst: float = 1.0, seed: int = 0) -> GilbertLoss:
        """Return the simple model with a stationary loss rate and a mean burst length.

        Parameters
        ----------
        rate : float
            Share of datagrams lost, 0 to below 1.
        burst : float
            Mean number of datagrams lost in a row, at least 1; more than `rate / (1 - rate)`.
        seed : int
            Of the random numbers.
        """
        if not 0 <= rate < 1 or burst < 1:
            raise SpecError(f"loss rate {rate}, burst {burst}; use a rate below 1, a burst from 1")
        return cls(rate / (burst * (1 - rate)), 1 / burst, seed=seed)

    @property
    def bad_share(self) -> float:
        """Stationary probability of the bad state."""
        return self.p_good_to_bad / (self.p_good_to_bad + self.p_bad_to_good)

    @property
    def loss_rate(self) -> float:
        """Share of datagrams that are lost in the long run."""
        return (1 - self.bad_share) * self.loss_good + self.bad_share * self.loss_bad

    @property
    def mean_burst(self) -> float:
        """Mean number of datagrams lost in a row: losses over beginnings of bursts; 0 for none."""
        bad = self.bad_share
        begins = (1 - bad) * (1 - self.loss_good) * (
            (1 - self.p_good_to_bad) * self.loss_good + self.p_good_to_bad * self.loss_bad
        ) + bad * (1 - self.loss_bad) * (
            self.p_bad_to_good * self.loss_good + (1 - self.p_bad_to_good) * self.loss_bad
        )
        return self.loss_rate / begins if begins else 0.0

    def run(self) -> GilbertRun:
        """Begin a chain, in the stationary distribution."""
        return GilbertRun(self)


class GilbertRun:
    """One walk along the chain of a `GilbertLoss`."""

    def __init__(self, model: GilbertLoss) -> None:
        self._model = model
        self._random = random.Random(model.seed)
        self._bad = self._random.random() < model.bad_share

    def lost(self) -> bool:
        """Take the next datagram's step: whether it is lost."""
        model, draw = self._model, self._random.random
        lost = draw() < (model.loss_bad if self._bad else model.loss_good)
        if draw() < (model.p_bad_to_good if self._bad else model.p_good_to_bad):
            self._bad = not self._bad
        return lost

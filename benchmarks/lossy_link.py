"""A bad network inside one process, on a clock of its own: for tests and measurements.

Datagrams are lost in bursts, delayed, overtaken by later ones, doubled, and damaged; equal seeds
give equal networks.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import count

from benchmarks.loss_model import GilbertLoss


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to datagrams.

    Attributes
    ----------
    loss : GilbertLoss or None
        Which datagrams vanish.
    reorder, duplicate, corrupt : float
        Probability that one is delayed by up to `reorder_ns` more, comes twice, has a bit flipped.
    delay_ns, reorder_ns : int
        Time that each takes, and the most that a delayed one takes besides.
    seed : int
        Of everything but the losses.
    """

    loss: GilbertLoss | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    delay_ns: int = 0
    reorder_ns: int = 0
    seed: int = 0


class LossyLink:
    """One direction of a link: datagrams go in with the time, and come out when they are due.

    Parameters
    ----------
    impairment : Impairment
        What happens on the way.

    Attributes
    ----------
    carried, lost : int
        Datagrams that went in, and those that vanished.
    """

    def __init__(self, impairment: Impairment) -> None:
        self._how = impairment
        self._loss = impairment.loss.run() if impairment.loss else None
        self._random = random.Random(impairment.seed)
        self._order = count()
        self._waiting: list[tuple[int, int, bytes]] = []
        self.carried = self.lost = 0

    def send(self, datagram: bytes, now_ns: int) -> None:
        """Give a datagram to the link."""
        self.carried += 1
        if self._loss is not None and self._loss.lost():
            self.lost += 1
            return
        for _ in range(1 + self._happens(self._how.duplicate)):
            self._put(datagram, now_ns)

    def due(self, now_ns: int) -> list[bytes]:
        """Take out what has arrived by now, in the order of arrival."""
        out = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            out.append(heapq.heappop(self._waiting)[2])
        return out

    def _put(self, datagram: bytes, now_ns: int) -> None:
        due_ns = now_ns + self._how.delay_ns
        if self._happens(self._how.reorder):
            due_ns += self._random.randrange(self._how.reorder_ns + 1)
        if datagram and self._happens(self._how.corrupt):
            data = bytearray(datagram)
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            datagram = bytes(data)
        heapq.heappush(self._waiting, (due_ns, next(self._order), datagram))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

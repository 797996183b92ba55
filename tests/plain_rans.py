"""rANS and adaptive distributions of the plain decoder, written from docs/bitstream.md alone."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np


class RansDecoder:
    """Takes symbols from a payload."""

    def __init__(self, payload: bytes, lanes: int) -> None:
        assert len(payload) >= 4 * lanes
        assert len(payload) % 2 == 0
        self.states = list(struct.unpack_from(f"<{lanes}I", payload))
        assert min(self.states) >= 65536
        self.words = np.frombuffer(payload, "<u2", offset=4 * lanes).tolist()
        self.at = self.count = 0

    def get(self, starts: Sequence[int]) -> int:
        """The next symbol; `starts` has one entry more than symbols, 65536."""
        lane = self.count % len(self.states)
        symbol = bisect_right(starts, self.states[lane] % 65536) - 1
        self.advance(lane, starts[symbol], starts[symbol + 1] - starts[symbol])
        return symbol

    def decide(self, p: int) -> bool:
        """The next decision, which is yes with probability p / 65536."""
        lane = self.count % len(self.states)
        yes = self.states[lane] % 65536 < p
        self.advance(lane, 0 if yes else p, p if yes else 65536 - p)
        return yes

    def advance(self, lane: int, start: int, freq: int) -> None:
        """Take off the symbol that was found."""
        x = freq * (self.states[lane] >> 16) + self.states[lane] % 65536 - start
        if x < 65536:
            assert self.at < len(self.words)
            x = x << 16 | self.words[self.at]
            self.at += 1
        self.states[lane] = x
        self.count += 1

    def finish(self) -> None:
        """Check that the payload held exactly the symbols taken."""
        assert self.at == len(self.words)
        assert set(self.states) == {65536}


class Adaptive:
    """A distribution of 16 symbols that follows them."""

    def __init__(self) -> None:
        self.starts = [4096 * i for i in range(16)] + [65536]
        self.count = 0

    def get(self, rans: RansDecoder) -> int:
        """Decode one symbol, and adapt to it."""
        symbol = rans.get(self.starts)
        rate = 3 + sum(self.count >= limit for limit in (4, 12, 30, 100, 300))
        for i in range(16):
            if i <= symbol:
                self.starts[i] -= (self.starts[i] - 8 * i) >> rate
            else:
                self.starts[i] += (65536 - 8 * (16 - i) - self.starts[i]) >> rate
        self.count += 1
        return symbol

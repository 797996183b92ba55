"""Bins of the hybrid layer, plainly: the arithmetic decoder, contexts, and their mixing.

Written from docs/bitstream.md, section 13.2, alone. `Inventor` stands where a decoder reads: it
chooses every bin at random and writes the code of its choices, which makes payloads that use all of
the syntax.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence


class DamagedError(Exception):
    """The payload is not one that an encoder writes."""


def squash_values() -> list[int]:
    """The logistic function at -2047 / 256 to 2047 / 256, times 2^16."""
    upper, power = [], 1 << 20
    for _ in range(2048):
        p = (65536 * power + (power + (1 << 20)) // 2) // (power + (1 << 20))
        upper.append(min(p, 65504))
        power = (power * 1077944331 + (1 << 29)) >> 30
    return [65536 - p for p in upper[:0:-1]] + upper


SQUASH = squash_values()  # of logit v at v + 2047
STRETCH = [
    next((v for v in range(-2047, 2047) if SQUASH[v + 2047] >= 16 * i + 8), 2047)
    for i in range(4096)
]


class Context:
    """A probability of ones, estimated at two rates."""

    def __init__(self, word: object) -> None:
        self.word = word
        self.fast, self.slow, self.count = 32768, 32768, 0

    def logits(self) -> list[int]:
        return [STRETCH[self.fast >> 4], STRETCH[self.slow >> 4]]

    def update(self, bit: int) -> None:
        rate = 32768 // (self.count + 2)
        self.fast += ((65535 * bit - self.fast) * max(rate, 2048) + 16384) >> 15
        self.slow += ((65535 * bit - self.slow) * rate + 16384) >> 15
        self.count = min(self.count + 1, 126)


class Mixer:
    """Weights of the four estimates of two contexts."""

    def __init__(self) -> None:
        self.weights = [19661] * 4

    def probability(self, logits: Sequence[int]) -> int:
        total = sum(w * v for w, v in zip(self.weights, logits, strict=True))
        return SQUASH[min(max((total + 32768) >> 16, -2047), 2047) + 2047]

    def update(self, logits: Sequence[int], p: int, bit: int) -> None:
        error = 65536 * bit - p
        self.weights = [
            min(max(w + ((error * v + 16384) >> 15), -262143), 262143)
            for w, v in zip(self.weights, logits, strict=True)
        ]


class Bins:
    """What readers and writers of bins have in common."""

    range = 2**32 - 1

    def part(self, split: int, likely: float) -> int:
        """A bin that is 1 in the first `split` of the range."""
        raise NotImplementedError

    def bin(self, x: Context) -> int:
        p = min(max((x.fast + x.slow) >> 1, 32), 65504)
        bit = self.part(self.range * p >> 16, self.taste(x))
        x.update(bit)
        return bit

    def mixed(self, x: Context, y: Context, mixer: Mixer) -> int:
        logits = x.logits() + y.logits()
        p = mixer.probability(logits)
        bit = self.part(self.range * p >> 16, self.taste(x))
        mixer.update(logits, p, bit)
        x.update(bit)
        y.update(bit)
        return bit

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + self.part(self.range >> 1, self.taste_of_bits())
        return value

    def taste(self, x: Context) -> float:
        """How likely an inventor chooses a 1."""
        del x
        return 0.5

    def taste_of_bits(self) -> float:
        """The same for bits that are as likely as not."""
        return 0.5

    def finish(self) -> None:
        """See whether the payload ends here."""


class Reader(Bins):
    """Decodes the bins of a payload."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.code = int.from_bytes((data + bytes(4))[:4], "big")
        self.position = 4
        if self.code == self.range:
            raise DamagedError

    def part(self, split: int, likely: float) -> int:
        del likely
        bit = int(self.code < split)
        self.code, self.range = (
            (self.code, split) if bit else (self.code - split, self.range - split)
        )
        while self.range < 2**24:
            self.range *= 256
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.code = 256 * self.code + byte
            self.position += 1
            if self.position > len(self.data) + 4:
                raise DamagedError
        return bit

    def finish(self) -> None:
        shifted, size = self.position - 4, len(self.data)
        if size != shifted and not (size == shifted + 1 and self.data[-1]):
            raise DamagedError


class Inventor(Bins):
    """Chooses bins at random, each context with a taste of its own, and codes them."""

    def __init__(
        self, seed: int, tastes: Sequence[float], of_words: Mapping[object, float] | None = None
    ) -> None:
        self.random = random.Random(seed)
        self.tastes, self.of_words = tastes, of_words or {}
        self.of: dict[int, float] = {}
        self.low = self.shifted = 0

    def taste(self, x: Context) -> float:
        if x.word in self.of_words:
            return self.of_words[x.word]
        return self.of.setdefault(id(x), self.random.choice(self.tastes))

    def taste_of_bits(self) -> float:
        return self.of_words.get("bits", 0.5)

    def part(self, split: int, likely: float) -> int:
        bit = int(self.random.random() < likely)
        self.low, self.range = (self.low, split) if bit else (self.low + split, self.range - split)
        while self.range < 2**24:
            self.low, self.range = self.low * 256, self.range * 256
            self.shifted += 1
        return bit

    def code(self) -> bytes:
        """The shortest code that begins a number in the range."""
        for size in (self.shifted, self.shifted + 1):
            unit = 1 << 8 * (self.shifted + 4 - size)
            value = -(-self.low // unit)
            if value * unit < self.low + self.range:
                return value.to_bytes(size, "big")
        raise AssertionError

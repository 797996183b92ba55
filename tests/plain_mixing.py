"""Effort BEST of the plain decoder: levels as decisions, whose probabilities are mixed.

Written from docs/bitstream.md, sections 11.9 and 11.10, alone. All numbers are Python integers, but
for the width of a distribution and the place of a decision in it, which are doubles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from plain_rans import RansDecoder
from plain_symbols import class_of, clip


def sigmoid(x: float, width: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x / width))


def curve_values() -> list[float]:
    """The distribution function at -24 to 24 mean errors and one step more, times 2^24."""
    places = [(i - 768) / 32 for i in range(1538)]
    return [
        2**24 * (0.5 * sigmoid(x, 0.72) + 0.3 * sigmoid(x, 0.45) + 0.2 * sigmoid(x, 1.4))
        for x in places
    ]


def mantissa_log_values() -> list[float]:
    """Logarithms to base 2 of 1 to 2, times 2^12."""
    return [2**12 * math.log2(1 + (i + 0.5) / 256) for i in range(256)]


def logistic_values() -> list[float]:
    """The logistic function to base 2 at -12 to 12, times 2^16."""
    return [2**16 * sigmoid((i + 0.5) / 128 - 12, 1 / math.log(2)) for i in range(3072)]


def rounded(values: list[float]) -> list[int]:
    """The nearest integers; no value is near a half."""
    return [math.floor(value + 0.5) for value in values]


CURVE = rounded(curve_values())
MANTISSA_LOG = rounded(mantissa_log_values())
LOGISTIC = rounded(logistic_values())


def curve_at(x: float) -> int:
    """The curve at x, in units of 1/256 of an entry, straight between entries."""
    if x <= -196608:
        return CURVE[0]
    at = 393216 if x >= 196608 else int(x) + 196608
    below, above = CURVE[at >> 8], CURVE[(at >> 8) + 1]
    return below + ((above - below) * (at & 255) >> 8)


def log_of(value: int) -> int:
    """Logarithm to base 2 in units of 2^-12."""
    octave = value.bit_length() - 1
    return (octave << 12) + MANTISSA_LOG[(value << 8 >> octave) & 255]


class Voxel(NamedTuple):
    """What is known of a voxel before its decisions."""

    centers: list[int]  # predictions in sixteenths
    energies: list[int]
    signs: int
    bound: int
    span: int


class Scale:
    """Mean error of a predictor where its energy is of one class, in units of 2^-12."""

    def __init__(self, context: int) -> None:
        self.value = ((4 + context % 4 << context // 4) - 3) << 8
        self.count = 0

    def learn(self, error: int) -> None:
        """Move towards an error, by less and less."""
        rate = 1 + sum(self.count >= limit for limit in (2, 4, 8, 16, 32, 64))
        self.value = min(self.value + ((256 * error - self.value) >> rate), 2**32 - 1)
        self.count += 1


class Mixing:
    """All that the decisions of a band's frames have taught."""

    def __init__(self, inputs: int) -> None:
        self.weights = [[65536 // inputs] * inputs for _ in range(48)]
        first = [LOGISTIC[min(128 * b, 3071)] for b in range(25)]
        self.corrected = [[first.copy() for _ in range(48)] for _ in range(64)]
        self.scales = [[Scale(context) for context in range(48)] for _ in range(inputs)]

    def take_sample(self, rans: RansDecoder, voxel: Voxel) -> int:
        """Decode the sample of a voxel."""
        step = 2 * voxel.bound + 1
        middle = (voxel.centers[-1] + 8) >> 4
        scales = [
            scales[class_of(energy >> 4)[0]]
            for scales, energy in zip(self.scales, voxel.energies, strict=True)
        ]
        level = LevelDecoder(self, rans, voxel, middle, [scale.value for scale in scales]).take()
        sample = clip(middle + level * step, 0, voxel.span)
        for scale, center in zip(scales, voxel.centers, strict=True):
            scale.learn(min(abs(16 * sample - center), 2**27 - 1))
        return sample


class LevelDecoder:
    """Narrows one level down."""

    def __init__(
        self, models: Mixing, rans: RansDecoder, voxel: Voxel, middle: int, scales: list[int]
    ) -> None:
        self.weights, self.corrected = models.weights, models.corrected[voxel.signs]
        self.rans, self.centers = rans, voxel.centers
        step = 2 * voxel.bound + 1
        self.origin, self.step = 16 * (middle - voxel.bound) - 8, 16 * step
        self.first = -((middle + voxel.bound) // step)
        self.last = (voxel.span - middle + voxel.bound) // step
        scales = [max(scale, 205) for scale in scales]
        self.narrowness = [2097152.0 / scale for scale in scales]
        self.low, self.high = [0] * len(scales), [2**24] * len(scales)
        self.spread = 0
        while scales[-1] >= 6144 * step << self.spread:
            self.spread += 1

    def take(self) -> int:
        """Decode the level: its side, its distance in steps, and its place in the step."""
        below = self.first < 0 and not self.decide(0, 0)
        width, i = 1 << self.spread, 0
        while self.last - self.first >= width:
            node = 1 + 15 * below + min(i, 14)
            if below:
                if self.decide(node, self.last - width + 1):
                    break
            elif not self.decide(node, self.first + width):
                break
            if i in (3, 5, 7) or i >= 8:
                width *= 2
            i += 1
        while self.first < self.last:
            left = self.last - self.first + 1
            node = 31 + 8 * below + min((left - 1).bit_length() - 1, 7)
            self.decide(node, self.first + (left + 1) // 2)
        return self.first

    def decide(self, node: int, level: int) -> bool:
        """Whether the level is this one or above; learn from it."""
        weights = self.weights[node]
        edge = float(self.origin + level * self.step)
        places, stretched, total = [], [], 0
        for k, weight in enumerate(weights):
            place = curve_at((edge - self.centers[k]) * self.narrowness[k])
            odds = log_of(self.high[k] - place + 1) - log_of(place - self.low[k] + 1)
            places.append(place)
            stretched.append(odds)
            total += weight * odds
        total >>= 16
        mixed = clip(total, -49151, 49151) + 49152
        p, part = LOGISTIC[mixed >> 5], mixed % 4096
        bins, b = self.corrected[node], mixed >> 12
        corrected = (bins[b] * (4096 - part) + bins[b + 1] * part) >> 12
        yes = self.rans.decide(clip((p + corrected) >> 1, 32, 65504))
        target = 65535 if yes else 0
        wrong = target - p
        self.weights[node] = [
            clip(weight + (odds * wrong >> 19), -(2**20), 2**20)
            for weight, odds in zip(weights, stretched, strict=True)
        ]
        bins[b] += (target - bins[b]) * (4096 - part) >> 18
        bins[b + 1] += (target - bins[b + 1]) * part >> 18
        if yes:
            self.first, self.low = level, places
        else:
            self.last, self.high = level - 1, places
        return yes

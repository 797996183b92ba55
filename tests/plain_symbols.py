"""Symbols and plain bits of a coded band, for the plain decoder (docs/bitstream.md, 11.2)."""

from __future__ import annotations

import struct

from plain_rans import Adaptive, RansDecoder


class Symbols:
    """The two segments of a payload: plain bits, and rANS symbols in two lanes."""

    def __init__(self, payload: bytes) -> None:
        assert len(payload) >= 4
        (size,) = struct.unpack_from("<I", payload)
        assert size <= len(payload) - 4
        self.number = int.from_bytes(payload[4 : 4 + size], "little")
        self.size, self.at = 8 * size, 0
        self.rans = RansDecoder(payload[4 + size :], 2)

    def bits(self, n: int) -> int:
        """The next n plain bits, the first one lowest."""
        self.at += n
        assert self.at <= self.size
        return self.number >> (self.at - n) & ((1 << n) - 1)

    def take_number(self, model: Adaptive) -> int:
        """A number of unknown size: how many bits it has after the first, then these bits."""
        n = model.get(self.rans)
        if n == 15:
            n += self.bits(5)
        assert n <= 40
        return self.bits(n) + (1 << n) - 1

    def take_level(self, mean: int, contexts: list[Adaptive], escape: Adaptive, most: int) -> int:
        """A signed level, at most `most` on either side, where errors have this mean."""
        context, shift = class_of(mean)
        high = contexts[context].get(self.rans)
        if high == 15:
            high += self.take_number(escape)
        code = high << shift
        assert code <= 2 * most
        code += self.bits(shift)
        assert code <= 2 * most
        return to_signed(code)

    def finish(self) -> None:
        """Check that all was used, and that the bits that fill up the last byte are 0."""
        self.rans.finish()
        assert self.size - self.at < 8
        assert self.number >> self.at == 0


def class_of(mean: int) -> tuple[int, int]:
    """Context of a mean error, four an octave, and how many low bits go plain."""
    v = mean + 4
    octave = v.bit_length() - 1
    return min(4 * (octave - 2) + (v >> (octave - 2)) % 4, 47), max(octave - 4, 0)


def to_signed(code: int) -> int:
    """0, 1, 2, 3, 4 ... as 0, -1, 1, -2, 2 ..."""
    return code // 2 if code % 2 == 0 else -(code + 1) // 2


def clip(value: int, low: int, high: int) -> int:
    """The nearest number from low to high."""
    return min(max(value, low), high)

"""The residual layer of the plain decoder, written from docs/bitstream.md alone."""

from __future__ import annotations

import struct
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from plain_rans import Adaptive, RansDecoder

CURRENT = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1))
CURRENT = (*CURRENT, (-2, 1))
CROSS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
PREVIOUS = (*CROSS, (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 2), (2, 0), (0, -2), (-2, 0))


class ResidualDecoder:
    """Decodes the frames of a slice from a key frame to the next one."""

    def __init__(self, header: SimpleNamespace) -> None:
        rows, n = header.rows, min(max(header.rows // 96, 1), 8)
        self.edges = [rows * i // n for i in range(n + 1)]
        self.bands = [BandDecoder(b - a, header) for a, b in pairwise(self.edges)]

    def decode(self, payload: bytes, base: np.ndarray | None) -> np.ndarray:
        """The next frame of samples."""
        n = len(self.bands)
        sizes = struct.unpack_from(f"<{n - 1}I", payload)
        parts, at = [], 4 * (n - 1)
        sizes = (*sizes, len(payload))
        for band, (top, bottom), size in zip(self.bands, pairwise(self.edges), sizes, strict=True):
            band_base = None if base is None else base[top:bottom]
            parts.append(band.decode(payload[at : at + size], band_base))
            at += size
        return np.concatenate(parts)


class BandDecoder:
    """Decodes the frames of one band."""

    def __init__(self, rows: int, header: SimpleNamespace) -> None:
        self.shape = (rows, header.columns)
        self.span, self.bound = header.span, header.max_error
        self.history: list[np.ndarray] = []  # decoded frames, padded, the latest first
        self.magnitudes = np.zeros((rows + 4, header.columns + 4), np.int64).tolist()
        self.contexts = [Adaptive() for _ in range(48)]
        self.escape, self.coefficient = Adaptive(), Adaptive()
        self.coefficients: list[int] = []

    def decode(self, payload: bytes, base: np.ndarray | None) -> np.ndarray:
        """The next frame of samples."""
        if payload[0] == 1:
            frame = self.unpack_raw(payload[1:])
            self.magnitudes = np.zeros_like(self.magnitudes).tolist()
        else:
            assert payload[0] == 0
            frame = self.decode_coded(payload[1:], base)
        self.history = [np.pad(frame, 2, mode="edge"), *self.history][:2]
        return frame

    def unpack_raw(self, payload: bytes) -> np.ndarray:
        """Samples of as many bits as the span has."""
        bits, n = self.span.bit_length(), self.shape[0] * self.shape[1]
        assert len(payload) == (n * bits + 7) // 8
        number = int.from_bytes(payload, "little")
        samples = [number >> bits * i & (1 << bits) - 1 for i in range(n)]
        assert number >> bits * n == 0
        assert max(samples) <= self.span
        return np.array(samples, np.int64).reshape(self.shape)

    def decode_coded(self, payload: bytes, base: np.ndarray | None) -> np.ndarray:
        """Samples predicted by a filter that the payload brings, and corrected."""
        (rans_size,) = struct.unpack_from("<I", payload)
        rans = RansDecoder(payload[4 : 4 + rans_size], 2)
        bits = Bits(payload[4 + rans_size :])
        rows, columns = self.shape
        current = np.zeros((rows + 4, columns + 4), np.int64)
        if self.history:
            current[:2] = self.history[0][2]
        taps = [(current, place) for place in CURRENT]
        if self.history:
            taps = [(self.history[0], place) for place in PREVIOUS] + taps
        if len(self.history) == 2:
            taps += [(self.history[1], place) for place in CROSS]
        if base is not None:
            taps += [(np.pad(base, 2, mode="edge"), place) for place in CROSS]
        self.read_coefficients(rans, bits, len(taps))
        before, now = self.magnitudes, np.zeros_like(self.magnitudes).tolist()
        for r in range(2, rows + 2):
            current[r, :2] = current[r - 1, 2]
            for c in range(2, columns + 2):
                products = (
                    weight * int(plane[r + dy, c + dx])
                    for weight, (plane, (dy, dx)) in zip(self.coefficients, taps, strict=True)
                )
                predicted = clip((sum(products) + 2048) >> 12, 0, self.span)
                level = self.read_level(rans, bits, self.energy(now, before, r, c))
                sample = clip(predicted + level * (2 * self.bound + 1), 0, self.span)
                current[r, c] = sample
                now[r][c] = min(16 * abs(level), 2**27 - 1)
            current[r, columns + 2 :] = current[r, columns + 1]
        rans.finish()
        bits.finish()
        self.magnitudes = now
        return current[2:-2, 2:-2].copy()

    def read_coefficients(self, rans: RansDecoder, bits: Bits, n: int) -> None:
        """The filter, as the difference from the one before it."""
        old = self.coefficients if len(self.coefficients) == n else [0] * n
        self.coefficients = [
            value + unzigzag(read_number(rans, bits, self.coefficient)) for value in old
        ]

    def energy(self, now: list[list[int]], before: list[list[int]], r: int, c: int) -> int:
        """Weighted mean of the magnitudes around a place, in sixteenths."""
        total = 3 * (now[r][c - 1] + now[r - 1][c]) + now[r][c - 2] + now[r - 2][c]
        total += 2 * (now[r - 1][c - 1] + now[r - 1][c + 1])
        if self.history:
            total += 2 * before[r][c] + before[r][c + 1] + before[r][c - 1]
            total += before[r - 1][c] + before[r + 1][c]
        else:
            total += total // 2
        return total // 16

    def read_level(self, rans: RansDecoder, bits: Bits, energy: int) -> int:
        """The quantized difference of a sample from its prediction."""
        v = energy + 4
        octave = v.bit_length() - 1
        index = min((octave - 2) * 4 + (v >> (octave - 2)) % 4, 47)
        shift = max(octave - 4, 0)
        high = self.contexts[index].get(rans)
        if high == 15:
            high += read_number(rans, bits, self.escape)
        return unzigzag(high << shift | bits.take(shift))


class Bits:
    """Takes bits from bytes, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self.number, self.size, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def take(self, n: int) -> int:
        """The next n bits."""
        self.at += n
        return self.number >> (self.at - n) & ((1 << n) - 1)

    def finish(self) -> None:
        """Check that less than a byte is left, and 0."""
        assert 0 <= self.size - self.at < 8
        assert self.number >> self.at == 0


def read_number(rans: RansDecoder, bits: Bits, model: Adaptive) -> int:
    """A number of unknown size."""
    n = model.get(rans)
    if n == 15:
        n += bits.take(5)
    return bits.take(n) + (1 << n) - 1


def unzigzag(value: int) -> int:
    """0, 1, 2, 3, 4 ... as 0, -1, 1, -2, 2 ..."""
    return value >> 1 ^ -(value & 1)


def clip(value: int, low: int, high: int) -> int:
    """The nearest number from low to high."""
    return min(max(value, low), high)

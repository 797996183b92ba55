"""Second decoder of the tokens of a frame: docs/bitstream.md, section 15, read once more.

Plain integers of Python, and plain sums for pictures of whole cines; nothing of edge_codec.
"""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import numpy as np

OWN = [(0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0)]
BEFORE = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]
POWERS = [round(2.0 ** (24 - d / 256)) for d in range(6144)]


class DamagedTokensError(Exception):
    """The payload is none that an encoder writes."""


class PlainTitok:
    """Decodes the tokens of one slice with the tables of token_model.npz."""

    def __init__(self, file: bytes) -> None:
        with np.load(io.BytesIO(file)) as arrays:
            self.t = {name: arrays[name].astype(object) for name in arrays.files}
        self.embed = self.t["embed"].astype(np.int64)
        self.bias = self.t["bias"].astype(np.int64)
        self.frames: list[list[int]] = []  # the latest first
        self.age = 0

    def decode(self, payload: bytes, key: bool) -> list[int]:
        """The 32 tokens of a frame."""
        before = [] if key else self.frames
        assert key or before
        self.frames, self.age = [], 0 if key else self.age
        numbers = Numbers(payload)
        tokens: list[int] = []
        for i in range(32):
            v = self.weights(i, tokens, before)
            groups = [sum(v[64 * j : 64 * j + 64]) for j in range(64)]
            group = numbers.symbol(groups)
            tokens.append(64 * group + numbers.symbol(v[64 * group : 64 * group + 64]))
        numbers.close()
        self.frames, self.age = [tokens, *before[:1]], self.age + 1
        return tokens

    def weights(self, i: int, tokens: list[int], before: list[list[int]]) -> list[int]:
        """Weights of all tokens at place i."""
        t, x = self.t, self.inputs(i, tokens, before)
        k = self.age if self.age < 12 else 8 + (self.age - 12) % 4
        a = x @ t["enter"] + t["enter_bias"][k, i]
        a = np.array([min(max(n >> 10, 0), 4095) for n in a], object)
        b = a @ t["middle"] + t["middle_bias"]
        b = np.array([min(max(n >> 12, 0), 4095) for n in b], object)
        w = b @ t["leave"] + x @ t["across"] + t["leave_bias"]
        w = np.array([min(max(n >> 14, -2047), 2047) for n in w], np.int64)
        g = ((self.embed @ w) >> 4) + self.bias
        return [POWERS[min(d, 6143)] for d in (g.max() - g).tolist()]

    def inputs(self, i: int, tokens: list[int], before: list[list[int]]) -> np.ndarray:
        """The codes around place i, 192 numbers."""
        row, column = divmod(i, 4)
        frames = [tokens, *before, [], []]
        places = [(0, step) for step in OWN] + [(1, step) for step in BEFORE] + [(2, (0, 0))]
        x = []
        for frame, (down, right) in places:
            r, c = row + down, column + right
            is_there = 0 <= r < 8 and 0 <= c < 4 and 4 * r + c < len(frames[frame])
            x += list(self.t["codes"][frames[frame][4 * r + c]]) if is_there else [0] * 12
        return np.array(x, object)


class Numbers:
    """The range decoder."""

    def __init__(self, payload: bytes) -> None:
        if payload[-1:] == b"\0":
            raise DamagedTokensError("ends with 0")
        self.bytes, self.at, self.range = payload, 6, 1 << 48
        self.v = int.from_bytes(payload[:6].ljust(6, b"\0"), "big")

    def symbol(self, weights: list[int]) -> int:
        """Which of the symbols with these weights comes next."""
        total = sum(weights)
        f = [1 + weight * 65472 // total for weight in weights]
        f[weights.index(max(weights))] += 65536 - sum(f)
        u = self.range >> 16
        slot, symbol, start = self.v // u, 0, 0
        if slot > 65535:
            raise DamagedTokensError("behind the last part")
        while slot >= start + f[symbol]:
            start, symbol = start + f[symbol], symbol + 1
        self.v, self.range = self.v - u * start, u * f[symbol]
        while self.range < 1 << 40:
            byte = self.bytes[self.at] if self.at < len(self.bytes) else 0
            self.v, self.range, self.at = 256 * self.v + byte, 256 * self.range, self.at + 1
        return symbol

    def close(self) -> None:
        """All bytes must have been taken."""
        if self.at < len(self.bytes):
            raise DamagedTokensError("goes on")


class PlainGroups:
    """Tokens and pictures of a stream of model 6, from its header alone."""

    def __init__(self, header: SimpleNamespace, file: bytes) -> None:
        data = header.model_data
        self.h, self.n = header, int.from_bytes(data[1:3], "little")
        self.name = {1: "cine", 2: "exam"}[data[0]]
        with np.load(io.BytesIO(file)) as arrays:
            names = ("codes", "paint", "mean")
            self.t = {name: arrays[f"{self.name}_{name}"].astype(np.float64) for name in names}
        bits = "".join(f"{byte:08b}" for byte in data[3:])
        assert len(bits) == 384 * (header.slices if data[0] == 1 else 1)
        numbers = [int(bits[at : at + 12], 2) for at in range(0, len(bits), 12)]
        self.tokens = [numbers[at : at + 32] for at in range(0, len(numbers), 32)]

    def images(self, tokens: list[int]) -> np.ndarray:
        """Images of a group."""
        images, paint = self.t["mean"].copy(), self.t["paint"]
        h, w = paint.shape[3:]
        for i, token in enumerate(tokens):
            for k in range(9):
                r, c = i // 4 + k // 3 - 1, i % 4 + k % 3 - 1
                if 0 <= r < 8 and 0 <= c < 4:
                    added = sum(
                        number * part
                        for number, part in zip(self.t["codes"][token], paint[k], strict=True)
                    )
                    images[:, h * r : h * r + h, w * c : w * c + w] += added
        return images

    def frame(self, s: int, p: int) -> np.ndarray:
        """Samples of a frame."""
        images = self.images(self.tokens[s if self.name == "cine" else 0])
        if self.name == "exam":
            v = [1.0, 0, 0, 0]
            for a in range(1, min(4, self.h.slices)):
                v[a] = math.sqrt(2) * math.cos(math.pi * a * (s + 0.5) / self.h.slices)
            images = np.array([sum(v[a] * images[3 * a + b] for a in range(4)) for b in range(3)])
        x = images[0]
        if self.n >= 3:
            angle = 2 * math.pi * (p % self.n) / self.n
            x = x + math.sqrt(2) * (math.cos(angle) * images[1] + math.sin(angle) * images[2])
        x = np.clip(resized(resized(x, 128).T, 128).T, 0, 255 / 192)
        rows, columns = self.h.rows, self.h.columns
        longer = max(rows, columns)
        side = min(128, 2 * longer)
        high, wide = (max(1, (2 * n * side + longer) // (2 * longer)) for n in (rows, columns))
        top, left = (128 - high) // 2, (128 - wide) // 2
        x = x[top : top + high, left : left + wide]
        y = resized(resized(x, rows).T, columns).T
        samples = np.floor(self.h.window_offset + y * self.h.window_width + 0.5)
        return np.clip(samples, 0, self.h.span).astype(np.int64)


def resized(x: np.ndarray, m: int) -> np.ndarray:
    """Rows of x, resized to m by cubic convolution."""
    n = len(x)
    out = []
    for i in range(m):
        k = [cubic(abs(j - ((i + 0.5) * n / m - 0.5)) / max(1, n / m)) for j in range(n)]
        out.append(sum(weight * row for weight, row in zip(k, x, strict=True) if weight) / sum(k))
    return np.array(out)


def cubic(x: float) -> float:
    """k(x) of section 15.3."""
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

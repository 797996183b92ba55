"""Second decoder of the tokens of a frame: docs/bitstream.md, section 15, read once more.

Plain integers of Python, nothing of edge_codec.
"""

from __future__ import annotations

import io

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

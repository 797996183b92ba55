"""Second decoder of the wavelet and VAE layer: docs/bitstream.md, section 14, read once more."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

Image = np.ndarray[Any, np.dtype[Any]]
B = np.array([1] + 3 * [4] + 12 * [8] + 48 * [16], np.int64)


class DamagedError(Exception):
    """The payload is none that an encoder writes."""


def r(x: Image, n: int) -> Image:
    return (x + (1 << (n - 1))) >> n


def s16(x: Image) -> Image:
    return np.clip(x, -32768, 32767)


def depth(x: Image, b: int) -> Image:
    h, w, channels = x.shape
    c = channels // b // b
    out = np.zeros((h * b, w * b, c), np.int64)
    for i in range(b):
        for j in range(b):
            out[i::b, j::b] = x[:, :, (i * b + j) * c : (i * b + j + 1) * c]
    return out


def space(x: Image, b: int) -> Image:
    return np.stack([x[i::b, j::b] for i in range(b) for j in range(b)], axis=2)


def seen(x: Image) -> Image:
    return s16(r(B * x, 2))


class Values:
    """The range decoder of 14.1, with integers of any size."""

    def __init__(self, payload: bytes, table: Image) -> None:
        self.rows = [[int(x) for x in row] for row in table]
        self.bytes = payload
        self.at = 6
        self.v = int.from_bytes(payload[:6].ljust(6, b"\0"), "big")
        self.range = 1 << 48
        if payload and payload[-1] == 0:
            raise DamagedError("ends with 0")

    def slot(self) -> int:
        slot = self.v // (self.range >> 16)
        if slot > 65535:
            raise DamagedError("behind the last part")
        return slot

    def take(self, start: int, end: int) -> None:
        unit = self.range >> 16
        self.v -= unit * start
        self.range = unit * (end - start)
        while self.range < 1 << 40:
            byte = self.bytes[self.at] if self.at < len(self.bytes) else 0
            self.at += 1
            self.v = 256 * self.v + byte
            self.range *= 256

    def number(self, bits: int) -> int:
        part = 65536 >> bits
        number = self.slot() // part
        self.take(number * part, (number + 1) * part)
        return number

    def value(self, row: int) -> int:
        starts, slot = self.rows[row], self.slot()
        k = next(k for k in range(256) if starts[k] <= slot < starts[k + 1])
        self.take(starts[k], starts[k + 1])
        if k < 255:
            return (k + 1) // 2 if k % 2 else -(k // 2)
        b = self.number(4)
        magnitude = (1 << b) + self.number(b) - 1
        sign = self.number(1)
        if magnitude > 4095:
            raise DamagedError("too large")
        return -magnitude if sign else magnitude

    def values(self, rows: Image) -> Image:
        flat = [self.value(int(row)) for row in rows.ravel()]
        return np.array(flat, np.int64).reshape(rows.shape)

    def close(self) -> None:
        if self.at < len(self.bytes):
            raise DamagedError("bytes are left")


class PlainVae:
    """Decodes the base frames of a slice; `weights` is the content of decoder.npz."""

    def __init__(self, weights: bytes, header: SimpleNamespace) -> None:
        with np.load(io.BytesIO(weights)) as arrays:
            self.arrays = {name: arrays[name].astype(np.int64) for name in arrays.files}
        self.header = header
        self.h, self.w = -(-header.rows // 8), -(-header.columns // 8)
        self.kind, self.q = "key", 0
        self.decoded = np.zeros(0)
        self.features = np.zeros(0)

    def decode(self, payload: bytes, phase: int, key: bool) -> Image:
        """Return the base frame of samples; a frame follows the one before, whichever that is."""
        del phase
        self.kind = "key" if key else "inter"
        if not payload or payload[0] > 63:
            raise DamagedError("no quality")
        self.q = payload[0]
        values = Values(payload[1:], self.arrays["table"])
        self.make(values, key)
        values.close()
        header = self.header
        samples = header.window_offset + ((self.decoded * header.window_width + 1024) >> 11)
        return np.clip(samples, 0, header.span)[: header.rows, : header.columns]

    # 14.2

    def layer(self, name: str, *inputs: Image, added: Image | int = 0) -> Image:
        name = f"{self.kind}.{name}"
        stride, alone, rectified = self.arrays[f"{name}.kind"]
        weight, bias = self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]
        x = np.concatenate(inputs, axis=2)
        if x.shape[2] % 2:
            x = np.concatenate((x, np.zeros_like(x[:, :, :1])), axis=2)
        k, (rows, columns) = weight.shape[1], x.shape[:2]
        wide = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
        h, w = -(-rows // stride), -(-columns // stride)
        total = np.zeros((h, w, len(weight)), np.int64) + bias[self.q if len(bias) > 1 else 0]
        for i in range(k):
            for j in range(k):
                part = wide[i : i + stride * h : stride, j : j + stride * w : stride][:h, :w]
                if alone:
                    total += part * weight[:, i, j, 0]
                else:  # doubles are exact below 2^53
                    product = part.astype(float) @ weight[:, i, j].T.astype(float)
                    total += product.astype(np.int64)
        total = (total >> self.arrays[f"{name}.shift"]) + added
        return np.clip(total, 0 if rectified else -32768, 32767)

    def stack(self, name: str, x: Image) -> Image:
        n = 0
        while f"{self.kind}.{name}.{n}.expand.weight" in self.arrays:
            unit = f"{name}.{n}"
            inner = self.layer(f"{unit}.depth", self.layer(f"{unit}.expand", x))
            x = self.layer(f"{unit}.project", inner, added=x)
            x = self.layer(f"{unit}.narrow", self.layer(f"{unit}.widen", x), added=x)
            n += 1
        return x

    # 14.3

    def lift(self, x: Image, level: int) -> tuple[Image, Image]:
        limit = 1 << 16
        e, d = np.clip(x[0::2], -limit, limit), np.clip(x[1::2], -limit, limit)
        for n, t in enumerate(self.arrays["wavelet.steps"][level]):
            if n % 2 == 0:
                d = d + r(t * (e + np.vstack((e[1:], e[-1:]))), 12)
            else:
                e = e + r(t * (np.vstack((d[:1], d[:-1])) + d), 12)
        return e, d

    def unlift(self, e: Image, d: Image, level: int) -> Image:
        limit = 1 << 16
        e, d = np.clip(e, -limit, limit), np.clip(d, -limit, limit)
        steps = list(enumerate(self.arrays["wavelet.steps"][level]))
        for n, t in steps[::-1]:
            if n % 2 == 0:
                d = d - r(t * (e + np.vstack((e[1:], e[-1:]))), 12)
            else:
                e = e - r(t * (np.vstack((d[:1], d[:-1])) + d), 12)
        out = np.zeros((2 * len(e), e.shape[1]), np.int64)
        out[0::2], out[1::2] = e, d
        return out

    def coefficients(self, frame: Image) -> Image:
        low, bands = 2 * frame, []
        for level in range(3):
            top, bottom = self.lift(low, level)
            low, hl = (half.T for half in self.lift(top.T, level))
            lh, hh = (half.T for half in self.lift(bottom.T, level))
            bands.append([space(band, 4 >> level) for band in (hl, lh, hh)])
        all_bands = [low[:, :, None], *bands[2], *bands[1], *bands[0]]
        raw = np.concatenate(all_bands, axis=2)
        return np.clip(r(raw * self.arrays["wavelet.gains"], 17), -(1 << 18), 1 << 18)

    def inverse(self, x: Image) -> Image:
        raw = np.clip(r(x * self.arrays["wavelet.inverse_gains"], 15), -(1 << 16), 1 << 16)
        low = raw[:, :, 0]
        for level, start, block in ((2, 1, 1), (1, 4, 2), (0, 16, 4)):
            n = block * block
            hl, lh, hh = (
                depth(raw[:, :, start + i * n : start + (i + 1) * n], block)[:, :, 0]
                for i in range(3)
            )
            top, bottom = self.unlift(low.T, hl.T, level).T, self.unlift(lh.T, hh.T, level).T
            low = self.unlift(top, bottom, level)
        return (low + (low > 0)) >> 1

    # 14.4

    def make(self, values: Values, key: bool) -> None:
        a, q, h, w = self.arrays, self.q, self.h, self.w
        if key:
            context = np.zeros((h, w, 1), np.int64) + a["key.context"][q]
        else:
            before = seen(self.coefficients(self.decoded))
            context = self.stack(
                "context.units", self.layer("context.enter", before, self.features)
            )
        mean, rows = head(
            self.layer("side_prior.expect.head", self.layer("side_prior.reduce", context))
        )
        step = a[f"{self.kind}.side_prior.step"][q]
        side = s16(mean + r(values.values(distribution(rows)) * step, 4))
        fine = depth(self.layer("side_prior.widen", side), 2)[:h, :w]
        f = self.stack("side_prior.units", self.layer("side_prior.enter", fine, context))
        p, c = np.zeros((8 * h, 8 * w), np.int64), np.zeros((h, w, 64), np.int64)
        if not key:
            motion = values.values(distribution(self.layer("motion_prior.expect.head", f)))
            if np.abs(motion).max() > 6:
                raise DamagedError("moves too far")
            p = self.predict(motion, self.layer("window", f))
            c = self.coefficients(p)
        latents = self.latents(values, f, c)
        self.finish(latents, p, c, f)

    def predict(self, motion: Image, n: Image) -> Image:
        gate = np.clip(n[:, :, 12] + 2048, 0, 4096)
        x = self.decoded
        for axis in range(2):
            total = np.zeros_like(x)
            for j, o in enumerate((-3, -2, -1, 1, 2, 3)):
                hat = np.maximum(4096 - np.abs(2048 * motion[:, :, axis] - 4096 * o), 0)
                more = r(np.clip(n[:, :, 6 * axis + j], -4096, 4096) * gate, 12)
                g = r(stretch(stretch(hat + more).T).T, 10)
                places = np.clip(np.arange(x.shape[axis]) + o, 0, x.shape[axis] - 1)
                total += g * (np.take(x, places, axis) - x)
            x = s16(x + r(total, 10))
        return np.clip(x, -1024, 7168)

    def latents(self, values: Values, f: Image, c: Image) -> Image:
        x = self.stack("prior.units", self.layer("prior.enter", f, seen(c)))
        m, i = head(self.layer("prior.expect_first.head", x))
        step = self.arrays[f"{self.kind}.prior.step"][self.q]
        board = (np.arange(self.h)[:, None] + np.arange(self.w)) % 2
        first = (np.array(parity()) + board[:, :, None]) % 2 == 0
        z = np.zeros_like(m)
        z[first] = values.values(distribution(i)[first])
        d = r(z * step, 4)
        more = self.layer(
            *("prior.enter_second", x, 1024 * np.clip(z, -4, 4), seen(d)),
            1024 * board[:, :, None],
        )
        more = self.layer("prior.expect_second.head", self.stack("prior.units_second", more))
        m2, i2 = head(more)
        z[~first] = values.values(distribution(i + i2)[~first])
        d = r(z * step, 4)
        out = np.where(first, r((16 // B) * m, 2), r((16 // B) * (m + m2), 2)) + d
        return np.clip(out, -(1 << 18), 1 << 18)

    def finish(self, latents: Image, p: Image, c: Image, f: Image) -> None:
        limit = int(self.arrays["features_limit"])
        t = self.layer("synthesis.enter", seen(latents), seen(c), f)
        t = np.clip(self.stack("synthesis.units", t), -limit, limit)
        n = self.layer("synthesis.leave", t)
        gates = np.clip(n[:, :, 64:] + 2048, 0, 4096)
        change = latents.copy()
        for channel in range(64):
            places = 12 + int(B[channel]).bit_length() - 1
            change[:, :, channel] += r(n[:, :, channel] * gates[:, :, 0], places)
        d = s16(p + self.inverse(change))
        e = fourfold(self.layer("filter.spread", self.layer("filter.hint", t)))
        x = self.layer("filter.enter", space(d, 2), space(s16(d - p), 2), added=e)
        y = self.layer("filter.leave", self.layer("filter.middle", x))
        more = depth(r(y * fourfold(gates[:, :, 1:]), 13), 2)[:, :, 0]
        self.decoded, self.features = np.clip(d + more, -1024, 7168), t


def head(x: Image) -> tuple[Image, Image]:
    half = x.shape[2] // 2
    return x[:, :, :half], x[:, :, half:]


def distribution(indices: Image) -> Image:
    return np.clip(r(indices, 6), 0, 63)


def fourfold(x: Image) -> Image:
    return np.kron(x, np.ones((4, 4, 1), np.int64))


def stretch(x: Image) -> Image:
    near: Sequence[int] = (9, 11, 13, 15, 15, 13, 11, 9)
    out = np.zeros((8 * len(x), x.shape[1]), np.int64)
    for row in range(len(out)):
        block, t = divmod(row, 8)
        other = max(block - 1, 0) if t < 4 else min(block + 1, len(x) - 1)
        out[row] = near[t] * x[block] + (16 - near[t]) * x[other]
    return out


def parity() -> list[int]:
    small = [(i + j) % 2 for i in range(2) for j in range(2)]
    large = [(i + j) % 2 for i in range(4) for j in range(4)]
    return [0, 1, 1, 0, *3 * small, *3 * large]

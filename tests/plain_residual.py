"""The residual layer of the plain decoder, written from docs/bitstream.md alone.

A frame is cut into bands, and the payload of each begins with its mode. What a coded band holds
depends on the effort: plain_filter.py has FAST, plain_local.py DEFAULT and BEST. In streams of
those, a band may be coded as FAST.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
from plain_filter import FilterDecoder
from plain_local import LocalDecoder

FAST = 0


class ResidualDecoder:
    """Decodes the frames of one slice; payloads that are damaged raise an AssertionError."""

    def __init__(
        self,
        rows: int,
        columns: int,
        span: int,
        max_error: int,
        with_base: bool,
        effort: int,
        bounds: np.ndarray | None = None,
    ) -> None:
        if bounds is None:
            bounds = np.full((rows, columns), max_error, np.int64)
        n = min(max(rows // 96, 1), 8)
        self.edges = [rows * i // n for i in range(n + 1)]
        self.bands = [
            BandDecoder(b - a, columns, span, max_error, with_base, effort, bounds[a:b])
            for a, b in pairwise(self.edges)
        ]
        self.with_base = with_base
        self.begun = False

    def decode(self, payload: bytes, base: np.ndarray | None, key: bool) -> np.ndarray:
        """The next frame of samples, uint32."""
        assert (base is not None) == self.with_base
        assert key or self.begun
        self.begun = False  # until the frame is whole
        n = len(self.bands)
        at = 4 * (n - 1)
        assert len(payload) >= at
        sizes = struct.unpack_from(f"<{n - 1}I", payload)
        assert sum(sizes) <= len(payload) - at
        parts, sizes = [], (*sizes, len(payload))
        for band, (top, bottom), size in zip(self.bands, pairwise(self.edges), sizes, strict=True):
            band_base = None if base is None else base[top:bottom]
            parts.append(band.decode(payload[at : at + size], band_base, key))
            at += size
        self.begun = True
        return np.concatenate(parts).astype(np.uint32)


class BandDecoder:
    """Decodes the frames of one band."""

    def __init__(
        self,
        rows: int,
        columns: int,
        span: int,
        max_error: int,
        with_base: bool,
        effort: int,
        bounds: np.ndarray,
    ) -> None:
        self.shape = (rows, columns)
        self.span, self.max_error, self.bounds = span, max_error, bounds
        self.fast = FilterDecoder(rows, columns, span)
        self.local: LocalDecoder | None = None
        if effort != FAST:
            self.local = LocalDecoder(rows, columns, span, with_base, effort)

    def decode(self, payload: bytes, base: np.ndarray | None, key: bool) -> np.ndarray:
        """The next frame of samples."""
        coder = self.local or self.fast
        if key:
            self.fast.start()
            coder.start()
        assert payload
        mode, payload = payload[0], payload[1:]
        assert mode in ((0, 1, 2) if self.local is None else (0, 1, 2, 3, 4))
        if mode == 1:
            frame = self.unpack_raw(payload)
        else:
            bound = self.max_error
            if mode in (2, 4):
                assert len(payload) >= 4
                (bound,) = struct.unpack_from("<I", payload)
                assert bound < self.max_error
                payload = payload[4:]
            decode = self.decode_as_fast if mode in (3, 4) else coder.decode
            frame = decode(payload, np.minimum(bound, self.bounds), base)
        coder.keep(frame, base, coded=mode != 1)
        return frame

    def decode_as_fast(
        self, payload: bytes, bounds: np.ndarray, base: np.ndarray | None
    ) -> np.ndarray:
        """A frame that is coded as FAST in a stream of another effort."""
        step = np.pad(2 * bounds + 1, 2, mode="edge")
        self.fast.history = [frame[1:-1, 1:-1].astype(np.int64) for frame in self.local.history[:2]]
        self.fast.magnitudes = self.local.errors[-1, 1:-1, 1:-1] // step
        frame = self.fast.decode(payload, bounds, base)
        self.local.errors = self.local.no_errors()
        self.local.errors[:, 1:-1, 1:-1] = np.minimum(step * self.fast.magnitudes, 2**27 - 1)
        return frame

    def unpack_raw(self, payload: bytes) -> np.ndarray:
        """Samples of as many bits as the span has."""
        bits, n = self.span.bit_length(), self.shape[0] * self.shape[1]
        assert len(payload) == (n * bits + 7) // 8
        flags = np.unpackbits(np.frombuffer(payload, np.uint8), bitorder="little").astype(np.int64)
        assert not flags[n * bits :].any()
        samples = (flags[: n * bits].reshape(n, bits) << np.arange(bits)).sum(1)
        assert (samples <= self.span).all()
        return samples.reshape(self.shape)

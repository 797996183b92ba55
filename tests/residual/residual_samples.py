"""Frames that a predictor or a range check could trip over, and the round trip they must pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from plain_residual import ResidualDecoder as PlainDecoder

from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.residual.coder import cut_bands
from edge_codec.spec import Effort

EFFORTS = list(Effort)
SPANS = [0, 1, 2, 255, 1000, 65535, 65536, 2**31, 2**32 - 1]
BOUNDS = [0, 1, 3, 1000, 2**31 - 1]
KINDS = ["flat", "gradient", "noise", "saturated", "sparse", "walk", "wave"]

Frame = NDArray[np.uint32]
Pair = tuple[Frame, Frame | None]  # a frame and its base


class Slice(NamedTuple):
    """Parameters of the coders of a slice."""

    rows: int
    columns: int
    span: int
    max_error: int = 0
    with_base: bool = False
    effort: Effort = Effort.DEFAULT

    def encoder(self, **more: object) -> ResidualEncoder:
        return ResidualEncoder(*self[:5], effort=self.effort, **more)  # type: ignore[arg-type]

    def decoder(self, **more: object) -> ResidualDecoder:
        return ResidualDecoder(*self[:5], effort=self.effort, **more)  # type: ignore[arg-type]

    def plain_decoder(self) -> PlainDecoder:
        return PlainDecoder(*self)

    def raw_size(self) -> int:
        """Bytes of the payload of a frame whose bands are all raw."""
        bands = cut_bands(self.rows)
        bits = [(band.stop - band.start) * self.columns * self.span.bit_length() for band in bands]
        return sum(1 + (n + 7) // 8 for n in bits) + 4 * (len(bands) - 1)


def draw_frame(
    kind: str, rows: int, columns: int, span: int, rng: np.random.Generator, phase: int = 0
) -> Frame:
    """A frame of a kind of content."""
    shape = (rows, columns)
    noise = rng.integers(0, span, shape, dtype=np.uint64, endpoint=True)
    y, x = np.mgrid[:rows, :columns]
    wave = (np.sin(y / 6 + phase / 3) + np.cos(x / 5 - phase / 4) + 2) / 4 * span
    values = {
        "flat": np.full(shape, noise[0, 0]),
        "gradient": ((x + y) / (rows + columns) * span).astype(np.uint64),
        "noise": noise,
        "saturated": np.where(noise > span // 2, span, 0),
        "sparse": np.where(rng.random(shape) < 0.05, noise, 0),
        "walk": np.clip(span // 2 + rng.integers(-9, 10, shape).cumsum(1).cumsum(0), 0, span),
        "wave": np.clip(wave + rng.normal(0, 1 + span / 400, shape), 0, span).astype(np.uint64),
    }
    return np.asarray(values[kind]).astype(np.uint32)


def draw_frames(slice_: Slice, kinds: list[str], seed: int) -> list[Pair]:
    """Frames with their base: the frame with an error of some percent."""
    rng = np.random.default_rng(seed)
    rows, columns, span = slice_[:3]
    frames: list[Pair] = []
    for phase, kind in enumerate(kinds):
        frame = draw_frame(kind, rows, columns, span, rng, phase)
        wrong = frame + rng.normal(0, span / 30 + 1, frame.shape)
        base = np.clip(wrong, 0, span).astype(np.uint64).astype(np.uint32)
        frames.append((frame, base if slice_.with_base else None))
    return frames


def encode_all(
    slice_: Slice,
    frames: list[Pair],
    keys: list[bool] | None = None,
    late: list[bool] | None = None,
) -> list[tuple[bytes, Frame]]:
    """Payload and decoded form of each frame; the first one alone is a key frame by default.

    There is no time for frames that are late.
    """
    encoder, coded = slice_.encoder(), []
    for i, (frame, base) in enumerate(frames):
        give_up_ns = 0 if late and late[i] else None
        key = keys[i] if keys else i == 0
        coded.append(encoder.encode(frame, base, key, give_up_ns=give_up_ns))
        encoder.commit()
    return coded


def check_round_trip(
    slice_: Slice,
    frames: list[Pair],
    keys: list[bool] | None = None,
    plain: bool = True,
    late: list[bool] | None = None,
) -> list[bytes]:
    """Code and decode; assert bound, size and agreement of the decoders; return the payloads."""
    keys = keys or [i == 0 for i in range(len(frames))]
    coded = encode_all(slice_, frames, keys, late)
    decoder = slice_.decoder()
    second = slice_.plain_decoder() if plain else None
    for (frame, base), key, (payload, expected) in zip(frames, keys, coded, strict=True):
        decoded = decoder.decode(payload, base, key)
        assert decoded.dtype == np.uint32
        np.testing.assert_array_equal(decoded, expected)
        worst = int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max())
        assert worst <= slice_.max_error
        assert decoded.max() <= slice_.span
        assert len(payload) <= slice_.raw_size()
        if second:
            np.testing.assert_array_equal(second.decode(payload, base, key), expected)
    return [payload for payload, _ in coded]

"""A base layer that is easy to see through: what the codec must hold for any other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError
from edge_codec.spec import StreamSpec

STEP = 16


class ToyCoder:
    """Codes each frame coarsely against the one before, and notes which phases it saw."""

    def __init__(self, spec: StreamSpec) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.ahead: list[list[NDArray[np.uint32]]] = []
        self._before = np.zeros(spec.info.frame_shape, np.uint32)

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        levels = samples // STEP
        before = np.zeros_like(levels) if key else self._before
        self._before = levels
        self.seen.append((phase, key))
        self.ahead.append([frame.copy() for frame in ahead])
        changes = zlib.compress((levels - before).astype("<u4").tobytes())
        return bytes([phase]) + changes, levels * np.uint32(STEP)

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        if payload[0] != phase:
            raise BitstreamError(f"phase {payload[0]} where {phase} is due")
        changes = np.frombuffer(zlib.decompress(payload[1:]), "<u4").reshape(self._before.shape)
        self._before = changes if key else changes + self._before
        self.seen.append((phase, key))
        return self._before * np.uint32(STEP)


class ToyModel:
    """Makes coders, and keeps them to be asked."""

    def __init__(self) -> None:
        self.coders: list[ToyCoder] = []
        self.mappers: list[Mapper] = []

    def coder(self, spec: StreamSpec, mapper: Mapper) -> ToyCoder:
        self.coders.append(ToyCoder(spec))
        self.mappers.append(mapper)
        return self.coders[-1]

    def encode_frames(
        self,
        coders: Sequence[ToyCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        work = zip(coders, samples, phases, keys, aheads or [()] * len(keys), strict=True)
        return [coder.encode(*frame) for coder, *frame in work]

"""A sink that keeps decoded frames in memory."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.spec import CineInfo


class MemorySink:
    """Collects frames; `cine` joins them."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, int, NDArray[Any]]] = []

    def write(
        self, slice_index: int, phase_index: int, samples: NDArray[Any], metadata: bytes
    ) -> None:
        """Keep one frame; its source header is not kept."""
        del metadata
        self._frames.append((slice_index, phase_index, samples))

    def close(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Forget the frames."""
        self._frames.clear()

    def cine(self, info: CineInfo) -> Cine:
        """Return the frames as one cine."""
        return Cine.from_frames(info, self._frames)

"""Decoded frames of one stream at random access, in bounded memory.

Each frame depends on those before it up to a key frame. The decoder of a slice is kept, so that
playing on costs one frame each, and all frames that a jump has to decode are kept in a cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from typing import Any

from edge_codec.base.vqvae import VqvaeModel
from edge_codec.codec import Decoder
from edge_codec.engine import Mapper
from edge_codec.errors import FrameError
from edge_codec.io.samples import to_voxels
from edge_codec.runtime.models import check_hashes, load_model
from edge_codec.runtime.viewer.packed_frame import pack_frame
from edge_codec.runtime.viewer.packet_index import PacketIndex
from edge_codec.spec import ModelId


class Layer(Enum):
    """What of a frame to decode."""

    WHOLE = "whole"  # all layers of the stream
    BASE = "base"  # the model's base layer alone


class ByteCache:
    """The latest results by key, up to a number of bytes.

    Parameters
    ----------
    limit : int
        Bytes to hold at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._items: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        """Return what is kept under a key and mark it as used."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: Any, value: bytes) -> None:
        """Keep a result, and forget what was not used for longest where there is no room."""
        self._size += len(value) - len(self._items.pop(key, b""))
        self._items[key] = value
        while self._size > self._limit and len(self._items) > 1:
            self._size -= len(self._items.popitem(last=False)[1])

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._size


class FrameStore:
    """Decodes frames of a stream on demand; may be used by several threads.

    Parameters
    ----------
    index : PacketIndex
        The stream.
    backend : str
        Of the model's network, as for decompression.
    cache_bytes : int
        Memory for decoded frames.
    mapper : callable
        As for `edge_codec.codec.Decoder`.
    """

    def __init__(
        self, index: PacketIndex, backend: str, cache_bytes: int, mapper: Mapper = map
    ) -> None:
        self._index = index
        self._backend = backend
        self._lock = threading.Lock()
        self._cache = ByteCache(cache_bytes)
        self._model: VqvaeModel | None = None
        self._decoders: dict[Layer, Decoder] = {}
        self._reached: dict[tuple[Layer, int], int] = {}
        self._mapper = mapper

    def frame(self, slice_index: int, phase_index: int, layer: Layer) -> bytes:
        """Return a frame as `pack_frame` makes it.

        Raises
        ------
        FrameError
            If the stream has no such frame or layer, or it is lost.
        BitstreamError, EngineError
            If it cannot be decoded.
        """
        key = (layer, slice_index, phase_index)
        with self._lock:
            found = self._cache.get(key)
            if found is None:
                for phase, data in self._decode(slice_index, phase_index, layer):
                    self._cache.put((layer, slice_index, phase), data)
                    found = data
        if found is None:
            raise FrameError(f"slice {slice_index} has no phase {phase_index}")
        return found

    def _decode(
        self, slice_index: int, phase_index: int, layer: Layer
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the frames of a slice that are on the way to the one wanted, and that one."""
        chain = self._index.chain(slice_index, phase_index)
        decoder = self._decoder(layer)
        first = phase_index - len(chain) + 1
        reached = self._reached.pop((layer, slice_index), -1)
        begin = reached + 1 if first <= reached < phase_index else first
        for phase in range(begin, phase_index + 1):
            frame = decoder.push(self._index.read(chain[phase - first]))
            yield phase, pack_frame(to_voxels(frame, self._index.spec.info))
        self._reached[layer, slice_index] = phase_index

    def _decoder(self, layer: Layer) -> Decoder:
        spec = self._index.spec
        if layer is Layer.BASE and spec.model is ModelId.NONE:
            raise FrameError("the stream has no base layer")
        if layer not in self._decoders:
            if self._model is None:
                check_hashes(spec)
                self._model = load_model(spec.model, backend=self._backend, decode_only=True)
            self._decoders[layer] = Decoder(
                spec, self._model, preview=layer is Layer.BASE, mapper=self._mapper
            )
        return self._decoders[layer]

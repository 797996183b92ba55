"""Decoded frames of one stream at random access, in bounded memory.

Each frame depends on those before it up to a key frame, in the order of coding. The decoder of a
slice is kept, so that playing on costs one frame each, and all frames that a jump has to decode are
kept in a cache. That may be tens of thousands of frames: one call decodes for `WORK_S` and says how
far it came, the next goes on from there, and others have their turn in between.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from enum import Enum
from typing import Any, NamedTuple

from edge_codec.base.layer import BaseModel
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.codec import Decoder
from edge_codec.engine import Mapper
from edge_codec.errors import FrameError
from edge_codec.io.samples import to_voxels
from edge_codec.runtime.models import check_hashes, load_model
from edge_codec.runtime.viewer.packed_frame import pack_frame
from edge_codec.runtime.viewer.packet_index import PacketIndex
from edge_codec.spec import ModelId

WORK_S = 1.0  # of one call; one frame is decoded at least


class Progress(NamedTuple):
    """How far a call came that did not reach its frame.

    Attributes
    ----------
    decoded : int
        Frames that are decoded, of those it takes.
    frames : int
        Frames it takes, from the key frame to the one wanted.
    """

    decoded: int
    frames: int


class Layer(Enum):
    """What of a frame to decode."""

    WHOLE = "whole"  # all layers of the stream
    BASE = "base"  # the model's base layer alone; all layers of a frame that has none


class ByteCache:
    """The latest results by key, up to a number of bytes; may be used by several threads.

    Parameters
    ----------
    limit : int
        Bytes to hold at most.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._size = 0
        self._items: OrderedDict[Any, bytes] = OrderedDict()

    def get(self, key: Any) -> bytes | None:
        """Return what is kept under a key and mark it as used."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Any, value: bytes) -> None:
        """Keep a result, and forget what was not used for longest where there is no room."""
        with self._lock:
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
        self._order = PhaseOrder(index.spec)
        self._backend = backend
        self._lock = threading.Lock()
        self._cache = ByteCache(cache_bytes)
        self._model: BaseModel | None = None
        self._decoders: dict[Layer, Decoder] = {}
        self._reached: dict[tuple[Layer, int], int] = {}  # turn of the frame decoded last
        self._mapper = mapper

    def frame(self, slice_index: int, phase_index: int, layer: Layer) -> bytes | Progress:
        """Return a frame as `pack_frame` makes it, or how far the work for it has come.

        Raises
        ------
        FrameError
            If the stream has no such frame or layer, or it is lost.
        BitstreamError, EngineError
            If it cannot be decoded.
        """
        key = (layer, slice_index, phase_index)
        found = self._cache.get(key)  # without waiting for others' frames
        if found is not None:
            return found
        with self._lock:
            return self._cache.get(key) or self._decode(slice_index, phase_index, layer)

    def _decode(self, slice_index: int, phase_index: int, layer: Layer) -> bytes | Progress:
        """Decode and keep the frames that lead to the one wanted, as far as `WORK_S` goes."""
        end_s = time.monotonic() + WORK_S
        chain = self._index.chain(slice_index, phase_index)
        decoder = self._decoder(layer)
        last, place = self._order.turn_of(phase_index), (layer, slice_index)
        first, reached = last - len(chain) + 1, self._reached.get(place, -1)
        turn = reached + 1 if first <= reached < last else first
        while True:
            self._reached.pop(place, None)  # not known where decoding fails
            frame = decoder.push(self._index.read(chain[turn - first]))
            data = pack_frame(to_voxels(frame, self._index.spec.info))
            self._cache.put((*place, self._order.phase_at(turn)), data)
            self._reached[place] = turn
            if turn == last:
                return data
            turn += 1
            if time.monotonic() >= end_s:
                return Progress(turn - first, len(chain))

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

"""Makes the coders of a pipeline's streams: with which model, on which threads, warmed up.

One worker alone codes a frame on several threads: the bands of its residual layer, the parts of
its networks. Streams share these threads and the loaded models, since only one of them is coded at
a time; where each had its own, they would fight for the cores. Several workers code as many frames
at a time, each on the worker's thread alone, and with a model of its own. Models without networks
belong to one segment of a stream each.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from edge_codec.base.layer import BaseModel
from edge_codec.bitstream.live import Policy
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Encoder, Resume
from edge_codec.engine import Mapper, Mark
from edge_codec.runtime.band_threads import BandThreads
from edge_codec.runtime.live_coder import FrameCoder, MakeCoder
from edge_codec.runtime.live_options import LIVE_BASE_EFFORT, LiveOptions
from edge_codec.runtime.models import is_shared, load_model
from edge_codec.runtime.pick import default_threads
from edge_codec.runtime.warm_up import WarmTimes, warm_up
from edge_codec.spec import ModelId, StreamSpec

MAX_WARM = 256  # kinds of streams remembered: a server meets new ones for ever


class _OneAtATime:
    """A coder whose model others use too, and which may be warmed up meanwhile."""

    def __init__(self, coder: FrameCoder, lock: threading.Lock) -> None:
        self._coder = coder
        self._lock = lock

    def push(
        self,
        frame: NDArray[Any],
        slice_index: int = 0,
        metadata: bytes = b"",
        *,
        key: bool = False,
        give_up_ns: int | None = None,
    ) -> Packet:
        """See `edge_codec.codec.Encoder.push`."""
        with self._lock:
            return self._coder.push(frame, slice_index, metadata, key=key, give_up_ns=give_up_ns)

    def push_many(
        self,
        frames: Sequence[tuple[int, NDArray[Any]]],
        metadata: Sequence[bytes] = (),
        *,
        keys: Collection[int] = (),
        give_up_ns: int | None = None,
    ) -> list[Packet]:
        """See `edge_codec.codec.Encoder.push_many`."""
        with self._lock:
            return self._coder.push_many(frames, metadata, keys=keys, give_up_ns=give_up_ns)

    def restart(self) -> None:
        """See `edge_codec.codec.Encoder.restart`."""
        with self._lock:
            self._coder.restart()


class CoderFactory:
    """Makes coders for the workers of one pipeline.

    Parameters
    ----------
    workers : int
        How many frames are coded at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._mappers: dict[int, BandThreads] = {}
        self._models: dict[tuple[Any, ...], tuple[BaseModel | None, threading.Lock]] = {}
        self._warm: dict[tuple[Any, ...], WarmTimes] = {}

    def prepare(self, options: LiveOptions) -> MakeCoder:
        """Load what a stream needs, and return what makes its coders.

        Raises
        ------
        EngineError
            If a file of the model is missing or altered, or the backend fails.
        """
        threads = 1
        if self._workers == 1:
            threads = default_threads() if options.threads is None else options.threads
        with self._lock:
            mapper = self._mapper(threads)
            model, lock = self._model(options, threads)

        def make_coder(spec: StreamSpec, mark: Mark, resume: Resume | None = None) -> FrameCoder:
            if not is_shared(options.model):
                own = load_model(options.model, rate=options.rate, effort=LIVE_BASE_EFFORT)
                return Encoder(spec, own, mapper, mark, resume)
            coder = Encoder(spec, model, mapper, mark, resume)
            return coder if model is None else _OneAtATime(coder, lock)

        return make_coder

    def warm_up(self, make_coder: MakeCoder, options: LiveOptions, spec: StreamSpec) -> WarmTimes:
        """Run a coder on frames of the stream's size, if none like it ran before."""
        shape, dtype = spec.info.frame_shape, spec.info.dtype
        key = (replace(options, policy=Policy.NONE, budget_ms=0.0, queue_frames=1), shape, dtype)
        with self._lock:
            known = self._warm.get(key)
        if known is None:
            known = warm_up(make_coder, spec)
            with self._lock:
                if len(self._warm) >= MAX_WARM:
                    self._warm.clear()
                self._warm[key] = known
        return known

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            for mapper in self._mappers.values():
                mapper.close()
            self._mappers.clear()

    def _mapper(self, threads: int) -> Mapper:
        if threads == 1:
            return map
        if threads not in self._mappers:
            self._mappers[threads] = BandThreads(threads)
        return self._mappers[threads]

    def _model(self, options: LiveOptions, threads: int) -> tuple[BaseModel | None, threading.Lock]:
        if not is_shared(options.model):
            load_model(options.model, rate=options.rate)  # what it lacks is found out at once
        if options.model is ModelId.NONE or not is_shared(options.model):
            return None, self._lock
        key = (options.model, options.backend, threads)
        if self._workers == 1 and key in self._models:
            return self._models[key]
        model = load_model(options.model, backend=options.backend, threads=threads)
        self._models[key] = model, threading.Lock()
        return self._models[key]

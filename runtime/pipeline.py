"""The streaming pipeline: frames in as they are acquired, packets out in time, several at once.

    push                  worker                                      sender
    acquire -> [queue] -> normalize, infer, entropy-code, pack -> [queue] -> send

`acquire` runs in the thread of who pushes: it checks the frame and copies it into a buffer of the
stream's pool. The steps of the codec share one thread, a worker's: each needs what the one before
made, and what of them can run side by side does so inside of them, on the threads of bands and
networks; another queue between them would only add hand-overs to every frame's way. Acquiring the
next frames, coding this one and sending those before overlap. Both queues are bounded: where a
sink is slow its packets wait, then the frames, then who pushes.

A frame's deadline is kept by `edge_codec.runtime.deadline`; which stream's frame is next is decided
by `edge_codec.runtime.dispatch`. `docs/streaming.md` says what happens when something fails.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np

from edge_codec.errors import SpecError, StreamError
from edge_codec.runtime.clock import Clock
from edge_codec.runtime.coder_factory import CoderFactory
from edge_codec.runtime.cut_segment import ResumeFrom, find_cut
from edge_codec.runtime.dispatch import Dispatch, Listener
from edge_codec.runtime.live_coder import LiveCoder
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_spec import live_model_data
from edge_codec.runtime.live_stream import LiveStream
from edge_codec.runtime.models import decoding_hashes
from edge_codec.runtime.packet_sink import STREAM_NAME, PacketSink
from edge_codec.spec import CineInfo, StreamSpec

MAX_WORKERS = 256
USUAL_SIDE = 256  # of frames whose size is not known when a stream is opened


class Pipeline:
    """Codes live streams.

    As a context manager it is closed at the end, and what was pushed is sent.

    Parameters
    ----------
    workers : int
        How many frames are coded at a time. One worker codes a frame on several threads; several
        workers each code one on their thread alone, which is more frames and later ones.
    listener : callable, optional
        Is given the `FrameEvent` of every frame, in the pipeline's threads.
    clock : Clock, optional
        Other clocks than the system's.
    factory : CoderFactory, optional
        Another maker of coders, which the pipeline closes.

    Examples
    --------
    >>> import numpy as np
    >>> from edge_codec.runtime.packet_list import PacketList
    >>> packets = PacketList()
    >>> with Pipeline() as pipeline:
    ...     stream = pipeline.open("scanner", LiveOptions(), [packets])
    ...     stream.push(np.arange(20, dtype=np.int16).reshape(4, 5))
    >>> len(packets.sent)
    1
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        listener: Listener | None = None,
        clock: Clock | None = None,
        factory: CoderFactory | None = None,
    ) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise SpecError(f"workers is {workers}; use 1 to {MAX_WORKERS}")
        self._dispatch = Dispatch(clock or Clock(), workers, listener)
        self._factory = factory or CoderFactory(workers)
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._streams: list[LiveStream] = []
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"edge-codec-worker-{i}", daemon=True)
            for i in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    def open(
        self,
        name: str,
        options: LiveOptions,
        sinks: Sequence[PacketSink],
        *,
        spec: StreamSpec | None = None,
        geometry: CineInfo | None = None,
        resume: ResumeFrom | None = None,
    ) -> LiveStream:
        """Open a stream, load its model and warm its coder up.

        Parameters
        ----------
        name : str
            Letters, digits, `.`, `_` and `-`, 1 to 64 of them, the first no `.`; no other open
            stream's.
        options : LiveOptions
            What to do with its frames.
        sinks : sequence of PacketSink
            Where each packet goes.
        spec : StreamSpec, optional
            Fixed description, which goes before what the options say: frames that do not fit are
            refused. Its model data are made anew, as live encoders make them. Without it each
            segment's is derived from its first frame.
        geometry : CineInfo, optional
            Spacing, times, rescaling and source header for derived descriptions. Its size and
            dtype are those that the coder is warmed up for; frames may have others.
        resume : ResumeFrom, optional
            A sink, one of `sinks`, that may hold a segment of this stream which was cut off: where
            the first frame is of its kind, that segment goes on, with key frames.

        Raises
        ------
        SpecError
            If name or options cannot be.
        StreamError
            If the pipeline is closed, or a stream of that name is open.
        EngineError
            If the model cannot be loaded.
        SinkError
            If what is to be gone on with cannot be read.
        """
        if not STREAM_NAME.fullmatch(name):
            raise SpecError(
                f"stream name {name!r}: use 1 to 64 letters, digits, '.', '_', '-', not '.' first"
            )
        if spec is not None and spec.archive:
            raise SpecError(
                "an archive codes late phases of a heart cycle before early ones and cannot be "
                "written live; leave archive False, or compress a file"
            )
        self._check_free(name)  # before a model is loaded in vain
        if spec is not None:
            options = _follow(options, spec)
            spec = replace(spec, model_data=live_model_data(spec.info, options))
        make_coder = self._factory.prepare(options)
        expected = spec or _expected(options, geometry)
        times = self._factory.warm_up(make_coder, options, expected)
        cut = None if resume is None else find_cut(name, spec, resume)
        coder = LiveCoder(name, options, make_coder, self._dispatch.clock, spec, geometry, cut)
        coder.deadline.seed(times.before_ns, times.fast_ns, times.n_voxels)
        return self._begin(name, options, spec, coder, sinks, times.together, resume)

    def _begin(
        self,
        name: str,
        options: LiveOptions,
        spec: StreamSpec | None,
        coder: LiveCoder,
        sinks: Sequence[PacketSink],
        together: int,
        resume: ResumeFrom | None,
    ) -> LiveStream:
        """Make the stream, unless the pipeline was closed or the name taken meanwhile."""
        with self._opening:
            try:
                self._check_free(name)
            except StreamError:
                if resume is not None:
                    resume.abort()  # it keeps a file open for this stream
                raise
            stream = LiveStream(name, options, spec, coder, sinks, self._dispatch, together, resume)
            with self._lock:
                self._streams.append(stream)
        self._dispatch.add(stream)
        return stream

    def depths(self) -> dict[str, int]:
        """Return how many frames of each open stream wait to be coded."""
        return {stream.name: stream.depth for stream in self._open_streams()}

    def close(self, *, drain: bool = True) -> None:
        """Close all streams and end all threads; a second call does nothing.

        Parameters
        ----------
        drain : bool
            Send what was pushed and complete the sinks; see `LiveStream.close`. Interrupted while
            it waits, it goes on without draining.

        Raises
        ------
        StreamError
            If `drain` is set, a stream has failed, and nobody was told yet.
        """
        with self._opening:
            self._closed = True
        try:
            errors = self._end_streams(drain=drain)
        finally:  # also at Ctrl-C: whoever presses it does not want to wait
            self._end()
        if errors:
            raise errors[0]

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except StreamError:
            if kind is None:  # otherwise that error goes up, which is what made the streams end
                raise

    def _end_streams(self, *, drain: bool) -> list[StreamError]:
        """End all of them together, so that one whose sink hangs holds up no other."""
        streams = self._open_streams()
        for stream in streams:
            stream.stop(drain=drain)
        errors = (stream.end(drain=drain) for stream in streams)
        return [error for error in errors if error is not None]

    def _end(self) -> None:
        self._end_streams(drain=False)
        self._dispatch.close()
        for worker in self._workers:
            worker.join()
        self._factory.close()

    def _open_streams(self) -> list[LiveStream]:
        """Return the streams that are not closed, and forget the others."""
        with self._lock:
            self._streams = [stream for stream in self._streams if not stream.closed]
            return self._streams.copy()

    def _check_free(self, name: str) -> None:
        if self._closed:
            raise StreamError("the pipeline is closed; make a new one")
        if any(stream.name == name for stream in self._open_streams()):
            raise StreamError(f"a stream '{name}' is open already; choose another name")

    def _work(self) -> None:
        while (task := self._dispatch.next()) is not None:
            stream, jobs, others = task
            stream.code(jobs, others)


def _follow(options: LiveOptions, spec: StreamSpec) -> LiveOptions:
    """Return options that say what a fixed description says."""
    return replace(
        options,
        model=spec.model,
        max_error=spec.max_error,
        effort=spec.effort,
        key_interval=spec.key_interval,
        n_slices=spec.info.n_slices,
        n_phases=spec.info.n_phases,
    )


def _expected(options: LiveOptions, geometry: CineInfo | None) -> StreamSpec:
    """Describe the stream that will probably come."""
    info = geometry or CineInfo(1, 0, USUAL_SIDE, USUAL_SIDE, np.dtype(np.int16))
    info = replace(info, n_slices=options.n_slices, n_phases=0)
    return StreamSpec(
        info,
        low=0,
        high=1,
        model=options.model,
        model_hashes=decoding_hashes(options.model),
        max_error=options.max_error,
        effort=options.effort,
        model_data=live_model_data(info, options),
    )

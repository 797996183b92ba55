"""The images of a session, grouped into live streams of one kind each."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from edge_codec.bitstream.metadata import pack_metadata
from edge_codec.codec import slice_size
from edge_codec.errors import ProtocolError, StreamError
from edge_codec.io.mrd_frames import ImageFrames
from edge_codec.io.mrd_image import Form, is_whole
from edge_codec.runtime.base_rate import USUAL
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.live_stream import LiveStream
from edge_codec.runtime.mrd.answers import Slot
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.meta import read_xml
from edge_codec.runtime.mrd.protocol import ImageMessage
from edge_codec.runtime.mrd.returns import ImageReturns
from edge_codec.runtime.mrd.side_file import SUFFIX
from edge_codec.runtime.packet_sink import PacketSink
from edge_codec.spec import MAX_SLICES, CineInfo, ModelId

PUSH_TIMEOUT_S = 60.0
MAX_LABEL = 40
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class HeaderFacts(NamedTuple):
    """What of the XML header is used.

    Attributes
    ----------
    measurement : str
        `measurementID`; empty where there is none.
    n_slices : int
        How many slices the encoding limits announce; 0 where they don't.
    """

    measurement: str = ""
    n_slices: int = 0


def read_header(xml: bytes) -> HeaderFacts:
    """Read the XML header; one that is no XML says nothing, as public clients send such."""
    try:
        elements = read_xml(xml)
    except ProtocolError:
        return HeaderFacts()
    measurement, highest = "", -1
    for path, text in elements:
        if path[1:] == ("measurementInformation", "measurementID"):
            measurement = text
        elif path[1:] == ("encoding", "encodingLimits", "slice", "maximum"):
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1
            highest = max(highest, number)
    return HeaderFacts(measurement, highest + 1)


class NameBook:
    """Gives every session of a server a name of its own.

    Parameters
    ----------
    folder : Path or None
        Where streams are stored: names that are there are not given, unless resumed.
    resume : bool
        Whether sessions of the same name are gone on with.
    """

    def __init__(self, folder: Path | None, resume: bool) -> None:
        self._folder = folder
        self._resume = resume
        self._lock = threading.Lock()
        self._used: set[str] = set()
        self._number = 1

    def take(self, wish: str) -> str:
        """Return a name like the wish that no other session has."""
        base = _UNSAFE.sub("_", wish)[:MAX_LABEL].strip("_-") or "session"
        with self._lock:
            name = base
            while not self._is_free(name):
                # Of all names together: many sessions of one name must not search for long.
                self._number += 1
                name = f"{base}-{self._number}"
            self._used.add(name)
        return name

    def give_back(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._used.discard(name)

    def _is_free(self, name: str) -> bool:
        if name in self._used:
            return False
        return self._resume or self._folder is None or not (self._folder / (name + SUFFIX)).exists()


class VoxelBudget:
    """How many voxels all connections of a server may have in work together."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Take some, if so many are left."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._left += count


class OpenStream(Protocol):
    """Opens a live stream: `Pipeline.open`, with the sinks that the server has for all."""

    def __call__(
        self, name: str, options: LiveOptions, sinks: Sequence[PacketSink], geometry: CineInfo
    ) -> LiveStream:
        """Open a stream whose packets go to the server's sinks, then to these."""


class _Key(NamedTuple):
    """Images that share a stream."""

    series: int
    image_type: int
    data_type: int
    matrix: tuple[int, int, int, int]
    form: Form
    exact: bool
    slice_index: int  # -1 where all slices share it


@dataclass(slots=True)
class _Series:
    stream: LiveStream
    returns: ImageReturns
    dictionary: bytes
    slices: set[int]


class SeriesBook:
    """The live streams of one session.

    Parameters
    ----------
    session : str
        Name of the session, with which the names of its streams begin.
    xml : bytes
        Its XML header.
    options : LiveOptions
        How to code.
    open_stream : OpenStream
        Opens streams.
    make_returns : callable
        Makes what answers for a stream.
    limits : Limits
        Of the session.
    budget : VoxelBudget
        Of the server.
    """

    def __init__(
        self,
        session: str,
        xml: bytes,
        options: LiveOptions,
        open_stream: OpenStream,
        make_returns: Callable[[], ImageReturns],
        limits: Limits,
        budget: VoxelBudget,
    ) -> None:
        self._session = session
        self._xml = xml
        self._n_slices = min(read_header(xml).n_slices, MAX_SLICES)
        self._options = options
        self._open_stream = open_stream
        self._make_returns = make_returns
        self._limits = limits
        self._budget = budget
        self._taken = 0
        self._series: dict[_Key, _Series] = {}
        self._numbers: dict[int, int] = {}

    @property
    def dropped(self) -> int:
        """Images that the policy left out."""
        return sum(series.returns.dropped for series in self._series.values())

    def fits(self, frames: ImageFrames) -> bool:
        """Whether an image can be coded at all, whatever else is sent."""
        head = frames.head
        slices = max(self._n_slices, 1)
        return 0 < frames.n_planes * slices <= MAX_SLICES and head.y > 0 and head.x > 0

    def push(self, image: ImageMessage, frames: ImageFrames, slot: Slot, acquired_ns: int) -> None:
        """Code an image, given its frames; its answer fills the slot later.

        Raises
        ------
        ProtocolError
            If the image takes the session beyond its limits.
        EdgeCodecError
            If its stream has failed.
        """
        head = frames.head
        self._check_size(frames)
        shared = head.slice_index < self._n_slices
        series = self._find(frames, shared)
        if head.slice_index not in series.slices:
            self._claim(frames)
            series.slices.add(head.slice_index)
        series.returns.expect(frames.item, slot, image, frames.n_planes)
        first = head.slice_index * frames.n_planes if shared else 0
        for plane, voxels, note in frames.frames():
            series.stream.push(
                voxels,
                first + plane,
                pack_metadata(note, series.dictionary),
                acquired_ns=acquired_ns,
                timeout_s=PUSH_TIMEOUT_S,
            )

    def close(self) -> None:
        """Complete all streams: everything that was pushed is sent.

        Raises
        ------
        EdgeCodecError
            The first that a stream failed with; the others are completed all the same.
        """
        errors = []
        for series in self._series.values():
            try:
                series.stream.close()
            except StreamError as error:
                errors.append(error)
            series.returns.finish()
        self._budget.give_back(self._taken)
        self._taken = 0
        if errors:
            raise errors[0]

    def _find(self, frames: ImageFrames, shared: bool) -> _Series:
        head = frames.head
        key = _Key(
            head.series,
            head.image_type,
            head.data_type,
            head.matrix,
            frames.form,
            self._needs_exact(frames),
            -1 if shared else head.slice_index,
        )
        if key not in self._series:
            if len(self._series) >= self._limits.max_streams:
                raise ProtocolError(
                    f"images of more than {self._limits.max_streams} kinds (series, type, matrix, "
                    "slice) in one session; send them in several"
                )
            self._claim(frames)  # before it is opened: warming up takes as much
            series = self._open(key, frames, self._n_slices if shared else 1)
            series.slices.add(head.slice_index)
            self._series[key] = series
        return self._series[key]

    def _open(self, key: _Key, frames: ImageFrames, n_slices: int) -> _Series:
        options = replace(self._options, n_slices=n_slices * frames.n_planes)
        if key.exact:
            options = replace(options, model=ModelId.NONE, max_error=0, rate=USUAL)
        dictionary = frames.dictionary(self._xml)
        returns = self._make_returns()
        number = self._numbers[key.series] = self._numbers.get(key.series, 0) + 1
        name = f"{self._session}-s{key.series}" + (f".{number}" if number > 1 else "")
        stream = self._open_stream(name, options, [returns], frames.geometry(n_slices, dictionary))
        return _Series(stream, returns, dictionary, set())

    def _needs_exact(self, frames: ImageFrames) -> bool:
        """Whether an image can only be coded lossless, where the options are not."""
        options = self._options
        if options.max_error == 0 and options.model is ModelId.NONE:
            return False
        return frames.form is Form.WORDS or not is_whole(frames.head.data_type, frames.image.voxels)

    def _check_size(self, frames: ImageFrames) -> None:
        limits, head = self._limits, frames.head
        if head.x * head.y > limits.max_frame_voxels or frames.n_planes > limits.max_frames:
            raise ProtocolError(
                f"an image of {frames.n_planes} planes of {head.y}x{head.x} voxels; the limits are "
                f"{limits.max_frames} and {limits.max_frame_voxels}"
            )

    def _claim(self, frames: ImageFrames) -> None:
        """Take the room that the encoder needs for a slice that is new to it."""
        head = frames.head
        size = frames.n_planes * slice_size(self._options.model, head.y, head.x)
        if self._taken + size > self._limits.max_open_voxels or not self._budget.take(size):
            raise ProtocolError(
                f"{self._taken + size} voxels of all slices in work exceed the limit of "
                f"{self._limits.max_open_voxels} for a session, or what this server has left; send "
                "fewer slices in one session"
            )
        self._taken += size

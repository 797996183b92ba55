"""The streams that a viewer offers: one file, or those of a folder, which may be growing.

A stream is asked for by its number in this list. No name that comes from outside is ever made a
path.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_codec.errors import FrameError, SourceError
from edge_codec.runtime.shared import band_mapper
from edge_codec.runtime.viewer.facts import facts_of
from edge_codec.runtime.viewer.frame_store import FrameStore, Layer, Progress
from edge_codec.runtime.viewer.original import Original
from edge_codec.runtime.viewer.packed_frame import pack_frame
from edge_codec.runtime.viewer.packet_index import FIELDS, PacketIndex

MAX_STREAMS = 1000
MAX_OPEN = 4
MAX_ROWS = 4096  # of one answer
CACHE_BYTES = 96 << 20  # of each open stream
RESCAN_S = 1.0


@dataclass(slots=True)
class OpenStream:
    """A stream that is being looked at."""

    index: PacketIndex
    frames: FrameStore


class Library:
    """What there is to see, and the streams that are open.

    Parameters
    ----------
    path : Path
        A stream, or a folder of streams and of folders of streams.
    original : Path, optional
        What the stream was made of.
    backend : str
        Of the model's network, as for decompression.

    Raises
    ------
    SourceError
        If there is no such file or folder, or the original does not belong to it.
    """

    def __init__(self, path: Path, original: Path | None = None, backend: str = "auto") -> None:
        if not path.exists():
            raise SourceError(f"{path} does not exist; give a stream (.ecd) or a folder of streams")
        if path.is_dir() and original is not None:
            raise SourceError("--original belongs to one stream; give the .ecd file, not a folder")
        self._path = path
        self._backend = backend
        self._mapper = band_mapper()
        self._lock = threading.Lock()
        self._files: list[Path] = [] if path.is_dir() else [path]
        self._known: set[Path] = set()
        self._scanned_s = -RESCAN_S
        self._closed = False
        self._open: OrderedDict[int, OpenStream] = OrderedDict()
        self._original = None if original is None else Original(original)
        if self._original is not None:
            try:
                self._original.check(self._stream(0).index.spec)
            except BaseException:
                self.close()
                raise

    def names(self) -> list[str]:
        """Return the name of each stream; its place is its number, for as long as this lives."""
        with self._lock:
            if self._path.is_dir() and time.monotonic() - self._scanned_s >= RESCAN_S:
                self._scan()
                self._scanned_s = time.monotonic()
            root = self._path if self._path.is_dir() else self._path.parent
            return [path.relative_to(root).as_posix() for path in self._files]

    def state(self, number: int, since: int) -> dict[str, Any]:
        """Return what is known of a stream, and its frames from number `since` on.

        Raises
        ------
        FrameError
            If there is no such stream.
        SourceError, BitstreamError
            If it cannot be read.
        """
        index = self._stream(number).index
        index.poll()
        rows = index.rows(since, MAX_ROWS)
        return {
            "facts": facts_of(index.spec),
            "compared": self._original is not None,
            "fields": FIELDS,
            "rows": rows,
            "next": since + len(rows),
            "frames": len(index),
            "file_bytes": index.file_bytes,
            "complete": index.complete,
            "tail_bytes": index.tail_bytes,
            "damage": list(index.damage),
        }

    def frame(self, number: int, slice_index: int, phase_index: int, what: str) -> bytes | Progress:
        """Return a frame as `pack_frame` makes it, or how far it is: ask again.

        Parameters
        ----------
        number, slice_index, phase_index : int
            Which stream, and which of its frames.
        what : {'whole', 'base', 'original'}
            What to show of it.

        Raises
        ------
        EdgeCodecError
            If there is none, or it cannot be decoded.
        """
        stream = self._stream(number)
        if what == "original":
            if self._original is None:
                raise FrameError("there is no original; start the viewer with --original FILE")
            return pack_frame(self._original.frame(slice_index, phase_index))
        if what not in {layer.value for layer in Layer}:
            raise FrameError(f"unknown layer {what!r}; use whole, base or original")
        return stream.frames.frame(slice_index, phase_index, Layer(what))

    def close(self) -> None:
        """Close all files; nothing is shown any more."""
        with self._lock:
            self._closed = True
            while self._open:
                self._open.popitem()[1].index.close()

    def _stream(self, number: int) -> OpenStream:
        with self._lock:
            if self._closed:
                raise FrameError("the viewer has ended")
            if not 0 <= number < len(self._files):
                raise FrameError(f"there is no stream {number}; there are {len(self._files)}")
            if number not in self._open:
                index = PacketIndex(self._files[number])
                frames = FrameStore(index, self._backend, CACHE_BYTES, self._mapper)
                self._open[number] = OpenStream(index, frames)
            self._open.move_to_end(number)
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)[1].index.close()
            return self._open[number]

    def _scan(self) -> None:
        """Append streams that have come since; those that are known keep their numbers."""
        for path in sorted(_streams_in(self._path)):
            if path not in self._known and len(self._files) < MAX_STREAMS:
                self._known.add(path)
                self._files.append(path)


def _streams_in(folder: Path) -> list[Path]:
    places = [folder, *(path for path in _entries(folder) if path.is_dir())]
    found = (path for place in places[:MAX_STREAMS] for path in _entries(place))
    return [path for path in found if path.suffix == ".ecd" and path.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # it went away, or is not ours to read: nothing to see there
        return []

"""Live streams in files: a folder for each stream, a file for each segment.

A file grows packet by packet and is readable while it does; index and footer make it complete.
After a crash it lacks them, and at most the packet that was being written: `FileSink` goes on with
it where it is asked to. Nothing that is there is ever overwritten.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from io import FileIO
from pathlib import Path

from edge_codec.bitstream.container import StreamWriter, WholePart, find_whole_part
from edge_codec.bitstream.header import read_header
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Resume
from edge_codec.errors import BitstreamError, FrameError, SinkError
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_folder import force_folder, segment_files, stream_folder
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.spec import StreamSpec

__all__ = ["FileSink", "SyncPolicy", "stream_folder"]

_log = logging.getLogger(__name__)

_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW  # a link that someone put there is not followed


class FileSink:
    """Appends the packets of one live stream to `<folder>/<stream>/<number:04d>.ecd`.

    Parameters
    ----------
    folder : Path
        Where the streams are; must exist.
    sync : SyncPolicy
        When packets are forced onto the disk.
    resume : bool
        Whether a stream of this name may be there already: then its last file is gone on with
        where that is possible (see `resume_point`), and otherwise the next number begins.

    Notes
    -----
    A packet that could not be written whole is cut off again, so that the file stays whole; after
    a full disk has been given room, the same packet may be sent again.
    """

    def __init__(
        self, folder: Path, *, sync: SyncPolicy = SyncPolicy.NONE, resume: bool = False
    ) -> None:
        self._folder = folder
        self._sync = sync
        self._resume = resume
        self._begun = False  # whether this sink has begun any segment
        self._found: tuple[Segment, FileIO, WholePart] | None = None  # to be gone on with
        self._file: FileIO | None = None
        self._writer: StreamWriter | None = None
        self._path = folder
        self._unsynced = 0
        self._synced_at = 0.0

    @property
    def path(self) -> Path:
        """The file of the segment, or of the last one."""
        return self._path

    def last_spec(self, stream: str) -> StreamSpec | None:
        """Return the description that a stream's last file has: the one to go on with.

        Returns
        -------
        StreamSpec or None
            None where there is no such file with a whole header, or `resume` is not set.

        Raises
        ------
        SinkError
            If the file cannot be read.
        """
        path = self._last_file(stream) if self._resume else None
        if path is None:
            return None
        try:
            with FileIO(path) as file:
                return read_header(file)[0]
        except BitstreamError:
            return None
        except OSError as error:
            raise _failed(path, error) from error

    def resume_point(self, segment: Segment) -> Resume | None:
        """Say where the encoder of this sink's first segment goes on, before `begin`.

        Returns
        -------
        Resume or None
            For the `Encoder`; None where a new file begins: the stream is not there yet, its last
            file has another description, all its frames, or damage, or `resume` is not set.

        Raises
        ------
        SinkError
            If the last file cannot be read, or another process is writing it.
        """
        self._forget()
        if not self._resume or self._begun:
            return None
        path = self._last_file(segment.stream)
        if path is None:
            return None
        self._path = path
        try:
            file = _open(path, os.O_RDWR)
        except OSError as error:
            raise _failed(path, error) from error
        part = self._examine(file)
        if part is None or part.spec != segment.spec or part.full:
            file.close()
            return None
        self._found = segment, file, part
        return Resume(part.sequence, part.next_phases)

    def begin(self, segment: Segment) -> None:
        """Make the file of a segment, or go on with the one that `resume_point` found.

        Raises
        ------
        SinkError
            If the stream is there already, or the file cannot be made.
        """
        if self._writer is not None:
            raise SinkError(f"{self._path} is still open; end it before the next segment begins")
        folder = stream_folder(self._folder, segment.stream)
        try:
            if self._found is not None and self._found[0] == segment:
                _, file, part = self._found
                self._found = None
                self._go_on(file, part)
            else:
                self._forget()
                self._make(folder, segment)
        except OSError as error:
            self.abort()
            raise _failed(self._path, error) from error
        except BaseException:
            self.abort()
            raise
        self._begun = True

    def send(self, packet: Packet, data: bytes) -> None:
        """Append a packet; it is on the disk on return where the policy says so.

        Raises
        ------
        SinkError
            If it cannot be written whole. The packets before it are safe.
        FrameError
            If it is not the next packet of the stream.
        """
        file, writer = self._opened()
        if os.fstat(file.fileno()).st_nlink == 0:
            raise SinkError(
                f"{self._path} was removed while it was written, and its frames with it; begin "
                "another stream in a folder that nobody clears"
            )
        try:
            writer.write(packet, data)
        except OSError as error:
            self._cut_back()
            raise _failed(self._path, error) from error
        self._unsynced += 1
        if self._sync.due(self._unsynced, time.monotonic() - self._synced_at):
            try:
                self._force()
            except OSError as error:  # what is on the disk is not known any more
                self.abort()
                raise _failed(self._path, error) from error

    def end(self) -> None:
        """Complete the file with its index and footer, and close it.

        Raises
        ------
        SinkError
            If that cannot be written, or the header promises more frames than came. The packets are
            safe, and the file can be gone on with.
        """
        _, writer = self._opened()
        try:
            writer.close()
            if self._sync.ever:
                self._force()
        except OSError as error:
            self._cut_back()
            self.abort()
            raise _failed(self._path, error) from error
        except FrameError as error:
            self.abort()
            raise SinkError(f"{self._path} is left without its index: {error}") from error
        self.abort()

    def abort(self) -> None:
        """Close the file as it is, without index and footer; never raises."""
        self._forget()
        file, self._file, self._writer = self._file, None, None
        if file is None:
            return
        try:
            if self._sync.ever and self._unsynced:
                os.fsync(file.fileno())
        except OSError as error:
            _log.warning("%s may lack its last packets on the disk: %s", self._path, error)
        _close(file)

    def _last_file(self, stream: str) -> Path | None:
        folder = stream_folder(self._folder, stream)
        if folder.is_symlink() or not folder.is_dir():
            return None
        try:
            files = segment_files(folder)
        except OSError as error:
            raise _failed(folder, error) from error
        return files[-1][1] if files else None

    def _opened(self) -> tuple[FileIO, StreamWriter]:
        if self._file is None or self._writer is None:
            raise SinkError("no segment has begun; begin one before packets are sent")
        return self._file, self._writer

    def _examine(self, file: FileIO) -> WholePart | None:
        """Find the whole part of the last file; None, with a line in the log, if it has none."""
        try:
            part = find_whole_part(file)
        except BitstreamError as error:
            _log.warning("%s is kept as it is, and the next file begins: %s", self._path, error)
            return None
        if part is None:
            _log.warning("%s was cut within its header and holds nothing", self._path)
        elif part.given_up:
            _log.info("%s goes on at byte %d", self._path, part.end)
        return part

    def _go_on(self, file: FileIO, part: WholePart) -> None:
        self._file = file
        self._writer = StreamWriter.resume(file, part)
        self._force()

    def _make(self, folder: Path, segment: Segment) -> None:
        """Make the next file, and the stream's folder for the first one."""
        self._path = folder
        try:
            folder.mkdir()
            made = True
        except FileExistsError:
            made = False
            if not (self._resume or self._begun) or folder.is_symlink():
                raise SinkError(
                    f"{folder} is there already and is not overwritten; choose another name for "
                    "the stream, or resume it"
                ) from None
        files = segment_files(folder)
        self._path = folder / f"{files[-1][0] + 1 if files else 0:04d}.ecd"
        self._file = _open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self._writer = StreamWriter(self._file, segment.spec)
            if self._sync.ever:
                self._force()
                force_folder(folder)
                force_folder(self._folder)
        except BaseException:
            self._path.unlink(missing_ok=True)  # it holds nothing
            if made:
                folder.rmdir()
            raise
        self._synced_at = time.monotonic()

    def _force(self) -> None:
        file, _ = self._opened()
        os.fsync(file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _cut_back(self) -> None:
        """Remove what was written of a packet, so that the file ends with a whole one."""
        file, writer = self._opened()
        try:
            file.truncate(writer.offset)
            file.seek(writer.offset)
        except OSError as error:
            _log.warning("%s ends with a part of a packet: %s", self._path, error)
            self._file, self._writer = None, None  # nothing can be appended to that
            _close(file)

    def _forget(self) -> None:
        if self._found is not None:
            _close(self._found[1])
            self._found = None


def _open(path: Path, flags: int) -> FileIO:
    """Open a file for this process alone, unbuffered, so that a write is a write."""
    file = FileIO(path, "rb+", opener=lambda name, _: os.open(name, flags | _SAFE, 0o666))
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise SinkError(
                f"another process is writing {path}; stop it or choose another stream"
            ) from error
        raise
    return file


def _close(file: FileIO) -> None:
    try:
        file.close()
    except OSError as error:  # a network's file system may tell here; nothing is left to do
        _log.warning("%s could not be closed: %s", file.name, error)


def _failed(path: Path, error: OSError) -> SinkError:
    return SinkError(
        f"{path} cannot be written: {error.strerror or error}; what was forced onto the disk is "
        "safe. Make room or choose another folder, then resume the stream"
    )

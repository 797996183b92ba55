"""What of a session is not images: an append-only file beside its streams, itself an MRD stream.

The file `<session>.mrd` holds the config message (without its token), the XML header, and every
waveform, acquisition, text and uncodable image in the order in which they came, byte for byte as
messages of the protocol, and a close message at the end. Any reader of MRD streams reads it. Where
the images go in between tell their notes (`item`): the numbers that they leave free are the
messages of this file after its XML header, in order.

A session that is gone on with begins a file of its own, `<session>.2.mrd`, and so on: what is there
may end with a close message or in the middle of one, after which no reader would find more.
"""

from __future__ import annotations

import contextlib
import os
import time
from io import FileIO
from pathlib import Path

from edge_codec.errors import SinkError
from edge_codec.runtime.mrd.protocol import AnyMessage, Message, MessageId, pack_message
from edge_codec.runtime.sync_policy import SyncPolicy

SUFFIX = ".mrd"


class SideFile:
    """Appends messages to the file of one session.

    Parameters
    ----------
    path : Path
        The file.
    sync : SyncPolicy
        When messages are forced onto the disk.
    resume : bool
        Whether the file may be there already; then one with the next free number is made beside it.

    Attributes
    ----------
    number : int
        Of the file: 1, or more where the session was there already.

    Raises
    ------
    SinkError
        If the file is there already, or cannot be written.
    """

    def __init__(self, path: Path, sync: SyncPolicy, resume: bool) -> None:
        self._path = path
        self._sync = sync
        self.number = 1
        try:
            self._file = self._create(resume)
        except OSError as error:
            raise self._failed(error) from error
        self._whole = 0
        self._unsynced, self._synced_at = 0, time.monotonic()

    def append(self, message: AnyMessage) -> None:
        """Append a message; what cannot be written whole is cut off again.

        Raises
        ------
        SinkError
            If it cannot be written.
        """
        view = memoryview(pack_message(message))
        size = len(view)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
            self._whole += size
            self._unsynced += 1
            if self._sync.due(self._unsynced, time.monotonic() - self._synced_at):
                self._force()
        except OSError as error:
            self._cut()
            raise self._failed(error) from error

    def close(self, *, whole: bool) -> None:
        """Close the file, with a close message where the session came to its end.

        Raises
        ------
        SinkError
            If it cannot be written.
        """
        if self._file.closed:
            return
        try:
            if whole:
                self.append(Message(MessageId.CLOSE))
            if self._sync.ever:
                self._force()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._file.close()

    def _create(self, resume: bool) -> FileIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        stem = self._path.stem
        while True:
            try:
                # "a" alone would not tell apart a new file from an old one.
                return FileIO(os.open(self._path, flags, 0o666), "a")
            except FileExistsError:
                if not resume:
                    raise
            self.number += 1
            # No name of a session has a dot: no other session's file is called like this.
            self._path = self._path.with_name(f"{stem}.{self.number}{SUFFIX}")

    def _force(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):  # the error that led here is the one to report
            self._file.truncate(self._whole)

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(
            f"{self._path} cannot be written: {error.strerror or error}; what was written before "
            "is safe"
        )

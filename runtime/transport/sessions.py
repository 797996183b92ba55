"""The streams that a receiver stores, each behind one sender at a time.

A sender whose connection broke comes back with the same session and goes on. Its stream stays open
meanwhile, so that it goes on in the same file; an old connection that is still there is ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_codec.errors import StreamError
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.runtime.transport.store_account import Listener
from edge_codec.runtime.transport.stream_store import StreamStore

TAKE_OVER_S = 5.0
MAX_OPEN = 64  # streams whose senders are away; each may hold some ten files open


@dataclass(slots=True)
class _Held:
    store: StreamStore
    interrupt: Callable[[], None] | None = None  # of the connection that holds it
    left_s: float = field(default_factory=time.monotonic)


class Sessions:
    """Opens, keeps and closes the stores of a receiver's streams.

    Parameters
    ----------
    folder : Path
        Where the streams are; must exist.
    sync : SyncPolicy
        When packets are forced onto the disk.
    listener : callable or None
        Gets an event for each packet.
    """

    def __init__(self, folder: Path, sync: SyncPolicy, listener: Listener | None) -> None:
        self._folder = folder
        self._listener = listener
        self._sync = sync
        self._changed = threading.Condition()
        self._held: dict[tuple[str, bytes], _Held] = {}

    def take(self, name: str, session: bytes, interrupt: Callable[[], None]) -> StreamStore:
        """Take a session's stream for a connection; whichever holds it is interrupted.

        Raises
        ------
        SinkError
            If the stream's folder cannot be made.
        StreamError
            If the old connection does not let go.
        """
        with self._changed:
            deadline_s = time.monotonic() + TAKE_OVER_S
            while (held := self._held_or_new(name, session)).interrupt is not None:
                held.interrupt()
                if not self._changed.wait(deadline_s - time.monotonic()):
                    raise StreamError(f"stream {name} is still held by an older connection")
            held.interrupt = interrupt
            return held.store

    def release(self, name: str, session: bytes) -> None:
        """Let go of a stream; it stays open for its sender to come back."""
        with self._changed:
            held = self._held[name, session]
            held.interrupt, held.left_s = None, time.monotonic()
            if held.store.position.ended:
                del self._held[name, session]
                held.store.close("complete")
            self._changed.notify_all()

    def discard(self, name: str, session: bytes, why: str) -> None:
        """Let go of a stream and close its files."""
        with self._changed:
            held = self._held.pop((name, session))
            held.interrupt = None
            held.store.close(why)
            self._changed.notify_all()

    def close_idle(self, longest_s: float) -> None:
        """Close the streams whose senders have been away for so long."""
        with self._changed:
            now_s = time.monotonic()
            for key, held in list(self._held.items()):
                if held.interrupt is None and now_s - held.left_s >= longest_s:
                    del self._held[key]
                    held.store.close("the sender is gone")

    def names(self) -> list[str]:
        """Names of the streams that are open."""
        with self._changed:
            return [held.store.name for held in self._held.values()]

    def _held_or_new(self, name: str, session: bytes) -> _Held:
        held = self._held.get((name, session))
        if held is None:
            self._make_room()
            held = _Held(StreamStore(self._folder, name, session, self._sync, self._listener))
            self._held[name, session] = held
        return held

    def _make_room(self) -> None:
        away = [(held.left_s, key) for key, held in self._held.items() if held.interrupt is None]
        if len(away) >= MAX_OPEN:
            self._held.pop(min(away)[1]).store.close("the sender is gone")

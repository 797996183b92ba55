"""The frames of one live stream that wait to be coded, and what must be told of them to the coder.

The stream's pool of buffers belongs to it. Everything here happens under the pipeline's lock, but
`copy`, which takes as long as a frame is large.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.frame_pool import FrameBuffer, FramePool
from edge_codec.runtime.live_coder import Job
from edge_codec.runtime.live_frame import LiveFrame


class FrameQueue:
    """A bounded queue with room that can be reserved.

    Parameters
    ----------
    limit : int
        How many frames may wait, those that are being copied included.
    together : int
        How many frames of different slices are coded together where so many wait.
    """

    def __init__(self, limit: int, together: int = 1) -> None:
        self._limit = limit
        self._together = together
        # Those that wait, and those that are being coded.
        self.pool = FramePool(limit + together)
        self.copying = 0
        self._jobs: deque[Job] = deque()
        self._pushed: Counter[int] = Counter()
        self._dropped: Counter[int] = Counter()
        self._keys: set[int] = set()
        self._jumped = False  # the wall clock, before a frame that was dropped

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    @property
    def full(self) -> bool:
        """Whether no room is left."""
        return len(self._jobs) + self.copying >= self._limit

    def pushed(self, slice_index: int) -> int:
        """Return how many frames of a slice were put and not dropped: the phase of its next."""
        return self._pushed[slice_index]

    def ask_keys(self, slices: Iterable[int]) -> None:
        """Make the next frame of each of these slices a key frame."""
        self._keys.update(slices)

    def reserve(self) -> None:
        """Keep room for a frame that is being copied."""
        self.copying += 1

    def copy(self, frame: LiveFrame) -> tuple[LiveFrame, FrameBuffer]:
        """Copy a frame that room is kept for into a buffer; without the lock."""
        samples = frame.samples
        buffer = self.pool.take(samples.nbytes)
        try:
            shape = (samples.shape[0], samples.shape[1])
            view = buffer.view(shape, samples.dtype.newbyteorder("="))
            np.copyto(view, samples)
            return replace(frame, samples=view), buffer
        except BaseException:
            self.pool.give_back(buffer)
            raise

    def put(self, job: Job) -> None:
        """Use the room that was kept."""
        self.copying -= 1
        self._pushed[job.event.slice_index] += 1
        self._jobs.append(job)

    def give_up_room(self) -> None:
        """Give up the room that was kept for a frame that was not copied."""
        self.copying -= 1

    def discard(self, job: Job) -> None:
        """Give up the room that was kept, and the copy in it."""
        self.copying -= 1
        self.pool.give_back(job.buffer)

    def take(self) -> list[Job]:
        """Return the oldest frame or frames, and with them what must be told of them."""
        oldest = list(islice(self._jobs, self._together))
        different = len({job.event.slice_index for job in oldest}) == self._together
        return [self._take() for _ in range(self._together if different else 1)]

    def _take(self) -> Job:
        job = self._jobs.popleft()
        slice_index = job.event.slice_index
        job.dropped = self._dropped.pop(slice_index, 0)
        job.key = slice_index in self._keys
        self._keys.discard(slice_index)
        job.clock_jumped |= self._jumped
        self._jumped = False
        return job

    def drop_oldest(self) -> FrameEvent:
        """Leave out the oldest frame; the next of its slice tells of it."""
        job = self._jobs.popleft()
        self.pool.give_back(job.buffer)
        self._pushed[job.event.slice_index] -= 1
        self._dropped[job.event.slice_index] += 1
        self._jumped |= job.clock_jumped
        return job.event

    def clear(self) -> list[FrameEvent]:
        """Leave out all of them."""
        return [self.drop_oldest() for _ in range(len(self._jobs))]

"""When a frame must be done, and when its coder must stop trying for more than the least.

The ladder of a stream has the rungs `effort of the stream -> FAST`: both code the same voxels, FAST
in less time and more bytes. The coder begins on the upper rung and is told an instant at which it
gives up: what is not finished by then is coded anew as FAST. That instant leaves as much time
before the deadline as FAST, packing and sending need on this machine at present:

    give up = acquired + budget - (FAST + what comes after it)

Both are the largest of recent times, with a margin: a frame that falls back needs luck otherwise,
and what caution costs is some frames coded as FAST, a few percent larger each. FAST is
measured at the start, when coders are warmed up, and wherever a frame falls back. A frame that
waited until only FAST fits finds that instant over and is coded as FAST at once. Trying in vain
costs time that other frames may want, but a single hiccup says nothing of the next frame: after the
second vain attempt in a row one frame is coded as FAST at once, after the third 3, then 7, ...
Where frames of other streams wait for the same worker, the instant is early enough for all of them
to be coded as FAST by their deadlines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from edge_codec.bitstream.live import Policy
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.spec import Effort

RECENT = 64  # frames that an estimate looks back: about a second
MARGIN = 9 / 8
SLACK_NS = 200_000  # coders look at the clock every few rows; threads must wake up
MOST_SKIPPED = 31  # frames in a row that do not try the upper rung


class RecentMaximum:
    """The largest of the last durations.

    Parameters
    ----------
    initial_ns : int
        The answer before any duration is known.
    """

    def __init__(self, initial_ns: int) -> None:
        self._recent: deque[int] = deque(maxlen=RECENT)
        self.value_ns = initial_ns

    def add(self, duration_ns: int) -> None:
        """Take another duration into account."""
        self._recent.append(max(0, duration_ns))
        self.value_ns = max(self._recent)

    def scale(self, factor: float) -> None:
        """Expect durations that are as many times as long, until some are known."""
        self._recent.clear()
        self.value_ns = round(factor * self.value_ns)


@dataclass(frozen=True, slots=True)
class Due:
    """A frame that waits.

    Attributes
    ----------
    deadline_ns : int
        When its last sink must have taken it.
    least_ns : int
        How long it keeps a worker busy when it is coded as FAST.
    after_ns : int
        How long it takes from there to its last sink.
    """

    deadline_ns: int
    least_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class CodedTimes:
    """How a frame was coded.

    Attributes
    ----------
    before_ns : int
        From when the worker took the frame until its residual layer began.
    code_ns : int
        Coding the residual layer.
    give_up_ns : int or None
        The instant at which it was to give up, 0 for at once.
    end_ns : int
        When the residual layer was coded.
    fast_bands, bands : int
        Parts of the residual layer coded as FAST instead, and all of them.
    """

    before_ns: int
    code_ns: int
    give_up_ns: int | None
    end_ns: int
    fast_bands: int
    bands: int


class Deadline:
    """Deadlines of one stream's frames.

    Parameters
    ----------
    options : LiveOptions
        Budget, policy and effort.
    """

    def __init__(self, options: LiveOptions) -> None:
        self.budget_ns = options.budget_ns
        tries = options.policy is not Policy.NONE and self.budget_ns > 0
        can_fall = options.max_error is not None and options.effort is not Effort.FAST
        self._adapts = tries and can_fall
        guess = self.budget_ns // 16
        self._before = RecentMaximum(guess)  # normalize and infer
        self._fast = RecentMaximum(guess)  # coding the residual layer as FAST
        self._after = RecentMaximum(guess)  # pack, hand over and send
        self._skip = 0  # frames that are not to try the upper rung
        self._next_skip = 0  # as many after the next vain attempt
        self._n_voxels = 0

    def seed(self, before_ns: int, fast_ns: int, n_voxels: int) -> None:
        """Start with times that were measured on frames of `n_voxels` before the first one."""
        self._n_voxels = n_voxels
        self._before = RecentMaximum(before_ns)
        self._fast = RecentMaximum(fast_ns)

    def resize(self, n_voxels: int) -> None:
        """Expect frames of another size."""
        if self._n_voxels not in (0, n_voxels):
            factor = n_voxels / self._n_voxels
            self._before.scale(factor)
            self._fast.scale(factor)
            self._skip = self._next_skip = 0
        self._n_voxels = n_voxels

    def due(self, acquired_ns: int) -> Due | None:
        """Return what a waiting frame needs; None where there is no deadline."""
        if not self.budget_ns:
            return None
        least_ns = self._before.value_ns + self._fast.value_ns
        return Due(acquired_ns + self.budget_ns, least_ns, self._after.value_ns)

    def give_up_ns(self, acquired_ns: int, now_ns: int, others: Iterable[Due] = ()) -> int | None:
        """Return the instant at which the coder must fall back to FAST.

        Parameters
        ----------
        acquired_ns, now_ns : int
            When the frame was acquired, and the present.
        others : iterable of Due
            Frames that wait for the same worker.

        Returns
        -------
        int or None
            Instant of the monotonic clock, 0 for at once; None where nothing adapts.
        """
        if not self._adapts:
            return None
        latest = acquired_ns + self.budget_ns - round(MARGIN * self._after.value_ns) - SLACK_NS
        spent = 0
        for other in sorted(others, key=lambda due: due.deadline_ns):
            spent += other.least_ns
            latest = min(latest, other.deadline_ns - other.after_ns - spent)
        give_up_ns = latest - round(MARGIN * self._fast.value_ns)
        if self._skip:
            self._skip -= 1
            return 0
        return give_up_ns if give_up_ns > now_ns else 0

    def learn_coding(self, times: CodedTimes) -> None:
        """Take the times of a coded frame into account."""
        self._before.add(times.before_ns)
        if not times.fast_bands:
            self._next_skip = 0
        elif times.give_up_ns is not None:
            fast_ns = min(times.code_ns, times.end_ns - times.give_up_ns)
            if times.fast_bands == times.bands:
                self._fast.add(fast_ns)
                # Frames that were coded together have one instant: for most of them it was over.
                if times.give_up_ns > times.end_ns - times.code_ns:
                    self._skip = self._next_skip
                    self._next_skip = min(2 * self._next_skip + 1, MOST_SKIPPED)
            elif fast_ns > self._fast.value_ns:  # all of them would have taken longer still
                self._fast.add(fast_ns)

    def learn_sending(self, after_ns: int) -> None:
        """Take into account how long a frame took from its coder's end to its last sink."""
        self._after.add(after_ns)

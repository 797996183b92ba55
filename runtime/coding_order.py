"""Between the order of a file's frames and the order in which their slices are coded.

A file has all slices of phase 0, then of phase 1, and so on. They are coded so, too (and written
group by group where base layers have a price, see `base_choice`), but an archive codes the phases
of a group as a hierarchy: 0, 8, 4, 2, 1, 3, 6, 5, 7, 16, ... of 32. Whoever writes one keeps frames
until their turn comes, up to seven of each slice, or the group where its key frame is filtered with
others; whoever reads one decodes ahead as far as a frame demands, and keeps what comes too early,
about a frame for each halving of eight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.io import SourceFrame
from edge_codec.spec import StreamSpec

T = TypeVar("T")
FrameT = TypeVar("FrameT", bound=SourceFrame)


@dataclass(frozen=True, slots=True, eq=False)
class FrameAhead(SourceFrame):
    """A frame and what its encoder may know of those that follow.

    Attributes
    ----------
    ahead : tuple of ndarray
        Samples of other phases of its slice, the nearest first; of key frames only.
    """

    ahead: tuple[NDArray[Any], ...] = ()


def looking_ahead(
    frames: Iterable[SourceFrame], spec: StreamSpec, n_phases: int
) -> Iterator[FrameAhead]:
    """Yield a source's frames in their order, key frames with other phases of their group.

    At low delay those are the next ones. In an archive the last phase of a group is as near to its
    key frame as the next one is: a cycle closes there.

    Where a key frame waits, `n_phases` frames of each slice are kept, and no more; in an archive
    the whole group is.

    Parameters
    ----------
    frames : iterable of SourceFrame
        In rising order of phases, all slices of each.
    spec : StreamSpec
        The stream.
    n_phases : int
        How many others; fewer where a slice or a group has no more. A frame that is not predicted
        from the key frame would make it less like itself in vain.

    Yields
    ------
    FrameAhead
        Each frame.
    """
    source, waiting = iter(frames), deque[SourceFrame]()
    n_phases = min(n_phases, spec.key_interval - 1)
    n_kept = spec.key_interval - 1 if spec.archive and n_phases else n_phases
    most = 1 + n_kept * spec.info.n_slices
    while True:
        if not waiting:
            waiting.extend(islice(source, 1))
        if not waiting:
            return
        is_key = waiting[0].phase_index % spec.key_interval == 0
        if is_key:
            waiting.extend(islice(source, most - len(waiting)))
        frame = waiting.popleft()
        ahead: tuple[NDArray[Any], ...] = ()
        if is_key:
            of_slice = [f.samples for f in waiting if f.slice_index == frame.slice_index]
            ahead = tuple((_around(of_slice) if spec.archive else of_slice)[:n_phases])
        yield FrameAhead(frame.slice_index, frame.phase_index, frame.samples, frame.metadata, ahead)


def _around(later: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the phases that follow in a cycle as first, last, second, last but one, and so on."""
    pairs = zip(later, reversed(later), strict=True)
    return [frame for pair in pairs for frame in pair][: len(later)]


def in_coding_order(frames: Iterable[FrameT], spec: StreamSpec) -> Iterator[FrameT]:
    """Yield a source's frames in the order in which an `Encoder` of the stream takes them.

    Parameters
    ----------
    frames : iterable of SourceFrame
        In rising order of phases; of any subclass.
    spec : StreamSpec
        The stream, its number of phases known.

    Yields
    ------
    SourceFrame
        The next frame of its slice; a frame that never has its turn is left out.
    """
    order = PhaseOrder(spec)
    waiting: dict[tuple[int, int], FrameT] = {}
    turns: dict[int, int] = {}
    for frame in frames:
        slice_index = frame.slice_index
        waiting[slice_index, frame.phase_index] = frame
        turn = turns.get(slice_index, 0)
        while found := waiting.pop((slice_index, order.phase_at(turn)), None):
            turn += 1
            yield found
        turns[slice_index] = turn


class Ahead(Generic[T]):
    """Reads the frames of each slice in the order of coding, and hands them out by phase.

    Parameters
    ----------
    spec : StreamSpec
        The stream, its number of phases known.
    read : callable
        (slice index, phase index) -> a frame; called once for each, in the order of coding.
    """

    def __init__(self, spec: StreamSpec, read: Callable[[int, int], T]) -> None:
        self._order = PhaseOrder(spec)
        self._read = read
        self._turns: dict[int, int] = {}
        self._early: dict[tuple[int, int], T] = {}

    def take(self, slice_index: int, phase_index: int) -> T:
        """Return a frame, each once; phases of a slice may be asked for in rising order only."""
        place = (slice_index, phase_index)
        while place not in self._early:
            turn = self._turns.get(slice_index, 0)
            phase = self._order.phase_at(turn)
            self._turns[slice_index] = turn + 1
            self._early[slice_index, phase] = self._read(slice_index, phase)
        return self._early.pop(place)

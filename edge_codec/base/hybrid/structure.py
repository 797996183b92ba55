"""Which frames a frame is predicted from, and which are kept: known from its place in its group.

Nothing of it is sent. Decoded frames are kept in slots; a frame's plan names the slots that it may
be predicted from, the nearest in time first, the slot that it goes to, and its layer: the role that
decides how finely it is quantized.

Low delay: each frame follows the one before. Every fourth one is an anchor, coded finely because
many later ones lean on it; the latest anchors are kept, and the key frame, because the heart comes
back to where it was (hierarchical quality without a delay, as in
Sullivan et al., "Overview of the High Efficiency Video Coding (HEVC) Standard", IEEE TCSVT 22(12),
2012, and the low-delay conditions of its reference encoder). The plan has a period of a few frames
and takes the same memory whether a group has ten frames or as many as fit in `MAX_KEY_INTERVAL`.

Archive: the order of `edge_codec.group_order`. Each frame is predicted from the nearest that are
coded already on either side, and the key frame stands at both ends of the heart cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from edge_codec.errors import SpecError
from edge_codec.group_order import coding_order, layers
from edge_codec.spec import MAX_ARCHIVE_GROUP, StreamSpec

SLOTS = 8
MAX_REFERENCES = 4
ANCHOR_PERIOD = 4
LAYERS = 5  # 0: key frame; low delay has no 4

_ANCHORS = 3  # kept beside the key frame and the latest two frames
_LATEST = 1 + _ANCHORS  # first of the two slots of frames that are no anchors


@dataclass(frozen=True, slots=True)
class FramePlan:
    """How a frame hangs together with the others of its group.

    Attributes
    ----------
    references : tuple of int
        Slots that it may be predicted from, the nearest in time first; none for a key frame.
    slot : int
        Where it is kept, 0 to `SLOTS` - 1; never one of `references`.
    layer : int
        Its role, 0 to `LAYERS` - 1; 0 is the key frame, and finer ones come before coarser ones.
    """

    references: tuple[int, ...]
    slot: int
    layer: int


def low_delay_plan(position: int) -> FramePlan:
    """Return the plan of a frame that is coded in the order of its phases.

    Parameters
    ----------
    position : int
        Frames since the key frame of its group, which has 0.

    Raises
    ------
    SpecError
        If the position is negative.
    """
    if position < 0:
        raise SpecError(f"a frame at position {position}; a group begins with its key frame at 0")
    if position == 0:
        return FramePlan((), 0, 0)
    last = (position - 1) // ANCHOR_PERIOD * ANCHOR_PERIOD
    near = dict.fromkeys([position - 1, *range(last, 0, -ANCHOR_PERIOD)[:MAX_REFERENCES]])
    frames = dict.fromkeys([*list(near)[: MAX_REFERENCES - 1], 0])
    references = tuple(_low_delay_slot(frame) for frame in frames)
    return FramePlan(references, _low_delay_slot(position), _low_delay_layer(position))


def _low_delay_slot(position: int) -> int:
    """Return where a frame is kept: anchors take turns, and so do the two latest others."""
    turn, beside = divmod(position, ANCHOR_PERIOD)
    if beside:
        return _LATEST + position % 2
    return 0 if turn == 0 else 1 + (turn - 1) % _ANCHORS


def _low_delay_layer(position: int) -> int:
    """Return 1 for anchors, 2 for those halfway between two of them, 3 for the others."""
    if position == 0:
        return 0
    beside = position % ANCHOR_PERIOD
    return 1 if beside == 0 else 2 if beside == ANCHOR_PERIOD // 2 else 3


@lru_cache
def archive_plan(length: int) -> tuple[FramePlan, ...]:
    """Return the plans of a whole group of an archive, in the order in which it is coded.

    A frame has two references, the nearest coded ones on either side of it around the cycle, the
    nearer one first and the earlier one where they are as near; one where they are the same frame.
    It goes to the lowest free slot. A frame that will be no reference any more is dropped.

    Parameters
    ----------
    length : int
        Frames of the group, 1 to `MAX_ARCHIVE_GROUP`.

    Raises
    ------
    SpecError
        If there is no group of that length.
    """
    if not 1 <= length <= MAX_ARCHIVE_GROUP:
        raise SpecError(
            f"an archive's group of {length} frames; it has 1 to {MAX_ARCHIVE_GROUP}: choose "
            "another key_interval"
        )
    order = coding_order(length)
    near = [_nearest(order[:turn], position, length) for turn, position in enumerate(order)]
    last_use = {frame: turn for turn, frames in enumerate(near) for frame in frames}
    kept: dict[int, int] = {}  # slots of positions
    plans = []
    for turn, position in enumerate(order):
        references = tuple(kept[frame] for frame in near[turn])
        kept[position] = min(set(range(SLOTS)) - set(kept.values()))
        plans.append(FramePlan(references, kept[position], layers(length)[position]))
        kept = {frame: slot for frame, slot in kept.items() if last_use.get(frame, 0) > turn}
    return tuple(plans)


def _nearest(coded: tuple[int, ...], position: int, length: int) -> list[int]:
    """Return the coded frames next to a position, around the cycle; the nearer one first."""
    if not coded:
        return []
    earlier = min(coded, key=lambda frame: (position - frame) % length)
    later = min(coded, key=lambda frame: (frame - position) % length)
    if (later - position) % length < (position - earlier) % length:
        earlier, later = later, earlier
    return list(dict.fromkeys((earlier, later)))


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """Where a frame stands in its group.

    Attributes
    ----------
    archive : bool
        Structure of the stream.
    position : int
        Frames of its group that are coded before it.
    left : int
        Frames of its group that are not, itself included.
    """

    archive: bool
    position: int
    left: int

    @property
    def plan(self) -> FramePlan:
        """How the frame hangs together with the others."""
        if self.archive:
            return archive_plan(self.position + self.left)[self.position]
        return low_delay_plan(self.position)

    def layers_ahead(self) -> list[int]:
        """Return the layers of the frame and of those after it in its group, of 64 at most."""
        if self.archive:
            plans = archive_plan(self.position + self.left)
            return [plan.layer for plan in plans[self.position :]]
        last = self.position + min(self.left, MAX_ARCHIVE_GROUP)
        return [_low_delay_layer(position) for position in range(self.position, last)]


def group_place(spec: StreamSpec, turn: int, key_turn: int) -> GroupPlace:
    """Return where a frame stands.

    Parameters
    ----------
    spec : StreamSpec
        The stream.
    turn : int
        Frames of its slice that are coded before it (`edge_codec.bitstream.phases`).
    key_turn : int
        Turn of the key frame of its group.
    """
    interval, phases = spec.key_interval, spec.info.n_phases
    end = key_turn - key_turn % interval + interval
    if phases:
        end = min(end, phases)
    return GroupPlace(spec.archive, turn - key_turn, end - turn)

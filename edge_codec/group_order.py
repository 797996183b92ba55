"""The order in which an archive codes the phases of a group: a hierarchy over the heart cycle.

The first phase is the key frame. Every eighth one is an anchor; what lies between two anchors
follows the later one, and each phase of it lies in the middle of an interval whose ends are coded
already, so that it can be predicted from both sides (Schwarz et al., "Analysis of hierarchical B
pictures and MCTF", ICME 2006). The cycle closes: the key frame stands at both ends of the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

ANCHOR_DISTANCE = 8


@lru_cache
def coding_order(length: int) -> tuple[int, ...]:
    """Return the positions of a group in the order in which they are coded.

    Parameters
    ----------
    length : int
        Phases of the group, at least 1.

    Returns
    -------
    tuple of int
        A permutation of 0 to length - 1 that begins with 0.
    """
    return tuple(layers(length))


@lru_cache
def layers(length: int) -> Mapping[int, int]:
    """Return the layer of each position of a group, in the order in which they are coded.

    Parameters
    ----------
    length : int
        Phases of the group, at least 1.

    Returns
    -------
    mapping of int to int
        Read-only, as all callers share it: 0 for the key frame, 1 for anchors, 2 for the middle
        between two of them, and one more for each further half: 4 at most.
    """
    found = {0: 0}
    for left in range(0, length, ANCHOR_DISTANCE):
        right = min(left + ANCHOR_DISTANCE, length)
        if right < length:
            found[right] = 1
        _add_middles(left, right, 2, found)
    return MappingProxyType(found)


def _add_middles(left: int, right: int, layer: int, found: dict[int, int]) -> None:
    """Append the middle of an open interval, then what lies before it, then what lies after."""
    if right - left < 2:
        return
    middle = (left + right) // 2
    found[middle] = layer
    _add_middles(left, middle, layer + 1, found)
    _add_middles(middle, right, layer + 1, found)

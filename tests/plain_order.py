"""Order, slots and references of the plain hybrid decoder's frames.

Written from docs/bitstream.md, section 13.9, alone.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A frame of a group, in the order of coding."""

    number: int  # phases since the key frame
    slot: int
    references: tuple[int, ...]


def low_delay(length: int) -> list[Place]:
    """The frames of a group, in rising order."""
    slots = []
    for n in range(length):
        whole, part = divmod(n, 4)
        slots.append(4 + n % 2 if part else 0 if n == 0 else 1 + (whole - 1) % 3)
    places = [Place(0, 0, ())]
    for n in range(1, length):
        a = 4 * ((n - 1) // 4)
        near = [n - 1, *(f for f in (a, a - 4, a - 8) if f > 0)]
        frames = dict.fromkeys([*list(dict.fromkeys(near))[:3], 0])
        places.append(Place(n, slots[n], tuple(slots[f] for f in frames)))
    return places


def between(a: int, b: int) -> list[int]:
    """The order of the phases between two that are coded."""
    m = (a + b) // 2
    return [m, *between(a, m), *between(m, b)] if b - a >= 2 else []


def neighbors(g: int, coded: list[int], length: int) -> list[int]:
    """The references of a frame."""
    if not coded:
        return []
    a, *_ = sorted(coded, key=lambda f: (g - f) % length)
    b, *_ = sorted(coded, key=lambda f: (f - g) % length)
    if a == b:
        return [a]
    return [b, a] if (b - g) % length < (g - a) % length else [a, b]


def archive(length: int) -> list[Place]:
    """The frames of a group of an archive."""
    order = [0]
    for a in range(0, length, 8):
        b = min(a + 8, length)
        order += [b, *between(a, b)] if b < length else between(a, b)
    near = [neighbors(g, order[:turn], length) for turn, g in enumerate(order)]
    kept: dict[int, int] = {}
    places = []
    for turn, g in enumerate(order):
        slot = min(s for s in range(8) if s not in kept.values())
        places.append(Place(g, slot, tuple(kept[f] for f in near[turn])))
        kept[g] = slot
        later = {f for frames in near[turn + 1 :] for f in frames}
        kept = {f: s for f, s in kept.items() if f in later}
    return places

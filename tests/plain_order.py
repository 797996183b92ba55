"""Section 4 of docs/bitstream.md: the order of the frames of a slice, written from it alone."""

from __future__ import annotations

from types import SimpleNamespace


def coding_order(header: SimpleNamespace, n_phases: int) -> list[int]:
    """The phases 0 to n_phases - 1 of a slice in the order in which they are coded."""
    if not header.archive:
        return list(range(n_phases))
    order, k = [], header.key_interval
    for first in range(0, n_phases, k):
        end = min(first + k, header.phases)
        order += [first, *anchored(first, end)]
    return order


def anchored(a: int, end: int) -> list[int]:
    """The phases after an anchor: the next one, those between, and what follows."""
    b = min(a + 8, end)
    return [*between(a, b)] if b == end else [b, *between(a, b), *anchored(b, end)]


def between(a: int, b: int) -> list[int]:
    """The phases of an open interval."""
    m = (a + b) // 2
    return [m, *between(a, m), *between(m, b)] if b - a > 1 else []

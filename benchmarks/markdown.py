"""Tables of README."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    cells = list(head)
    lines = ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines)

"""How commands show results: a table for people, JSON for programs, a progress bar on stderr."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from edge_codec.cli import Console

T = TypeVar("T")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--json` and `--quiet`."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def progress(
    options: argparse.Namespace, console: Console, unit: str = "frame"
) -> Callable[..., Iterable[Any]]:
    """Return a function that wraps an iterable with a progress bar, shown on a terminal only."""
    hidden = options.quiet or options.json or not console.err.isatty()

    def wrap(items: Iterable[T], total: int | None, what: str) -> Iterable[T]:
        bar: Iterable[T] = tqdm(
            items, total=total, desc=what, unit=unit, file=console.err, disable=hidden
        )
        return bar

    return wrap


def show(fields: Mapping[str, Any], options: argparse.Namespace, console: Console) -> None:
    """Print a result."""
    if options.json:
        print(json.dumps(fields, indent=1), file=console.out)
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.replace('_', ' '):<{width}}  {_text(value)}", file=console.out)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return " x ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)

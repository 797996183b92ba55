"""A section of the proof: rows of measurements, and what went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_codec.errors import EdgeCodecError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What every section is given.

    Attributes
    ----------
    interpret : bool
        No GPU: small shapes in Triton's interpreter, nothing timed.
    seed : int
        Of the random inputs.
    """

    interpret: bool
    seed: int


Section = Callable[[Setting], Iterator[Row]]


class SkippedError(EdgeCodecError):
    """A section cannot run here, for a reason that is no failure."""


def rows(name: str, section: Section, setting: Setting) -> Iterator[Row]:
    """Yield a section's rows; one that fails ends with a row that says how.

    The other sections go on: time on a GPU is short, and one defect must not hide ten results.
    """
    try:
        for row in section(setting):
            yield {"section": name, "status": "ok", **row}
    except SkippedError as reason:
        yield {"section": name, "status": "skipped", "why": str(reason)}
    except Exception as error:  # whatever it is, the row reports it and the exit status tells
        yield {
            "section": name,
            "status": "FAILED",
            "why": f"{type(error).__name__}: {error}",
            "calls": _calls(error),
        }


def _calls(error: Exception) -> str:
    """Name the last calls before an error, without folders."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " > ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames)


def text(row: Mapping[str, Any]) -> str:
    """Return a row as one line for people."""
    return "  ".join(f"{name}={_short(value)}" for name, value in row.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if "p50" in value:
            return f"{value['p50']:.4g}"
        return "{" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + "}"
    return str(value)

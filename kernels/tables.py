"""Tuning tables: block sizes, warps and stages per kernel, variant and architecture.

`tuning/<kernel>.json` maps a variant to configurations by architecture (`sm_87`), with `default`
for those that it does not name. A configuration that was timed says on which GPU (`measured_on`);
the others were chosen from what the assembler reports of registers, spills and shared memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edge_codec.errors import EngineError

FOLDER = Path(__file__).parent / "tuning"


@dataclass(frozen=True, slots=True)
class Config:
    """How to compile and launch one variant.

    Attributes
    ----------
    constants : dict of str to int
        Block sizes, by the names of the kernel's `tl.constexpr` arguments.
    num_warps, num_stages : int
    measured_on : str or None
        GPU on which it was the fastest of those tried.
    """

    constants: dict[str, int]
    num_warps: int
    num_stages: int
    measured_on: str | None = None


def config(kernel: str, variant: str, capability: int) -> Config:
    """Look a configuration up.

    Parameters
    ----------
    kernel : str
        Name of the kernel's module.
    variant : str
        What the kernel's module calls it: `f16_d64`.
    capability : int
        Compute capability times ten.

    Raises
    ------
    EngineError
        If there is no table or no such variant.
    """
    try:
        choices = _table(kernel)[variant]
        fields = dict(choices.get(f"sm_{capability}", choices["default"]))
    except (OSError, KeyError, ValueError) as error:
        raise EngineError(f"no tuning table for {kernel} {variant} ({error!r})") from error
    warps, stages = int(fields.pop("num_warps")), int(fields.pop("num_stages"))
    measured_on = fields.pop("measured_on", None)
    return Config({name: int(value) for name, value in fields.items()}, warps, stages, measured_on)


@cache
def _table(kernel: str) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{kernel}.json").read_text("utf-8"))
    return table

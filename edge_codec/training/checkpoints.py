"""Files of a training: `checkpoint.pt` to go on from, `averaged.pt` to evaluate and export."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_codec.errors import SourceError

CHECKPOINT, AVERAGED = "checkpoint.pt", "averaged.pt"

STATE_ERRORS = (KeyError, TypeError, ValueError, RuntimeError)
"""What networks, optimizers and configurations raise on a state that is not theirs."""


def read_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a file of `torch.save`, without running any code that it may name.

    Raises
    ------
    SourceError
        If it is none.
    """
    try:
        content = torch.load(path, weights_only=True, map_location=device)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise SourceError(f"{path} is no file of a training ({error})") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a {type(content).__name__}, expected a dictionary")
    return content


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Write a file; a crash leaves the old one whole."""
    part = path.with_name(f"{path.name}.part")
    torch.save(content, part)
    part.replace(path)


def write_training(
    out: Path, state: dict[str, Any], config: Any, averaged: Mapping[str, Tensor]
) -> None:
    """Write both files of a training; a crash leaves the old ones whole.

    Parameters
    ----------
    out : Path
        Folder.
    state : dict
        All that going on needs, `step` among it.
    config : dataclass
        Of the network.
    averaged : mapping of str to Tensor
        Averaged weights, with the network's buffers.
    """
    content = {
        "config": dataclasses.asdict(config),
        "state": dict(averaged),
        "step": state["step"],
    }
    write_state(out / CHECKPOINT, state)
    write_state(out / AVERAGED, content)


@contextmanager
def resumed(out: Path, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """Give what `checkpoint.pt` of a folder holds, to load it from.

    Raises
    ------
    SourceError
        If there is none, or what is done with it fails as it does with a state of another network.
    """
    path = out / CHECKPOINT
    try:
        yield read_state(path, device)
    except (SourceError, *STATE_ERRORS) as error:
        raise SourceError(f"cannot resume from {path} ({error}); start without it") from error

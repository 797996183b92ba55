"""Files that a training starts from: weights of a stage, or public weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_codec.errors import SourceError
from edge_codec.nn.titok import TiTok, TiTokConfig
from edge_codec.nn.titok_public import PUBLIC_SUFFIX, load_public
from edge_codec.training.checkpoints import STATE_ERRORS, read_state, write_state

__all__ = ["Start", "load_titok", "read_start", "read_state", "write_state"]


@dataclass(frozen=True, slots=True)
class Start:
    """What a file holds to start from.

    Attributes
    ----------
    model : TiTok
    note : str
        What was done, for the log on the screen.
    """

    model: TiTok
    note: str


def read_start(path: Path, network: TiTokConfig) -> Start:
    """Read a file to start from.

    Parameters
    ----------
    path : Path
        `averaged.pt` of a stage, or a public checkpoint that ends in `.safetensors`.
    network : TiTokConfig
        To build for a public checkpoint, which does not say our sizes.

    Raises
    ------
    SourceError
        If it is none of them.
    """
    if path.suffix == PUBLIC_SUFFIX:
        model = TiTok(network)
        return Start(model, load_public(model, path).summary())
    content = read_state(path)
    try:
        model = _model(content["config"], content["state"])
    except STATE_ERRORS as error:
        raise SourceError(
            f"{path} is nothing to start from ({error}); expected averaged.pt of a stage"
        ) from error
    return Start(model, f"{path} at step {content.get('step', 0)}")


def load_titok(path: Path) -> TiTok:
    """Read `averaged.pt` of a stage, in evaluation mode.

    Raises
    ------
    SourceError
        If it is none.
    """
    return read_start(path, TiTokConfig()).model.eval()


def _model(config: dict[str, Any], state: dict[str, Tensor]) -> TiTok:
    model = TiTok(TiTokConfig(**config))
    model.load_state_dict(state)
    return model

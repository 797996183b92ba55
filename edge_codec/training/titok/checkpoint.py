"""Files that a training starts from: weights of a stage, public weights, or a trainer before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_codec.errors import SourceError
from edge_codec.nn.titok import TiTok, TiTokConfig
from edge_codec.nn.titok_public import PUBLIC_SUFFIX, load_public
from edge_codec.training.checkpoints import STATE_ERRORS, read_state, write_state

__all__ = ["Progress", "Start", "load_titok", "read_start", "read_state", "write_state"]


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a training besides its averaged weights, as an earlier trainer saved it.

    Attributes
    ----------
    model : dict of str to Tensor
        Weights that are trained.
    optimizer : dict
    step : int
    elapsed_s : float
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    step: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """What a file holds to start from.

    Attributes
    ----------
    model : TiTok
        With averaged weights where the file tells them apart.
    progress : Progress or None
    note : str
        What was done, for the log on the screen.
    """

    model: TiTok
    progress: Progress | None
    note: str


def read_start(path: Path, network: TiTokConfig) -> Start:
    """Read a file to start from.

    Parameters
    ----------
    path : Path
        `averaged.pt` of a stage; `checkpoint.pt` of the first trainer, whose fields are m, e, o,
        step, used, cfg (weights, averaged weights, optimizer, steps, seconds, sizes); or a public
        checkpoint that ends in `.safetensors`.
    network : TiTokConfig
        To build for a public checkpoint, which does not say our sizes.

    Raises
    ------
    SourceError
        If it is none of them.
    """
    if path.suffix == PUBLIC_SUFFIX:
        model = TiTok(network)
        return Start(model, None, load_public(model, path).summary())
    content = read_state(path)
    try:
        if "m" in content:
            model = _model(content["cfg"], content["e"])
            seconds = float(content["used"])
            progress = Progress(content["m"], content["o"], int(content["step"]), seconds)
            return Start(model, progress, f"{path} at step {progress.step} of the first trainer")
        model = _model(content["config"], content["state"])
    except STATE_ERRORS as error:
        raise SourceError(
            f"{path} is nothing to start from ({error}); expected averaged.pt of a stage"
        ) from error
    return Start(model, None, f"{path} at step {content.get('step', 0)}")


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

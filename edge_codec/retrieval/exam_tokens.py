"""The tokens of an exam, read from its stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import FrameError

TOKENS = 32
CODES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class ExamTokens:
    """Tokens of the frames of an exam.

    Attributes
    ----------
    tokens : ndarray, shape (slices, phases, 32), uint16, below 4096
    keys : ndarray, shape (slices, phases), bool
        Whether a frame is a key frame: told by its tokens alone. The tokens of any other say what
        the frames before it left open.
    told_group : str
        Disease group that the encoder was told; empty where it was told none.

    Raises
    ------
    FrameError
        If the arrays are not that, or a slice does not begin with a key frame.
    """

    tokens: NDArray[np.uint16]
    keys: NDArray[np.bool_]
    told_group: str = ""

    def __post_init__(self) -> None:
        """Refuse arrays that are no exam."""
        tokens, keys = self.tokens, self.keys
        if tokens.dtype != np.uint16 or tokens.ndim != 3 or tokens.shape[2] != TOKENS:
            raise FrameError(
                f"tokens are {tokens.dtype} {tokens.shape}; expected uint16 (slices, phases, "
                f"{TOKENS})"
            )
        if 0 in tokens.shape:
            raise FrameError(
                f"tokens of {tokens.shape[0]} slices x {tokens.shape[1]} phases; expected one frame"
                " or more"
            )
        if keys.dtype != np.bool_ or keys.shape != tokens.shape[:2]:
            raise FrameError(
                f"keys are {keys.dtype} {keys.shape}; expected bool {tokens.shape[:2]}"
            )
        if tokens.max() >= CODES:
            raise FrameError(f"token {tokens.max()}, but the codebook has {CODES} codes")
        if not keys[:, 0].all():
            raise FrameError("a slice does not begin with a key frame; encode the exam again")

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return len(self.tokens)

    @property
    def n_phases(self) -> int:
        """Phases of each slice."""
        return len(self.tokens[0])


def read_exam(file: BinaryIO) -> ExamTokens:
    """Read the tokens of a `titok` stream and which of its frames are key frames.

    Parameters
    ----------
    file : seekable binary file

    Raises
    ------
    SpecError
        If the stream is of another model.
    EngineError
        If it was made with other weights than the installed ones.
    BitstreamError
        If it is damaged, or lacks a frame.
    """
    from edge_codec.base.titok import tokens_of
    from edge_codec.base.titok.conditions import unpack_facts
    from edge_codec.bitstream.container import StreamReader

    tokens = tokens_of(file)
    reader = StreamReader(file)
    keys = np.zeros(tokens.shape[:2], bool)
    for packet in reader.packets():
        keys[packet.slice_index, packet.phase_index] = packet.key
    return ExamTokens(tokens, keys, unpack_facts(reader.spec.model_data).group)

"""The tokens of groups as the stream's header keeps them, in the model data of `TITOK_GROUPS`.

They are in the header since every frame needs them: a lost packet costs no other slice, and what
comes before the first packet is enough to read all tokens.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.token_prior import CODES, TOKENS
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.spec import MAX_MODEL_DATA, StreamSpec, TokensPer

TOKEN_BITS = 12
GROUP_BYTES = TOKENS * TOKEN_BITS // 8
MOST_PHASES = 65_535

_HEAD = struct.Struct("<BH")
MOST_GROUPS = (MAX_MODEL_DATA - _HEAD.size) // GROUP_BYTES

Tokens = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class GroupData:
    """What the header says of the groups of a stream.

    Attributes
    ----------
    per : TokensPer
        `CINE`: a group is a slice with all its phases; `EXAM`: the whole stream is one.
    n_phases : int
        Phases of a heart cycle, 1 to 65535.
    tokens : ndarray, shape (groups, 32), uint16, below 4096

    Raises
    ------
    SpecError
        If it is nothing that a header can keep.
    """

    per: TokensPer
    n_phases: int
    tokens: Tokens

    def __post_init__(self) -> None:
        """Refuse what has no place in a header."""
        tokens = self.tokens
        if tokens.dtype != np.uint16 or tokens.ndim != 2 or tokens.shape[1] != TOKENS:
            raise SpecError(f"tokens are {tokens.dtype} {tokens.shape}; use uint16 (groups, 32)")
        check_groups(self.per, self.n_phases, len(tokens))
        if tokens.max() >= CODES:
            raise SpecError(f"token {tokens.max()}, but there are {CODES} codes")

    def pack(self) -> bytes:
        """Return the header's model data."""
        return _HEAD.pack(self.per, self.n_phases) + b"".join(map(_pack, self.tokens.tolist()))

    def of_slice(self, index: int) -> Tokens:
        """Return the tokens that tell of a slice, shape (32,)."""
        found: Tokens = self.tokens[index if self.per is TokensPer.CINE else 0]
        return found


def check_groups(per: TokensPer, n_phases: int, n_groups: int) -> None:
    """Refuse groups that a header cannot tell of.

    Raises
    ------
    SpecError
        If there are too many phases or groups, or none.
    """
    if per is TokensPer.FRAME:
        raise SpecError("tokens for each frame are model titok's; groups are cines or an exam")
    if not 1 <= n_phases <= MOST_PHASES:
        raise SpecError(
            f"a cycle of {n_phases} phases; tokens of a whole cine take 1 to {MOST_PHASES}"
        )
    most = MOST_GROUPS if per is TokensPer.CINE else 1
    if not 1 <= n_groups <= most:
        raise SpecError(
            f"{n_groups} groups of 32 tokens, but a header keeps 1 to {most}; use tokens for each "
            "frame, or for the whole exam"
        )


def unpack_groups(spec: StreamSpec) -> GroupData:
    """Read what `GroupData.pack` wrote into a stream's header.

    Raises
    ------
    BitstreamError
        If it is nothing that `pack` writes, or not of as many slices as the stream has.
    """
    data = spec.model_data
    per, n_phases = _HEAD.unpack_from(data) if len(data) >= _HEAD.size else (0, 0)
    if per not in (TokensPer.CINE, TokensPer.EXAM):
        raise BitstreamError(f"model data name groups of kind {per}; known are 1 (cine), 2 (exam)")
    n_groups = spec.info.n_slices if per == TokensPer.CINE else 1
    if len(data) != _HEAD.size + n_groups * GROUP_BYTES:
        raise BitstreamError(
            f"model data of {len(data)} bytes; {n_groups} groups of 32 tokens take "
            f"{_HEAD.size + n_groups * GROUP_BYTES}: the header is none that edge-codec writes"
        )
    starts = range(_HEAD.size, len(data), GROUP_BYTES)
    tokens = np.array([_unpack(data[at : at + GROUP_BYTES]) for at in starts], np.uint16)
    try:
        return GroupData(TokensPer(per), n_phases, tokens)
    except SpecError as error:
        raise BitstreamError(f"model data hold impossible groups: {error}") from error


def _pack(tokens: list[int]) -> bytes:
    """Return 32 numbers of 12 bits, the first one's highest bit first."""
    bits = 0
    for token in tokens:
        bits = bits << TOKEN_BITS | token
    return bits.to_bytes(GROUP_BYTES, "big")


def _unpack(data: bytes) -> list[int]:
    bits = int.from_bytes(data, "big")
    shifts = range(TOKEN_BITS * (TOKENS - 1), -1, -TOKEN_BITS)
    return [bits >> shift & (CODES - 1) for shift in shifts]

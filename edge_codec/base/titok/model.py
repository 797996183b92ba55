"""The `titok` model of a stream: two float networks, the codebook, and the tables of the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.coder import Guide, TitokCoder
from edge_codec.base.titok.products import Parts
from edge_codec.base.titok.token_prior import TokenPrior
from edge_codec.engine import Mapper, NamedEngine
from edge_codec.spec import StreamSpec

THRIFT = 0.007
"""Where more bytes began to buy less, on held-out training exams (decision 0018)."""


@dataclass(frozen=True, slots=True)
class TitokModel:
    """The shipped networks and tables, loaded; remembers nothing of a stream.

    Attributes
    ----------
    decoder : NamedEngine
        Float network, codes (1, 32, 12) and the past to a frame (1, 1, 128, 128), 0 to 1.33.
    codebook : ndarray, shape (4096, 12), float32
    prior : TokenPrior
    encoder : NamedEngine or None
        Float network, a frame (1, 1, 128, 128) and the past to latents (1, 32, 12); None where
        only decoding is needed.
    guide : callable or None
        Tells the encoder where the heart is; None tells it nothing.
    thrift : float
        What the encoder gives for a bit: how much further off a code may be, in the cosine of its
        angle to the latent. 0 takes the nearest whatever it costs.
    nearness : Parts
        The codebook, for products with latents.
    """

    decoder: NamedEngine
    codebook: NDArray[np.float32]
    prior: TokenPrior
    encoder: NamedEngine | None = None
    guide: Guide | None = None
    thrift: float = THRIFT
    nearness: Parts = field(init=False)

    def __post_init__(self) -> None:
        """Make what slices share."""
        object.__setattr__(self, "nearness", Parts(self.codebook.T))

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> TitokCoder:
        """See `edge_codec.base.layer.BaseModel.coder`."""
        return TitokCoder(self, spec, mapper)

    def encode_frames(
        self,
        coders: Sequence[TitokCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`."""
        del aheads
        frames = zip(coders, samples, phases, keys, strict=True)
        return [coder.encode(frame, phase, key) for coder, frame, phase, key in frames]

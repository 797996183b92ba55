"""What every base layer offers to the codec, which never asks which one it is.

A model belongs to a stream and makes one coder for each of its slices. A coder sees the frames of
its slice in the order in which they are coded: rising phases, or that of an archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.engine import Mapper
from edge_codec.spec import StreamSpec


class BaseCoder(Protocol):
    """Codes or decodes the base layer of one slice, frame by frame."""

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """Code one frame.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            Stored values minus the stream's lower bound.
        phase : int
            Phase index of the frame.
        key : bool
            Whether the frame must be decodable without those before it.
        ahead : sequence of ndarray
            Samples of the frames that follow it in time, the nearest first, as far as they are
            known: a key frame that many are predicted from may be made to suit them.

        Returns
        -------
        payload : bytes
            The coded frame.
        base : ndarray, shape (rows, columns), uint32
            The frame that `decode` makes of it, in memory that the next frame may take again.

        Raises
        ------
        EngineError
            If the model was loaded for decoding only, or its backend fails.
        """

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """Return the frame, shape (rows, columns), uint32, that `encode` reported.

        Raises
        ------
        BitstreamError
            If the payload is damaged or follows a frame that was not decoded.
        EngineError
            If the model's backend fails.
        """


class BaseModel(Protocol):
    """The loaded model of a stream."""

    def coder(self, spec: StreamSpec, mapper: Mapper) -> BaseCoder:
        """Return a coder for one slice of a stream.

        Parameters
        ----------
        spec : StreamSpec
            The stream.
        mapper : callable
            How to go over the parts of a frame that may be in work at the same time.
        """

    def encode_frames(
        self,
        coders: Sequence[Any],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """Code one frame each of several slices of a stream.

        Parameters
        ----------
        coders : sequence
            Of different slices, as `coder` made them.
        samples, phases, keys : sequence
            As `BaseCoder.encode` takes them.
        aheads : sequence of sequence
            For each frame what `BaseCoder.encode` takes as `ahead`, or nothing for all of them.

        Returns
        -------
        list of (bytes, ndarray)
            What `BaseCoder.encode` would return for each.
        """

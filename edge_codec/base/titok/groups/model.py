"""The model of a stream whose frames share tokens: paints any of them from the header alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import SIDE, Resizer, canvas_of
from edge_codec.base.titok.coder import BRIGHTEST, samples_of
from edge_codec.base.titok.groups.data import unpack_groups
from edge_codec.base.titok.groups.tables import GroupTables
from edge_codec.base.titok.groups.waves import SLICE_WAVES, cycle_wave, slice_wave
from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, FrameError, SpecError
from edge_codec.spec import StreamSpec, TokensPer

KEPT_SLICES = 64  # of 48 KiB each; painting one anew takes some milliseconds

Floats = NDArray[np.float32]


class GroupModel:
    """Fitted tables, and the slices that were painted last; any number of streams may share it.

    Parameters
    ----------
    tables : mapping of TokensPer to GroupTables
        For `CINE` and `EXAM`.
    """

    def __init__(self, tables: Mapping[TokensPer, GroupTables]) -> None:
        self.tables = tables
        self.slice_images = lru_cache(KEPT_SLICES)(self._slice_images)

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> GroupCoder:
        """See `edge_codec.base.layer.BaseModel.coder`; `spec` is of one slice."""
        del mapper
        return GroupCoder(self, spec)

    def encode_frames(
        self,
        coders: Sequence[GroupCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`."""
        del aheads
        frames = zip(coders, samples, phases, keys, strict=True)
        return [coder.encode(frame, phase, key) for coder, frame, phase, key in frames]

    def _slice_images(
        self, per: TokensPer, tokens: tuple[int, ...], index: int, n_slices: int
    ) -> Floats:
        """Paint mean, cosine and sine of a slice over the cycle, shape (3, side, side)."""
        images = self.tables[per].images_of(np.array(tokens, np.uint16))
        if per is TokensPer.EXAM:
            apart = images.reshape(SLICE_WAVES, -1, *images.shape[1:])
            images = np.tensordot(slice_wave(index, n_slices), apart, 1)
        images.flags.writeable = False
        return images


class GroupCoder:
    """Paints the frames of one slice; what it decodes has no bytes of its own.

    Parameters
    ----------
    model : GroupModel
    spec : StreamSpec
        Of one slice, see `StreamSpec.of_slice`.

    Raises
    ------
    SpecError
        If it is not told which slice.
    BitstreamError
        If the header's model data are none.
    """

    def __init__(self, model: GroupModel, spec: StreamSpec) -> None:
        if spec.slice_index is None or not 0 <= spec.slice_index < spec.info.n_slices:
            raise SpecError(f"slice_index is {spec.slice_index}; StreamSpec.of_slice gives it")
        data = unpack_groups(spec)
        self._model = model
        self._spec = spec
        self._n_phases = data.n_phases
        tokens = tuple(data.of_slice(spec.slice_index).tolist())
        # What the tokens of a cine paint does not depend on where its slice lies.
        place = (spec.slice_index, spec.info.n_slices) if data.per is TokensPer.EXAM else (0, 1)
        self._group = (data.per, tokens, *place)

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`; the payload is empty."""
        del key, ahead
        shape = self._spec.info.frame_shape
        if samples.shape != shape:
            raise FrameError(f"frame is {samples.shape}, the stream holds {shape}; crop or pad it")
        return b"", self._paint(phase)

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`; on other machines about the same frame."""
        del key
        if payload:
            raise BitstreamError(
                f"a frame's payload has {len(payload)} bytes, but its tokens are in the header; it "
                "is damaged"
            )
        return self._paint(phase)

    def _paint(self, phase: int) -> NDArray[np.uint32]:
        images = self._model.slice_images(*self._group)
        image = np.tensordot(cycle_wave(phase, self._n_phases), images, 1)
        resizer = Resizer(len(image), SIDE)
        columns = np.ascontiguousarray(resizer.resize(image).T)
        canvas = np.clip(resizer.resize(columns).T, 0, BRIGHTEST)
        frame = canvas_of(*self._spec.info.frame_shape).restore(np.ascontiguousarray(canvas))
        return samples_of(frame, self._spec)

"""An MRD image on its way to the encoder: its frames, each with the note that travels along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.io.mrd_image import (
    Form,
    ImageHead,
    MrdImage,
    choose_form,
    join_planes,
    plane_dtype,
    split_planes,
)
from edge_codec.io.mrd_note import Note, pack_dictionary
from edge_codec.spec import CineInfo, SampleFormat, SourceHeader, SourceKind


@dataclass(frozen=True, slots=True, eq=False)
class ImageFrames:
    """An image that is to be coded.

    Attributes
    ----------
    image : MrdImage
        As it came.
    head : ImageHead
        Its header.
    form : Form
        How its planes stand for voxels.
    item : int
        Its number among the messages of the session.
    """

    image: MrdImage
    head: ImageHead
    form: Form
    item: int

    @classmethod
    def of(cls, image: MrdImage, item: int) -> ImageFrames:
        """Look at an image and choose how it becomes frames."""
        head = ImageHead.unpack(image.header)
        return cls(image, head, choose_form(head.data_type, image.voxels), item)

    @property
    def n_planes(self) -> int:
        """How many frames the image has."""
        return self.head.n_planes(self.form)

    def dictionary(self, xml: bytes) -> bytes:
        """Return what the header of a stream that begins with this image carries."""
        return pack_dictionary(self._note(0).pack(), xml)

    def geometry(self, n_slices: int, dictionary: bytes) -> CineInfo:
        """Describe the stream that begins with this image."""
        dtype = plane_dtype(self.head.data_type, self.form)
        integer = dtype.kind in "iu"
        return CineInfo(
            n_slices * self.n_planes,
            0,
            self.head.y,
            self.head.x,
            dtype=dtype,
            sample_format=SampleFormat.INTEGER if integer else SampleFormat.FLOAT_INTEGER,
            spacing_mm=self.head.spacing_mm,
            source=SourceHeader(SourceKind.MRD, dictionary),
        )

    def frames(self) -> Iterator[tuple[int, NDArray[Any], bytes]]:
        """Yield plane number, voxels (rows, columns), and note of each frame."""
        planes = split_planes(self.head, self.image.voxels, self.form)
        for plane, voxels in enumerate(planes):
            yield plane, voxels, self._note(plane).pack()

    def _note(self, plane: int) -> Note:
        if plane:
            return Note(self.form, plane, self.n_planes, self.item)
        image = self.image
        return Note(self.form, 0, self.n_planes, self.item, image.header, image.attributes)


def join_frames(first: Note, planes: Sequence[NDArray[Any]]) -> MrdImage:
    """Rebuild an image: the inverse of `ImageFrames.frames`.

    Parameters
    ----------
    first : Note
        Of plane 0.
    planes : sequence of ndarray, shape (rows, columns)
        All planes in their order.

    Raises
    ------
    FrameError
        If the planes are not those of such an image.
    """
    head = ImageHead.unpack(first.header)
    voxels = join_planes(head, np.stack(planes), first.form)
    return MrdImage(first.header, first.attributes, voxels)

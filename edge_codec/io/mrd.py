"""ISMRMRD `.h5` files: the images of one group, read and written with header and attributes.

A file holds groups like `/dataset/image_1`, each with the images (`data`), their headers (`header`,
198 bytes each) and meta attributes (`attributes`), and beside them the XML header (`xml`). Images
that were read come back byte for byte; the HDF5 file around them is made anew. Needs h5py, which
comes with the package `ismrmrd`.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import BitstreamError, SourceError, SpecError
from edge_codec.io.atomic import AtomicFile
from edge_codec.io.h5_parts import import_h5py, open_h5, own_dataset, own_groups
from edge_codec.io.mrd_frames import ImageFrames, join_frames
from edge_codec.io.mrd_image import VOXEL_BYTES, Form, ImageHead, MrdImage
from edge_codec.io.mrd_note import Note, unpack_dictionary
from edge_codec.io.samples import choose_format, to_integers
from edge_codec.io.sink import SequentialSink
from edge_codec.io.source import SourceFrame
from edge_codec.spec import CineInfo, SampleFormat, SourceKind, StreamSpec

DATASET = "dataset"
MAX_IMAGES = 1 << 20
MAX_IMAGE_BYTES = 256 << 20

_log = logging.getLogger(__name__)

_HEADER_DTYPE = np.dtype(
    [
        ("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)), ("field_of_view", "<f4", (3,)), ("channels", "<u2"),
        ("position", "<f4", (3,)), ("read_dir", "<f4", (3,)), ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)), ("patient_table_position", "<f4", (3,)), ("average", "<u2"),
        ("slice", "<u2"), ("contrast", "<u2"), ("phase", "<u2"), ("repetition", "<u2"),
        ("set", "<u2"), ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"), ("image_index", "<u2"), ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)), ("user_float", "<f4", (8,)), ("attribute_string_len", "<u4"),
    ]
)  # fmt: skip
_COMPLEX = {4: "<f4", 8: "<f8"}
_DATA_DTYPES = {1: "<u2", 2: "<i2", 3: "<u4", 4: "<i4", 5: "<f4", 6: "<f8", 7: "<c8", 8: "<c16"}
# All that h5py was seen to raise on damaged files.
_H5_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError)
_PARTS = ("data", "header", "attributes")


class MrdSource:
    """The images of one group of an `.h5` file as a source of frames.

    A channel, a partition, a part of a complex number is a slice of its own; phases count up in the
    order of the file.

    Parameters
    ----------
    path : Path
        The file.
    group : str, optional
        Which group of images, `image_1` or `dataset/image_1`, where there are several.

    Raises
    ------
    SourceError
        If it is no such file, is damaged, or its images are no cine.
    """

    def __init__(self, path: Path, group: str | None = None) -> None:
        self._path = path
        try:
            with open_h5(path) as file:
                self._group = _choose_group(file, group)
                self._describe(file[self._group])
        except _H5_ERRORS as error:
            raise SourceError(f"{path} cannot be read as ISMRMRD images: {error}") from error
        except (SourceError, SpecError) as error:
            raise SourceError(f"{path}: {error}") from error

    def frames(self) -> Iterator[SourceFrame]:
        """Yield every frame, each with the note that its image is rebuilt from.

        Raises
        ------
        SourceError
            If the file cannot be read any more.
        """
        try:
            with open_h5(self._path) as file:
                group = file[self._group]
                for part in _PARTS:
                    own_dataset(group, part)
                for phase, items in enumerate(self._order):
                    for place, item in enumerate(items):
                        yield from self._frames_of(group, item, place, phase)
        except _H5_ERRORS as error:
            raise SourceError(f"{self._path} cannot be read: {error}") from error

    def _frames_of(self, group: Any, item: int, place: int, phase: int) -> Iterator[SourceFrame]:
        frames = self._image(group, item)
        for plane, voxels, note in frames.frames():
            samples = to_integers(voxels, self.info.sample_format)
            yield SourceFrame(place * frames.n_planes + plane, phase, samples, note)

    def _image(self, group: Any, item: int) -> ImageFrames:
        """Read one image, in the form that was chosen for all."""
        header = self._headers[item].tobytes()
        attributes = group["attributes"][item]
        data = attributes if isinstance(attributes, bytes) else str(attributes).encode()
        image = MrdImage(header, data, _voxels(group["data"], item))
        return ImageFrames(image, ImageHead.unpack(header), self._form, item)

    def _describe(self, group: Any) -> None:
        self._headers = _read_headers(group)
        first = ImageHead.unpack(self._headers[0].tobytes())
        _check_data(own_dataset(group, "data"), first, len(self._headers))
        attributes = own_dataset(group, "attributes")
        if attributes.shape != (len(self._headers),):
            raise SourceError(
                f"attributes of shape {attributes.shape}; {len(self._headers)} images need as many"
            )
        self._order = _order(self._headers)
        # Of the first image, which the others may overrule.
        self._form = Form.FLOAT if first.data_type >= 5 else Form.INTEGER
        found = {
            ImageFrames.of(self._image(group, item).image, item).form
            for item in range(len(self._headers))
        }
        self._form = max(found)
        try:
            self.info = self._make_info(group)
        except SourceError:  # doubles that are exact in one way here and in another there
            self._form = Form.WORDS
            self.info = self._make_info(group)

    def _make_info(self, group: Any) -> CineInfo:
        frames = self._image(group, self._order[0][0])
        info = frames.geometry(len(self._order[0]), frames.dictionary(_read_xml(group)))
        info = replace(info, n_phases=len(self._order))
        return replace(info, sample_format=self._sample_format(group, info))

    def _sample_format(self, group: Any, info: CineInfo) -> SampleFormat:
        planes = (
            voxels
            for item in range(len(self._headers))
            for _, voxels, _ in self._image(group, item).frames()
        )
        return choose_format(planes, info.dtype)


class MrdSink(SequentialSink):
    """Writes `.h5` from a stream that was made from MRD images, a file's or a scanner's.

    Parameters
    ----------
    path : Path
        Target.
    spec : StreamSpec
        Stream to write.
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    SourceError
        If the target exists, or the stream has no MRD headers.
    """

    def __init__(self, path: Path, spec: StreamSpec, *, force: bool) -> None:
        super().__init__(spec)
        if spec.info.source.kind is not SourceKind.MRD:
            raise SourceError(
                f"{path}: the stream was made from {spec.info.source.kind.name} and has no MRD "
                "headers; write .nii, .npy or DICOM"
            )
        self._path = path
        _, self._xml = unpack_dictionary(spec.info.source.data)
        import_h5py()
        self._first: Note | None = None
        self._planes: list[NDArray[Any]] = []
        self._images: list[tuple[int, bytes, bytes]] = []  # item, header, attributes
        self._target = AtomicFile(path, force=force)
        # Images may come in another order than the file's: their voxels wait here.
        self._voxels = tempfile.TemporaryFile()  # noqa: SIM115

    def _put(
        self, slice_index: int, phase_index: int, voxels: NDArray[Any], metadata: bytes
    ) -> None:
        note = Note.unpack(metadata)
        if note.plane != len(self._planes):
            raise BitstreamError(
                f"slice {slice_index}, phase {phase_index} has plane {note.plane} of an image; "
                f"plane {len(self._planes)} is due"
            )
        if note.plane == 0:
            self._first = note
        self._planes.append(voxels)
        if self._first is not None and len(self._planes) == note.planes:
            image = join_frames(self._first, self._planes)
            self._voxels.write(image.voxels)
            self._images.append((note.item, image.header, image.attributes))
            self._planes = []

    def _finish(self) -> None:
        h5py = import_h5py()
        if self._planes or not self._images:
            raise SourceError(f"the last image has {len(self._planes)} planes only")
        head = ImageHead.unpack(self._images[0][1])
        order = sorted(range(len(self._images)), key=lambda index: self._images[index][0])
        headers = [np.frombuffer(self._images[index][1], _HEADER_DTYPE)[0] for index in order]
        with h5py.File(self._target.file, "w") as file:
            dataset = file.create_group(DATASET)
            text = h5py.special_dtype(vlen=bytes)
            dataset.create_dataset("xml", (1,), text)[0] = self._xml
            group = dataset.create_group(f"image_{head.series}")
            group.create_dataset("header", data=np.array(headers, _HEADER_DTYPE))
            attributes = group.create_dataset("attributes", (len(order),), text)
            data = group.create_dataset("data", (len(order), *head.matrix), _h5_dtype(head))
            size = math.prod(head.matrix) * VOXEL_BYTES[head.data_type]
            for place, index in enumerate(order):
                attributes[place] = self._images[index][2]
                self._voxels.seek(index * size)
                voxels = np.frombuffer(self._voxels.read(size), _h5_dtype(head))
                data[place] = voxels.reshape(head.matrix)
        self._voxels.close()
        self._target.commit()

    def _discard(self) -> None:
        self._planes = []
        self._voxels.close()
        self._target.abort()


def _choose_group(file: Any, wish: str | None) -> str:
    found = [
        f"{outer}/{name}"
        for outer, dataset in own_groups(file)
        for name, group in own_groups(dataset)
        if all(part in group for part in _PARTS)
    ]
    chosen = [name for name in found if wish in (None, name, name.partition("/")[2])]
    if len(chosen) != 1:
        raise SourceError(
            f"{len(chosen)} groups of images to read; there are {', '.join(found) or 'none'}: "
            "choose one with --series"
        )
    others = [name for name in file[chosen[0]].parent if name in ("data", "waveforms")]
    if others:
        _log.warning("%s in the file are left out: images alone are read", " and ".join(others))
    return chosen[0]


def _read_headers(group: Any) -> NDArray[Any]:
    headers = own_dataset(group, "header")
    names = headers.dtype.names or ()
    if set(names) != set(_HEADER_DTYPE.names or ()) or headers.ndim != 1:
        raise SourceError("its image headers are not those of ISMRMRD")
    if not 0 < len(headers) <= MAX_IMAGES:
        raise SourceError(f"{len(headers)} images; 1 to {MAX_IMAGES} are supported")
    read = headers[:]
    packed = np.zeros(len(read), _HEADER_DTYPE)
    for name in names:  # whatever gaps the file has between them
        packed[name] = read[name]
    return packed


def _check_data(data: Any, head: ImageHead, count: int) -> None:
    if head.data_type not in VOXEL_BYTES:
        raise SourceError(f"data type {head.data_type}; MRD knows 1 to {max(VOXEL_BYTES)}")
    expected = (count, *head.matrix)
    if data.shape != expected or not _is_dtype(data.dtype, head):
        raise SourceError(
            f"images of shape {data.shape} and {data.dtype}; their headers say {expected} of "
            f"{_DATA_DTYPES[head.data_type]}"
        )
    size = math.prod(head.matrix) * VOXEL_BYTES[head.data_type]
    if not 0 < size <= MAX_IMAGE_BYTES:
        raise SourceError(f"an image has {size} bytes; 1 to {MAX_IMAGE_BYTES} are supported")


def _is_dtype(dtype: np.dtype[Any], head: ImageHead) -> bool:
    return dtype == _h5_dtype(head) or dtype == np.dtype(_DATA_DTYPES[head.data_type])


def _h5_dtype(head: ImageHead) -> np.dtype[Any]:
    if head.data_type < 7:
        return np.dtype(_DATA_DTYPES[head.data_type])
    part = _COMPLEX[VOXEL_BYTES[head.data_type] // 2]
    return np.dtype([("real", part), ("imag", part)])


def _order(headers: NDArray[Any]) -> list[list[int]]:
    """Return the images of each phase, in the order of their slices."""
    for name in ("data_type", "channels", "matrix_size"):
        if (headers[name] != headers[name][0]).any():
            raise SourceError(f"its images differ in {name}; only images of one kind are a cine")
    slices = np.unique(headers["slice"])
    items = [np.flatnonzero(headers["slice"] == number) for number in slices]
    counts = {len(found) for found in items}
    if len(counts) != 1:
        raise SourceError(
            f"its {len(slices)} slices have {min(counts)} to {max(counts)} images; a cine has as "
            "many of each"
        )
    return [[int(found[phase]) for found in items] for phase in range(counts.pop())]


def _voxels(data: Any, item: int) -> bytes:
    return np.ascontiguousarray(data[item]).tobytes()


def _read_xml(group: Any) -> bytes:
    if "xml" not in group.parent:
        return b""
    xml = own_dataset(group.parent, "xml")
    if xml.ndim != 1 or not len(xml):
        raise SourceError(f"its XML header has shape {xml.shape}; (1,) is expected")
    text = xml[0]
    return text if isinstance(text, bytes) else str(text).encode()

"""A sample: one slice over all phases, as files of a tar archive with a common key.

    patient001-s03.npy           voxels, (phase, row, column), integers as stored
    patient001-s03.labels.npy    labels of some phases, (labeled phase, row, column), uint8
    patient001-s03.json          everything else

This is the layout of webdataset: what comes before the first dot is the key, the rest names the
part. A sample is a run of bytes that is itself a tar archive, less the end mark, so that it can be
read alone. Archives state no time, owner or rights: the same sample is always the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import SourceError
from edge_codec.io.npy import read_array_header
from edge_codec.training.shards.patient import BIGGEST_LABEL, Patient

VOXELS, LABELS, METADATA = "npy", "labels.npy", "json"
BLOCK = tarfile.BLOCKSIZE  # archives are made of whole ones

# All that parts which are not what they should be were seen to raise.
_PART_ERRORS = (
    SourceError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True, eq=False)
class ShardCine:
    """One slice of an exam over all its phases.

    Attributes
    ----------
    key : str
        Unique in its folder of shards.
    dataset, patient : str
    slice_index : int
        In the source file; ACDC's crops begin at slice 1 of the native stack.
    voxels : ndarray, shape (phases, rows, columns), integer
        As stored.
    labels : ndarray, shape (labeled phases, rows, columns), uint8, or None
        0 background, 1 RV, 2 myocardium, 3 LV.
    label_phases : tuple of int
        Which phase each of `labels` belongs to; empty without labels.
    window : tuple of float
        0.1th and 99.9th percentile of the whole exam, as the codec chooses its window.
    ed_phase, es_phase : int or None
        End-diastole and end-systole, from 0.
    group : str or None
        Disease: NOR, DCM, HCM, MINF or RV in ACDC.
    height_cm, weight_kg : float or None
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column).
    rescale : tuple of float
        Slope and intercept: physical value = slope * stored + intercept.
    license : str
        Of the images and of what is made of them.
    """

    key: str
    dataset: str
    patient: str
    slice_index: int
    voxels: NDArray[Any]
    labels: NDArray[np.uint8] | None
    label_phases: tuple[int, ...]
    window: tuple[float, float]
    ed_phase: int | None
    es_phase: int | None
    group: str | None
    height_cm: float | None
    weight_kg: float | None
    spacing_mm: tuple[float, float, float]
    rescale: tuple[float, float]
    license: str


def sample_key(patient: str, slice_index: int) -> str:
    """Return the key of a slice."""
    return f"{patient}-s{slice_index:02d}"


def encode_sample(
    patient: Patient, slice_index: int, dataset: str, license_note: str
) -> dict[str, bytes]:
    """Return the parts of a slice by their names, in the order of the archive."""
    parts = {VOXELS: _encode_array(patient.voxels[slice_index])}
    if patient.labels:
        labels = [labels[slice_index] for labels in patient.labels.values()]
        parts[LABELS] = _encode_array(np.stack(labels))
    info = patient.info
    metadata = {
        "dataset": dataset,
        "patient": patient.name,
        "slice": slice_index,
        "shape": patient.voxels.shape,
        "ed_phase": info.ed_phase,
        "es_phase": info.es_phase,
        "label_phases": list(patient.labels),
        "spacing_mm": patient.spacing_mm,
        "window": patient.window,
        "rescale": patient.rescale,
        "group": info.group,
        "height_cm": info.height_cm,
        "weight_kg": info.weight_kg,
        "sources": patient.sources,
        "license": license_note,
    }
    parts[METADATA] = json.dumps(metadata, sort_keys=True).encode()
    return parts


def decode_sample(key: str, parts: Mapping[str, bytes]) -> ShardCine:
    """Return the cine of a sample's parts: the inverse of `encode_sample`.

    Raises
    ------
    SourceError
        If a part is missing or damaged, or parts do not fit each other.
    """
    absent = {VOXELS, METADATA} - parts.keys()
    if absent:
        raise SourceError(f"sample {key} has no part {', '.join(sorted(absent))}")
    try:
        metadata = json.loads(parts[METADATA])
        cine = ShardCine(
            key=key,
            dataset=str(metadata["dataset"]),
            patient=str(metadata["patient"]),
            slice_index=int(metadata["slice"]),
            voxels=_decode_array(parts[VOXELS]),
            labels=_decode_array(parts[LABELS]) if LABELS in parts else None,
            label_phases=tuple(map(int, metadata["label_phases"])),
            window=_numbers(metadata["window"], 2),
            ed_phase=metadata["ed_phase"],
            es_phase=metadata["es_phase"],
            group=metadata["group"],
            height_cm=metadata["height_cm"],
            weight_kg=metadata["weight_kg"],
            spacing_mm=_numbers(metadata["spacing_mm"], 3),
            rescale=_numbers(metadata["rescale"], 2),
            license=str(metadata["license"]),
        )
    except _PART_ERRORS as error:
        raise SourceError(f"sample {key} is damaged: {type(error).__name__}: {error}") from error
    _check_cine(cine)
    return cine


def append_sample(archive: tarfile.TarFile, key: str, parts: Mapping[str, bytes]) -> None:
    """Add the parts of a sample to an archive."""
    for name, data in parts.items():
        member = tarfile.TarInfo(f"{key}.{name}")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def split_sample(key: str, data: bytes) -> dict[str, bytes]:
    """Return the parts of a sample's run of bytes in its archive.

    Raises
    ------
    SourceError
        If the bytes are not the files of that sample.
    """
    parts: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        try:
            # One head alone. An open archive would follow what heads say of others, too: files
            # with holes, whose size is only claimed, and heads of heads without end.
            member = tarfile.TarInfo.frombuf(data[at : at + BLOCK], "ascii", "surrogateescape")
        except tarfile.TarError as error:
            raise SourceError(f"sample {key} is damaged after byte {at}: {error}") from error
        found, _, name = member.name.partition(".")
        if found != key or member.type != tarfile.REGTYPE or name in parts:
            raise SourceError(f"{member.name!r} is no part of sample {key}")
        begin, size = at + BLOCK, member.size
        at = begin + -(-size // BLOCK) * BLOCK
        if size < 0 or at > len(data):
            raise SourceError(f"{member.name} is cut off")
        parts[name] = data[begin : begin + size]
    return parts


def _encode_array(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
    return file.getvalue()


def _decode_array(data: bytes) -> NDArray[Any]:
    """Read an npy file without trusting it: its sizes are compared before anything is made."""
    file = io.BytesIO(data)
    shape, fortran, dtype = read_array_header(file)
    if dtype.kind not in "iu" or fortran or len(shape) != 3:
        raise ValueError(f"an array {shape} of {dtype}, expected integers with three axes")
    voxels = np.frombuffer(data, dtype, offset=file.tell())
    return voxels.reshape(shape).astype(dtype.newbyteorder("="))  # a copy, which may be changed


def _numbers(values: Any, count: int) -> Any:
    numbers = tuple(map(float, values))
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"numbers {numbers}, expected {count} that are finite")
    return numbers


def _check_cine(cine: ShardCine) -> None:
    phases, *frame_shape = cine.voxels.shape
    phase_names = {"ED": cine.ed_phase, "ES": cine.es_phase}
    for name, phase in phase_names.items():
        if phase is not None and not (isinstance(phase, int) and 0 <= phase < phases):
            raise SourceError(f"sample {cine.key} has {name} phase {phase} of {phases}")
    if any(not 0 <= phase < phases for phase in cine.label_phases):
        raise SourceError(f"sample {cine.key} has labels of {cine.label_phases}, {phases} phases")
    expected = (len(cine.label_phases), *frame_shape)
    found = (0, *frame_shape) if cine.labels is None else cine.labels.shape
    if found != expected:
        raise SourceError(f"sample {cine.key} has labels of shape {found}, expected {expected}")
    if cine.labels is None:
        return
    if cine.labels.dtype != np.uint8 or cine.labels.max(initial=0) > BIGGEST_LABEL:
        raise SourceError(f"sample {cine.key} has labels that are not 0 to {BIGGEST_LABEL}")

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from acdc_samples import write_patient

from edge_codec.errors import SourceError
from edge_codec.training.shards.patient import read_patient
from edge_codec.training.shards.sample import (
    append_sample,
    decode_sample,
    encode_sample,
    sample_key,
    split_sample,
)

KEY = "patient001-s01"


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    patient = read_patient(write_patient(tmp_path, "patient001"), partial=False)
    return encode_sample(patient, 1, "acdc", "for tests")


def archive_of(key: str, parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        append_sample(archive, key, parts)
        end = archive.offset
    return file.getvalue()[:end]


def test_round_trip(tmp_path: Path) -> None:
    patient = read_patient(write_patient(tmp_path, "patient001"), partial=False)
    data = archive_of(KEY, encode_sample(patient, 1, "acdc", "for tests"))
    cine = decode_sample(KEY, split_sample(KEY, data))
    assert sample_key(cine.patient, cine.slice_index) == cine.key == KEY
    np.testing.assert_array_equal(cine.voxels, patient.voxels[1])
    assert cine.labels is not None
    np.testing.assert_array_equal(cine.labels, [patient.labels[0][1], patient.labels[3][1]])
    assert cine.label_phases == (0, 3)
    assert (cine.ed_phase, cine.es_phase) == (0, 3)
    assert (cine.group, cine.height_cm, cine.weight_kg) == ("DCM", 184.0, 95.0)
    assert cine.window == patient.window
    assert cine.spacing_mm == (10.0, 1.5, 1.5)
    assert cine.rescale == (1.0, 0.0)
    assert (cine.dataset, cine.license) == ("acdc", "for tests")
    cine.voxels[0] = 0  # a copy of its own, which may be changed


def test_sources_are_stated(parts: dict[str, bytes]) -> None:
    assert len(json.loads(parts["json"])["sources"]) == 6


def test_archive_states_no_time_or_owner(parts: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(KEY, parts))) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


@pytest.mark.parametrize("absent", ["npy", "json"])
def test_missing_part(parts: dict[str, bytes], absent: str) -> None:
    del parts[absent]
    with pytest.raises(SourceError, match=f"{KEY} has no part {absent}"):
        decode_sample(KEY, parts)


def npy(array: np.ndarray, **header: object) -> bytes:
    """An npy file whose header may lie."""
    file = io.BytesIO()
    honest = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, {**honest, **header})
    return file.getvalue() + array.tobytes()


CUBE = np.zeros((6, 12, 10), np.int16)


@pytest.mark.parametrize(
    "voxels",
    [
        b"",
        b"no array at all",
        npy(CUBE)[:-1],
        npy(CUBE, shape=(1 << 40, 12, 10)),
        npy(CUBE, shape=(5, 12, 10)),
        npy(CUBE, fortran_order=True),
        npy(CUBE[0]),
        npy(CUBE.astype(np.float32)),
        npy(CUBE, descr="|O"),
    ],
    ids=["empty", "text", "short", "huge", "long", "fortran", "flat", "float", "object"],
)
def test_hostile_arrays(parts: dict[str, bytes], voxels: bytes) -> None:
    assert decode_sample(KEY, {**parts, "npy": npy(CUBE)}).voxels.shape == CUBE.shape
    with pytest.raises(SourceError, match=f"sample {KEY} is damaged"):
        decode_sample(KEY, {**parts, "npy": voxels})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ed_phase": 6}, "ED phase 6 of 6"),
        ({"es_phase": "x"}, "ES phase x"),
        ({"label_phases": [0, 9]}, r"labels of \(0, 9\)"),
        ({"label_phases": [0]}, "labels of shape"),
        ({"label_phases": None}, "is damaged"),
        ({"window": [1]}, "is damaged"),
        ({"spacing_mm": [1, 1, "wide"]}, "is damaged"),
    ],
)
def test_metadata_that_does_not_fit(
    parts: dict[str, bytes], change: dict[str, object], message: str
) -> None:
    metadata = {**json.loads(parts["json"]), **change}
    with pytest.raises(SourceError, match=message):
        decode_sample(KEY, {**parts, "json": json.dumps(metadata).encode()})


def test_metadata_that_is_no_object(parts: dict[str, bytes]) -> None:
    for text in (b"{", b"[]", b"null"):
        with pytest.raises(SourceError, match="is damaged"):
            decode_sample(KEY, {**parts, "json": text})


def test_labels_that_do_not_fit(parts: dict[str, bytes]) -> None:
    for labels in (np.full((2, 12, 10), 4, np.uint8), np.zeros((2, 12, 10), np.int16)):
        with pytest.raises(SourceError, match="labels that are not 0 to 3"):
            decode_sample(KEY, {**parts, "labels.npy": npy(labels)})
    with pytest.raises(SourceError, match="labels of shape"):
        decode_sample(KEY, {**parts, "labels.npy": npy(np.zeros((2, 12, 9), np.uint8))})


def test_bytes_of_another_sample(parts: dict[str, bytes]) -> None:
    data = archive_of(KEY, parts)
    with pytest.raises(SourceError, match="is no part of sample patient001-s02"):
        split_sample("patient001-s02", data)
    for bad in (data[100:], b"\xff" * 2048, *(data[:cut] for cut in range(0, len(data), 256))):
        with pytest.raises(SourceError):
            decode_sample(KEY, split_sample(KEY, bad))


def test_damaged_head_of_a_later_part(parts: dict[str, bytes]) -> None:
    data = bytearray(archive_of(KEY, parts))
    data[data.index(f"{KEY}.json".encode())] ^= 1
    with pytest.raises(SourceError, match="is damaged after byte"):
        split_sample(KEY, bytes(data))


def head(name: str, size: int, kind: bytes, real_size: int = 0) -> bytes:
    """A head of any kind, as other writers of tar files make them."""
    data = bytearray(512)
    data[: len(name)] = name.encode()
    data[124:136] = b"%011o\0" % size
    data[156:157] = kind
    data[257:265] = b"ustar  \0"
    if kind == tarfile.GNUTYPE_SPARSE:
        data[386:410] = b"%011o\0%011o\0" % (0, 0)
        data[483:495] = b"%011o\0" % real_size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def pax(text: bytes) -> bytes:
    return head("x", len(text), tarfile.XHDTYPE) + text.ljust(512, b"\0")


@pytest.mark.parametrize(
    "before",
    [
        head(f"{KEY}.npy", 0, tarfile.GNUTYPE_SPARSE, 6 << 30),
        (head("././@LongLink", 512, tarfile.GNUTYPE_LONGNAME) + b"a" * 512) * 2000,
        pax(b"12 size=abc\n"),
        pax(b"9" * 500 + b" a=b\n"),
        pax(b"22 GNU.sparse.map=a,b\n"),
        head(f"{KEY}.npy", 0, tarfile.SYMTYPE),
    ],
    ids=["holes", "names without end", "size", "length", "map", "link"],
)
def test_archives_that_hold_more_than_plain_files(parts: dict[str, bytes], before: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=f"is no part of sample {KEY}"):
            split_sample(KEY, before + archive_of(KEY, parts))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': (((",
        b"(" * 1500,
        b"{'descr': '|a2', 'fortran_order': False, 'shape': (1, 2, 2)}",
    ],
)
def test_headers_of_arrays_that_cannot_be_parsed(parts: dict[str, bytes], header: bytes) -> None:
    voxels = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with pytest.raises(SourceError, match=f"sample {KEY} is damaged"):
        decode_sample(KEY, {**parts, "npy": voxels})


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000], ids=["list", "object"])
def test_metadata_that_is_too_deep(parts: dict[str, bytes], text: bytes) -> None:
    with pytest.raises(SourceError, match="is damaged"):
        decode_sample(KEY, {**parts, "json": text})


@pytest.mark.parametrize(
    "change",
    [
        {"slice": float("inf")},
        {"window": [0, float("nan")]},
        {"spacing_mm": [1, 1, float("inf")]},
    ],
)
def test_metadata_that_is_not_finite(parts: dict[str, bytes], change: dict[str, object]) -> None:
    metadata = {**json.loads(parts["json"]), **change}
    with pytest.raises(SourceError, match="is damaged"):
        decode_sample(KEY, {**parts, "json": json.dumps(metadata).encode()})

"""Files of tensors are read exactly, and what they claim is not believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from public_titok_samples import header_of, write_safetensors

from edge_codec.errors import SourceError
from edge_codec.nn.safetensors_file import MAX_HEADER, SafetensorsFile


def entry(shape: list[Any], begin: Any, end: Any, kind: Any = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8"), ("I32", "<i4"), ("U8", "u1")],
)
def test_tensors_come_back(kind: str, dtype: str, tmp_path: Path) -> None:
    values = np.array([[1, 2, 3], [0, 5, 120]], dtype)
    header = {"__metadata__": {"a": "b"}, "x": entry([2, 3], 0, values.nbytes, kind)}
    file = SafetensorsFile(write_safetensors(tmp_path / "x", header, values.tobytes()))
    assert file.shapes == {"x": (2, 3)}
    assert "x" in file
    assert "__metadata__" not in file
    assert np.array_equal(file.read("x"), values)
    assert file.read("x").dtype == np.float32


def test_bfloat_is_the_upper_half(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625], np.float32)
    half = (values.view(np.uint32) >> 16).astype("<u2")
    header = {"x": entry([3], 0, 6, "BF16")}
    file = SafetensorsFile(write_safetensors(tmp_path / "x", header, half.tobytes()))
    assert np.array_equal(file.read("x"), values)


def test_tensors_may_be_empty_and_scalar(tmp_path: Path) -> None:
    header = {"a": entry([0, 4], 0, 0), "b": entry([], 0, 4)}
    file = SafetensorsFile(write_safetensors(tmp_path / "x", header, np.float32(7).tobytes()))
    assert file.read("a").shape == (0, 4)
    assert file.read("b") == 7
    with pytest.raises(SourceError, match="no tensor 'c'"):
        file.read("c")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"not json", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[1]", "a list"),
        (b'{"x": 1, "x": 2}', "twice"),
        ({"x": 1}, "no dtype"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, "no dtype"),
        ({"x": entry([2], 0, 8, "F8_E4M3")}, "F8_E4M3"),
        ({"x": entry([2], 0, 8, ["F32"])}, "known types"),
        ({"x": entry([-2], 0, 8)}, "the shape"),
        ({"x": entry([1.0, 2], 0, 8)}, "the shape"),
        ({"x": entry([True, 2], 0, 8)}, "the shape"),
        ({"x": entry([1] * 9, 0, 8)}, "the shape"),
        ({"x": entry([2], 0, 16)}, "0 to 16 of 8"),
        ({"x": entry([2], 8, 0)}, "8 to 0"),
        ({"x": entry([2], -8, 0)}, "-8 to 0"),
        ({"x": entry([3], 0, 8)}, "needs 12"),
        ({"x": entry([2**62, 2**62], 0, 8)}, "needs"),
        ({"x": entry([1], 4, 8)}, "begins at byte 4"),
        ({"x": entry([2], 0, 8), "y": entry([1], 4, 8)}, "must follow"),
        ({"x": entry([1], 0, 4)}, "4 of 8"),
    ],
)
def test_hostile_headers_are_refused(header: Any, said: str, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x", header, bytes(8))
    with pytest.raises(SourceError, match=said):
        SafetensorsFile(path)


@pytest.mark.parametrize("claim", [9, 1 << 20, MAX_HEADER + 1, (1 << 64) - 1])
def test_header_lengths_are_bounded(claim: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(claim.to_bytes(8, "little") + b"{}      ")
    with pytest.raises(SourceError, match=f"header of {claim}"):
        SafetensorsFile(path)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    header, size = header_of({"a": (2, 3), "b": (4,)})
    path = write_safetensors(tmp_path / "x", header, bytes(size))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError):
            SafetensorsFile(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(SourceError, match="damaged"):
        SafetensorsFile(path)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    header, size = header_of({"a": (2, 3)})
    path = write_safetensors(tmp_path / "x", header, bytes(size))
    file = SafetensorsFile(path)
    path.write_bytes(json.dumps(header).encode())
    with pytest.raises(SourceError, match="ends within"):
        file.read("a")
    with pytest.raises(SourceError, match="cannot be read"):
        SafetensorsFile(tmp_path / "absent")

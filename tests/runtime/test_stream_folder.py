from __future__ import annotations

from pathlib import Path

import pytest

from edge_codec.errors import SinkError
from edge_codec.runtime.stream_folder import segment_files, stream_folder


@pytest.mark.parametrize("name", ["a", "scan-1", "A.b_c-9", "x" * 64, "-"])
def test_names_of_streams(tmp_path: Path, name: str) -> None:
    assert stream_folder(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "/a", "a\n", "x" * 65, "\u0661"])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match="no name for a folder"):
        stream_folder(tmp_path, name)


def test_segments_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10_000, 2, 9999):
        (tmp_path / f"{number:04d}.ecd").write_bytes(b"")
    assert [number for number, _ in segment_files(tmp_path)] == [2, 9999, 10_000]


@pytest.mark.parametrize("name", ["x.ecd", "1.ecd", "0001.ecd.bak", "00001x.ecd", "-001.ecd"])
def test_other_files_are_no_segments(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "0002.ecd").mkdir()
    assert segment_files(tmp_path) == []

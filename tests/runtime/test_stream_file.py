from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from stream_file_samples import (
    assert_frames,
    closing_sinks,
    encode,
    make_segment,
    resumed,
    send,
    start,
)

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.errors import SinkError
from edge_codec.runtime import stream_file
from edge_codec.runtime.stream_file import FileSink, SyncPolicy
from edge_codec.runtime.stream_folder import segment_files

POLICIES = [SyncPolicy.NONE, SyncPolicy(packets=3), SyncPolicy(seconds=1e-6), SyncPolicy(packets=1)]


@pytest.fixture(autouse=True)
def no_open_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from closing_sinks(monkeypatch)


@pytest.fixture
def started(tmp_path: Path) -> tuple[FileSink, list[Packet]]:
    return start(tmp_path)


# ------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("sync", POLICIES)
def test_segments_become_files(tmp_path: Path, sync: SyncPolicy) -> None:
    sink = FileSink(tmp_path, sync=sync)
    for number in range(3):
        segment = make_segment(number, high=999 + number)
        sink.begin(segment)
        path = tmp_path / "scan-1" / f"{number:04d}.ecd"
        assert sink.path == path
        packets = encode(segment.spec, 5 + number)
        for count, packet in enumerate(packets, 1):
            sink.send(packet, packet.pack())
            assert_frames(path, count, complete=False)  # readable while it grows
        sink.end()
        assert_frames(path, 5 + number, complete=True)
        with path.open("rb") as file:
            assert StreamReader(file).spec == segment.spec


@pytest.mark.parametrize(
    ("sync", "forced"),
    [
        (SyncPolicy.NONE, [0, 0, 0, 0, 0, 0]),
        (SyncPolicy(packets=3), [0, 0, 1, 1, 1, 2]),
        (SyncPolicy(packets=1), [1, 2, 3, 4, 5, 6]),
        (SyncPolicy(seconds=10.0), [0, 0, 1, 1, 2, 2]),
        (SyncPolicy(packets=2, seconds=10.0), [0, 1, 1, 2, 3, 3]),
    ],
)
def test_packets_are_forced_onto_the_disk_when_they_must_be(
    tmp_path: Path, sync: SyncPolicy, forced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, calls = [100.0], []
    monkeypatch.setattr(stream_file.time, "monotonic", lambda: clock[0])
    sink, segment = FileSink(tmp_path, sync=sync), make_segment()
    sink.begin(segment)
    monkeypatch.setattr(stream_file.os, "fsync", lambda fd: calls.append(os.fstat(fd).st_size))
    for now, packet, count in zip(
        (104, 108, 112, 116, 127, 128), encode(segment.spec, 6), forced, strict=True
    ):
        clock[0] = float(now)
        sink.send(packet, packet.pack())
        assert len(calls) == count
        if count and sync.packets == 1:
            assert calls[-1] == sink.path.stat().st_size
    sink.end()
    assert len(calls) == forced[-1] + sync.ever


def test_file_and_folder_are_forced_when_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = []
    monkeypatch.setattr(
        stream_file.os, "fsync", lambda fd: forced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    sink = FileSink(tmp_path, sync=SyncPolicy(packets=1))
    sink.begin(make_segment())
    assert forced == [tmp_path / "scan-1" / "0000.ecd", tmp_path / "scan-1", tmp_path]
    sink.abort()
    forced.clear()
    FileSink(tmp_path).begin(replace(make_segment(), stream="other"))
    assert forced == []


class ShortFile(FileIO):
    """Takes seven bytes at most with each write."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:7])


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_file, "FileIO", ShortFile)
    sink, segment = FileSink(tmp_path), make_segment()
    sink.begin(segment)
    send(sink, encode(segment.spec, 6))
    sink.end()
    assert_frames(sink.path, 6, complete=True)


def test_notes_are_kept(tmp_path: Path) -> None:
    """A clock that jumps back changes the note and nothing else."""
    sink, segment = FileSink(tmp_path), make_segment()
    sink.begin(segment)
    notes = [LiveNote(Policy.ADAPTIVE, 10**18 - i * 10**15, 1, 2, 0, i == 1) for i in range(3)]
    packets = [
        replace(packet, layers={**packet.layers, LayerId.LIVE: note.pack()})
        for packet, note in zip(encode(segment.spec, 3), notes, strict=True)
    ]
    send(sink, packets)
    sink.end()
    assert_frames(sink.path, 3, complete=True)
    with sink.path.open("rb") as file:
        read = [LiveNote.unpack(p.layers[LayerId.LIVE]) for p in StreamReader(file).packets()]
    assert read == notes


# ------------------------------------------------------------------------- refused at begin


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../up",
        "/etc",
        "a\0b",
        "a\n",
        "x" * 65,
        "ümlaut",
        "a b",
        "a\\b",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "streams"
    folder.mkdir()
    segment = replace(make_segment(), stream=name)
    for sink in (FileSink(folder), FileSink(folder, resume=True)):
        with pytest.raises(SinkError, match="no name for a folder"):
            sink.begin(segment)
        sink.abort()
    with pytest.raises(SinkError):
        FileSink(folder, resume=True).resume_point(segment)
    assert list(tmp_path.rglob("*")) == [folder]


def test_stream_that_is_there_is_not_overwritten(
    tmp_path: Path, started: tuple[FileSink, list[Packet]]
) -> None:
    sink, _ = started
    sink.end()
    before = sink.path.read_bytes()
    with pytest.raises(SinkError, match="not overwritten"):
        FileSink(tmp_path).begin(make_segment())
    assert sink.path.read_bytes() == before
    assert segment_files(sink.path.parent) == [(0, sink.path)]


@pytest.mark.parametrize("resume", [False, True])
def test_links_are_not_followed(tmp_path: Path, resume: bool) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "scan-1").symlink_to(target)
    sink = FileSink(folder, resume=resume)
    assert sink.resume_point(make_segment()) is None
    with pytest.raises(SinkError, match="not overwritten"):
        sink.begin(make_segment())
    (folder / "scan-1").unlink()
    (folder / "scan-1").mkdir()
    (folder / "scan-1" / "0000.ecd").symlink_to(tmp_path / "victim")
    if resume:
        with pytest.raises(SinkError):
            sink.begin(make_segment())
    assert not (tmp_path / "victim").exists()
    assert list(target.iterdir()) == []


def test_files_that_appear_meanwhile_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look into the folder and the opening of a file, anything may happen."""
    folder = tmp_path / "scan-1"
    folder.mkdir()
    victim, appeared = tmp_path / "victim", folder / "0000.ecd"
    victim.write_bytes(b"precious")
    appeared.write_bytes(b"precious")
    monkeypatch.setattr(stream_file, "segment_files", lambda _: [])
    with pytest.raises(SinkError, match="File exists"):
        FileSink(tmp_path, resume=True).begin(make_segment())
    assert appeared.read_bytes() == b"precious"
    appeared.unlink()
    appeared.symlink_to(victim)
    monkeypatch.setattr(stream_file, "segment_files", lambda _: [(0, appeared)])
    with pytest.raises(SinkError, match="symbolic links"):
        FileSink(tmp_path, resume=True).resume_point(make_segment())
    assert victim.read_bytes() == b"precious"


def test_missing_and_read_only_folders(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file"):
        FileSink(tmp_path / "nowhere").begin(make_segment())
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="Not a directory"):
        FileSink(tmp_path / "file").begin(make_segment())


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since the superuser may write everywhere."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(stream_file.os, "open", refuse)
    sink = FileSink(tmp_path)
    with pytest.raises(SinkError, match="Read-only file system"):
        sink.begin(make_segment())
    monkeypatch.undo()
    sink = resumed(tmp_path, 2)
    sink.end()
    assert_frames(sink.path, 2, complete=True)

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from stream_file_samples import (
    assert_frames,
    bytes_in_file,
    closing_sinks,
    encode,
    make_segment,
    resumed,
    send,
    start,
)

from edge_codec.bitstream.packet import Packet
from edge_codec.errors import FrameError, SinkError
from edge_codec.runtime import stream_file
from edge_codec.runtime.stream_file import FileSink, SyncPolicy


@pytest.fixture(autouse=True)
def no_open_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from closing_sinks(monkeypatch)


@pytest.fixture
def started(tmp_path: Path) -> tuple[FileSink, list[Packet]]:
    return start(tmp_path)


class FullDisk(FileIO):
    """A disk with so many bytes of room, for all files together."""

    left = 0
    error = errno.ENOSPC

    def write(self, data: Any) -> int:
        if not FullDisk.left:
            raise OSError(FullDisk.error, os.strerror(FullDisk.error))
        written = super().write(memoryview(data)[: FullDisk.left])
        FullDisk.left -= written
        return written


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FullDisk]]:
    monkeypatch.setattr(stream_file, "FileIO", FullDisk)
    monkeypatch.setattr(FullDisk, "left", 1 << 30)
    return FullDisk


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_full_disk_at_any_byte_leaves_a_whole_file(
    tmp_path: Path, full_disk: type[FullDisk], error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_disk, "error", error)
    segment = make_segment()
    packets = encode(segment.spec, 3)
    size = bytes_in_file(tmp_path, packets)
    for room in range(0, size, 7):
        folder = tmp_path / str(room)
        folder.mkdir()
        full_disk.left = 1 << 30
        sink = FileSink(folder)
        sink.begin(segment)
        send(sink, packets[:2])
        full_disk.left = room
        with pytest.raises(SinkError, match="Make room"):
            send(sink, packets[2:])
        assert_frames(sink.path, 2, complete=False)
        if room % 2:
            full_disk.left = 1 << 30
            send(sink, packets[2:])  # room was made
            sink.end()
            assert_frames(sink.path, 3, complete=True)
        else:
            sink.abort()
            full_disk.left = 1 << 30
            again = resumed(folder, 1)
            again.end()
            assert_frames(sink.path, 3, complete=True)


def test_full_disk_for_the_header_leaves_nothing(tmp_path: Path, full_disk: type[FullDisk]) -> None:
    for room in (0, 1, 100):
        full_disk.left = room
        with pytest.raises(SinkError, match="No space"):
            FileSink(tmp_path).begin(make_segment())
        assert list(tmp_path.iterdir()) == []


def test_full_disk_for_the_index_costs_no_packet(
    tmp_path: Path, full_disk: type[FullDisk], started: tuple[FileSink, list[Packet]]
) -> None:
    sink, _ = started
    full_disk.left = 0
    with pytest.raises(SinkError, match="No space"):
        sink.end()
    assert_frames(sink.path, 3, complete=False)


@contextmanager
def limit_of_file_size(size: int) -> Iterator[None]:
    """Limit every file of this process; short, as its output may go to a longer one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_limit_of_the_system_on_a_file(tmp_path: Path) -> None:
    """The kernel writes a part of a packet and then refuses the rest: no simulation."""
    sink, segment = FileSink(tmp_path), make_segment()
    packets = encode(segment.spec, 40)
    sink.begin(segment)
    sent = 0
    while (size := sink.path.stat().st_size + len(packets[sent].pack())) <= 2000:
        send(sink, packets[sent : sent + 1])
        sent += 1
    assert sent >= 3
    assert size > 2001
    with limit_of_file_size(2000), pytest.raises(SinkError, match="File too large"):
        send(sink, packets[sent : sent + 1])
    assert_frames(sink.path, sent, complete=False)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_small_disk_of_the_system(tmp_path: Path) -> None:
    """A file system of 64 KiB in a mount namespace of its own; skipped where that is forbidden."""
    script = (
        'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c '
        '\'import sys; sys.path[:0] = sys.argv[2].split(":"); '
        'from test_stream_file_faults import fill_a_disk; fill_a_disk(sys.argv[1])\' "$1" "$3"'
    )
    places = [str(Path(__file__).parent), *(place for place in sys.path if place)]
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh",
         str(tmp_path), sys.executable, ":".join(places)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if result.stderr.startswith(("unshare:", "mount:")):
        pytest.skip("no mount namespaces here")
    assert result.returncode == 0, result.stderr
    assert "full after" in result.stdout


def fill_a_disk(folder: str) -> None:
    """Write until the file system is full, then check what is there: a process of its own."""
    sink, segment = FileSink(Path(folder)), make_segment()
    sink.begin(segment)
    sent = 0
    try:
        for packet in encode(segment.spec, 1000):
            sink.send(packet, packet.pack())
            sent += 1
    except SinkError as error:
        assert "No space left" in str(error)  # noqa: PT017  this is no test
    sink.abort()
    assert_frames(sink.path, sent, complete=False)
    print("full after", sent)


def test_removed_folder_is_told_at_once(
    tmp_path: Path, started: tuple[FileSink, list[Packet]]
) -> None:
    sink, packets = started
    shutil.rmtree(tmp_path / "scan-1")
    with pytest.raises(SinkError, match="was removed"):
        sink.send(packets[3], packets[3].pack())
    sink.abort()
    sink.abort()


def test_disk_that_fails_when_forced_ends_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, segment = FileSink(tmp_path, sync=SyncPolicy(packets=2)), make_segment()
    packets = encode(segment.spec, 3)
    sink.begin(segment)
    send(sink, packets[:1])

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(stream_file.os, "fsync", fail)
    with pytest.raises(SinkError, match="I/O error"):
        send(sink, packets[1:2])
    with pytest.raises(SinkError, match="no segment"):
        send(sink, packets[2:])
    sink.abort()
    assert_frames(sink.path, 2, complete=False)


def test_disk_that_cannot_even_cut_ends_the_file(
    tmp_path: Path,
    full_disk: type[FullDisk],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink, segment = FileSink(tmp_path), make_segment()
    packets = encode(segment.spec, 3)
    sink.begin(segment)
    send(sink, packets[:2])

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(FullDisk, "truncate", fail)
    full_disk.left = 50
    with pytest.raises(SinkError, match="No space"):
        send(sink, packets[2:])
    assert "part of a packet" in caplog.text
    with pytest.raises(SinkError):
        send(sink, packets[2:])
    sink.abort()
    monkeypatch.undo()
    again = resumed(tmp_path, 2)
    again.end()
    assert_frames(sink.path, 4, complete=True)


def test_abort_never_raises_and_keeps_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileSink(tmp_path).abort()

    class BadFile(FileIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(stream_file, "FileIO", BadFile)
    sink, segment = FileSink(tmp_path, sync=SyncPolicy(packets=100)), make_segment()
    sink.begin(segment)
    send(sink, encode(segment.spec, 2))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(stream_file.os, "fsync", fail)
    sink.abort()
    monkeypatch.undo()
    assert_frames(sink.path, 2, complete=False)


def test_packet_out_of_order_is_refused_and_harms_nothing(
    started: tuple[FileSink, list[Packet]],
) -> None:
    sink, packets = started
    with pytest.raises(FrameError, match="sequence number 4"):
        sink.send(packets[4], packets[4].pack())
    send(sink, packets[3:])
    sink.end()
    assert_frames(sink.path, 10, complete=True)


def test_calls_out_of_order(tmp_path: Path) -> None:
    sink, segment = FileSink(tmp_path), make_segment()
    (packet,) = encode(segment.spec, 1)
    for call in (lambda: sink.send(packet, packet.pack()), sink.end):
        with pytest.raises(SinkError, match="no segment has begun"):
            call()
    sink.begin(segment)
    with pytest.raises(SinkError, match="still open"):
        sink.begin(segment)


def test_segment_that_ends_too_early_is_told_and_goes_on(tmp_path: Path) -> None:
    segment = make_segment(n_phases=5)
    sink = FileSink(tmp_path)
    sink.begin(segment)
    send(sink, encode(segment.spec, 3))
    with pytest.raises(SinkError, match="3 of 5 frames"):
        sink.end()
    resumed(tmp_path, 2, segment).end()
    assert_frames(sink.path, 5, complete=True)
    assert FileSink(tmp_path, resume=True).resume_point(segment) is None  # all frames are there

from __future__ import annotations

import errno
import io
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import verify
from edge_codec.codec import Decoder, Encoder, Resume
from edge_codec.errors import FrameError, SinkError
from edge_codec.runtime import stream_file
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink, SyncPolicy
from edge_codec.runtime.stream_folder import segment_files
from edge_codec.spec import CineInfo, Effort, StreamSpec

POLICIES = [SyncPolicy.NONE, SyncPolicy(packets=3), SyncPolicy(seconds=1e-6), SyncPolicy(packets=1)]


def make_segment(number: int = 0, n_phases: int = 0, **changes: Any) -> Segment:
    info = CineInfo(1, n_phases, 12, 10, np.dtype(np.int16))
    spec = StreamSpec(info, 0, 999, effort=Effort.FAST, key_interval=4)
    return Segment("scan-1", number, replace(spec, **changes))


@pytest.fixture(autouse=True)
def no_open_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made, init = [], FileSink.__init__

    def note(sink: FileSink, *args: Any, **options: Any) -> None:
        made.append(sink)
        init(sink, *args, **options)

    monkeypatch.setattr(FileSink, "__init__", note)
    yield
    for sink in made:
        sink.abort()


def frame(phase: int) -> np.ndarray:
    return np.random.default_rng(phase).integers(0, 1000, (12, 10)).astype(np.int16)


def encode(spec: StreamSpec, n: int, resume: Resume | None = None) -> list[Packet]:
    encoder = Encoder(spec, resume=resume)
    first = resume.next_phases.get(0, 0) if resume else 0
    return [encoder.push(frame(first + i)) for i in range(n)]


def send(sink: FileSink, packets: list[Packet]) -> None:
    for packet in packets:
        sink.send(packet, packet.pack())


def decoded(path: Path) -> list[np.ndarray]:
    with path.open("rb") as file:
        reader = StreamReader(file, recover=True)
        decoder = Decoder(reader.spec)
        return [decoder.push(packet) for packet in reader.packets()]


def assert_frames(path: Path, n: int, *, complete: bool) -> None:
    """The file holds the first `n` frames, and is right as far as it goes."""
    frames = decoded(path)
    assert len(frames) == n
    for phase, found in enumerate(frames):
        assert np.array_equal(found, frame(phase))
    with path.open("rb") as file:
        problems = verify(file).problems
    if complete:
        assert problems == ()
    else:
        assert ["no footer" in problem.what for problem in problems] == [True]


def resumed(folder: Path, n: int, segment: Segment | None = None) -> FileSink:
    """Go on with the stream and append `n` frames."""
    segment = segment or make_segment()
    sink = FileSink(folder, resume=True)
    resume = sink.resume_point(segment)
    sink.begin(segment)
    send(sink, encode(segment.spec, n, resume))
    return sink


@pytest.fixture
def started(tmp_path: Path) -> tuple[FileSink, list[Packet]]:
    """A sink after three of ten packets."""
    sink, segment = FileSink(tmp_path), make_segment()
    packets = encode(segment.spec, 10)
    sink.begin(segment)
    send(sink, packets[:3])
    return sink, packets


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


# ------------------------------------------------------------------------------ failures


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
    size = len(packets[2].pack())
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


@pytest.fixture
def limit_of_file_size() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("limit_of_file_size")
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
    with pytest.raises(SinkError, match="File too large"):
        send(sink, packets[sent : sent + 1])
    assert_frames(sink.path, sent, complete=False)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_small_disk_of_the_system(tmp_path: Path) -> None:
    """A file system of 64 KiB in a mount namespace of its own; skipped where that is forbidden."""
    script = (
        'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c '
        '\'import sys; sys.path[:0] = sys.argv[2].split(":"); '
        'from test_stream_file import fill_a_disk; fill_a_disk(sys.argv[1])\' "$1" "$3"'
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


# ------------------------------------------------------------------------------ going on


def test_cut_anywhere_in_the_last_packet_goes_on(tmp_path: Path) -> None:
    segment = make_segment()
    sink = FileSink(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    sink.begin(segment)
    packets = encode(segment.spec, 6)
    send(sink, packets)
    sink.abort()
    data = sink.path.read_bytes()
    size = len(packets[-1].pack())
    for cut in range(len(data) - size, len(data)):
        folder = tmp_path / str(cut)
        (folder / "scan-1").mkdir(parents=True)
        (folder / "scan-1" / "0000.ecd").write_bytes(data[:cut])
        again = resumed(folder, 3)
        again.end()
        assert again.path.name == "0000.ecd"
        assert_frames(again.path, 8, complete=True)


def test_power_loss_costs_no_more_than_what_was_not_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last fsync, any suffix may be lost, or be zeros, or old and new pages mixed."""
    forced = [0]

    def note(fd: int) -> None:
        if stream_file.os.fstat(fd).st_size < 1 << 20 and not Path(f"/proc/self/fd/{fd}").is_dir():
            forced[0] = os.fstat(fd).st_size

    rng = random.Random(9)
    segment = make_segment()
    packets = encode(segment.spec, 12)
    went_on = 0
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        sink = FileSink(folder, sync=SyncPolicy(packets=rng.choice((1, 2, 5))))
        monkeypatch.setattr(stream_file.os, "fsync", note)
        sink.begin(segment)
        send(sink, packets[: rng.randrange(1, 12)])
        safe = forced[0]
        monkeypatch.undo()
        sink.abort()
        data = bytearray(sink.path.read_bytes())
        lose(data, safe, rng)
        sink.path.write_bytes(data)
        whole = sum(1 for _ in read_whole(bytes(data[:safe])))
        again = resumed(folder, 2)
        again.end()
        if again.path == sink.path:
            went_on += 1
            assert len(decoded(again.path)) >= whole + 2
            assert_frames(again.path, len(decoded(again.path)), complete=True)
        else:
            assert bytes(data) == sink.path.read_bytes()
            assert len(decoded(sink.path)) >= whole
            assert_frames(again.path, 2, complete=True)
    assert 40 < went_on < 60


def read_whole(data: bytes) -> Iterator[Packet]:
    return StreamReader(io.BytesIO(data), recover=True).packets()


def lose(data: bytearray, safe: int, rng: random.Random) -> None:
    """Lose what a loss of power may cost after byte `safe`."""
    kind = rng.randrange(4)
    at = rng.randint(safe, len(data))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at:] = bytes(len(data) - at)
    elif kind == 2:
        data[at : at + 64] = bytes(len(data[at : at + 64]))  # a page that was not written back
    else:
        data[at:] = bytes(len(data) - at + rng.randrange(5000))


def test_complete_stream_goes_on(tmp_path: Path) -> None:
    resumed(tmp_path, 3).end()
    sink = resumed(tmp_path, 4)
    sink.end()
    assert sink.path.name == "0000.ecd"
    assert_frames(sink.path, 7, complete=True)


def test_header_that_is_cut_is_replaced_by_the_next_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scan-1").mkdir()
    (tmp_path / "scan-1" / "0000.ecd").write_bytes(b"\x89ECD\r\n\x1a\n\1\0")
    sink = resumed(tmp_path, 2)
    sink.end()
    assert "holds nothing" in caplog.text
    assert sink.path.name == "0001.ecd"
    assert_frames(sink.path, 2, complete=True)


def test_damaged_file_is_kept_and_the_next_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = resumed(tmp_path, 6)
    first.abort()
    data = bytearray(first.path.read_bytes())
    data[400] ^= 1
    first.path.write_bytes(data)
    sink = resumed(tmp_path, 2)
    sink.end()
    assert first.path.read_bytes() == data
    assert sink.path.name == "0001.ecd"
    assert_frames(sink.path, 2, complete=True)
    assert "is kept as it is" in caplog.text


def test_other_description_begins_the_next_file(tmp_path: Path) -> None:
    """Changed matrix, dtype or range of values in mid-series."""
    first = resumed(tmp_path, 3)
    first.abort()
    before = first.path.read_bytes()
    other = make_segment(high=1500)
    sink = resumed(tmp_path, 2, other)
    sink.end()
    assert sink.path.name == "0001.ecd"
    assert_frames(sink.path, 2, complete=True)
    assert first.path.read_bytes() == before


def test_encoder_that_does_not_go_on_gets_the_next_file(tmp_path: Path) -> None:
    """Without `resume_point`, packets are numbered from 0: nothing to append to."""
    first = resumed(tmp_path, 3)
    first.abort()
    sink = FileSink(tmp_path, resume=True)
    sink.begin(make_segment())
    send(sink, encode(make_segment().spec, 2))
    sink.end()
    assert sink.path.name == "0001.ecd"
    assert_frames(first.path, 3, complete=False)


def test_description_of_the_last_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, resume=True)
    assert sink.last_spec("scan-1") is None
    resumed(tmp_path, 2).end()
    assert sink.last_spec("scan-1") == make_segment().spec
    other = make_segment(high=1500)
    resumed(tmp_path, 2, other).abort()
    assert sink.last_spec("scan-1") == other.spec
    assert FileSink(tmp_path).last_spec("scan-1") is None
    (tmp_path / "scan-1" / "0002.ecd").write_bytes(b"\x89ECD")
    assert sink.last_spec("scan-1") is None
    with pytest.raises(SinkError, match="no name for a folder"):
        sink.last_spec("../scan-1")


def test_what_was_found_of_one_stream_is_not_gone_on_with_for_another(tmp_path: Path) -> None:
    first = resumed(tmp_path, 3)
    first.abort()
    before = first.path.read_bytes()
    sink = FileSink(tmp_path, resume=True)
    assert sink.resume_point(make_segment()) is not None
    sink.begin(replace(make_segment(), stream="other"))
    assert sink.path == tmp_path / "other" / "0000.ecd"
    assert first.path.read_bytes() == before
    assert FileSink(tmp_path, resume=True).resume_point(make_segment()) is not None  # not locked


def test_later_segments_of_a_sink_are_new_files(tmp_path: Path) -> None:
    sink = resumed(tmp_path, 3)
    sink.end()
    assert sink.resume_point(make_segment(1)) is None
    sink.begin(make_segment(1))
    assert sink.path.name == "0001.ecd"


def test_file_that_is_being_written_is_not_gone_on_with(
    tmp_path: Path, started: tuple[FileSink, list[Packet]]
) -> None:
    sink, packets = started
    with pytest.raises(SinkError, match="another process is writing"):
        FileSink(tmp_path, resume=True).resume_point(make_segment())
    send(sink, packets[3:])
    sink.end()
    assert_frames(sink.path, 10, complete=True)


def test_what_was_given_up_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = resumed(tmp_path, 3)
    first.abort()
    os.truncate(first.path, first.path.stat().st_size - 1)
    caplog.set_level(logging.INFO)
    resumed(tmp_path, 1).end()
    assert "goes on at byte" in caplog.text

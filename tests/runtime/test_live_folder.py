from __future__ import annotations

import io
import os
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Resume
from edge_codec.errors import BitstreamError, SourceError
from edge_codec.runtime.live_folder import LiveFolder, StreamTail
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink
from edge_codec.spec import CineInfo, StreamSpec

SPEC = StreamSpec(CineInfo(1, 0, 4, 4, np.dtype(np.int16)), 0, 99, key_interval=1)
HEADER = pack_header(SPEC)


def packets(n: int, first: int = 0, size: int = 100) -> list[Packet]:
    return [
        Packet(i, 0, i, True, {LayerId.RESIDUAL: bytes([i % 251]) * size})
        for i in range(first, first + n)
    ]


def complete(n: int) -> bytes:
    file = io.BytesIO()
    with StreamWriter(file, SPEC) as writer:
        for packet in packets(n):
            writer.write(packet)
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0000.ecd"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# ------------------------------------------------------------------------------ StreamTail


@pytest.mark.parametrize("step", [1, 7, 58, 100, 1000])
def test_tail_gives_every_packet_once_whatever_the_steps_of_writing(path: Path, step: int) -> None:
    data, tail, found = complete(6), StreamTail(path), []
    assert tail.poll() == []
    for at in range(0, len(data), step):
        append(path, data[at : at + step])
        found += tail.poll()
        assert tail.poll() == []
        assert tail.complete == (at + step >= len(data))
    assert found == packets(6)
    assert tail.spec == SPEC


@pytest.mark.parametrize("step", [1, 31, 1000])
def test_packets_in_their_short_form_are_followed_and_counted(tmp_path: Path, step: int) -> None:
    spec = replace(SPEC, info=replace(SPEC.info, n_slices=2), key_interval=4)
    expected = [
        Packet(i, i % 2, i // 2, i // 2 % 4 == 0, {LayerId.RESIDUAL: bytes([i]) * 60})
        for i in range(12)
    ]
    file = io.BytesIO()
    with StreamWriter(file, spec) as writer:
        sizes = [writer.write(packet) for packet in expected]
    assert max(sizes[2:8]) < sizes[0]
    path = tmp_path / "scan" / "0000.ecd"
    path.parent.mkdir()
    tail, folder, found = StreamTail(path), LiveFolder(tmp_path), []
    for at in range(0, len(file.getvalue()), step):
        append(path, file.getvalue()[at : at + step])
        found += tail.poll()
        assert folder.streams()[0].segments[0].frames == len(found)
    assert found == expected


def test_tail_of_a_cut_file_waits(path: Path) -> None:
    data = complete(3)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        tail = StreamTail(path)
        found = [packet for _ in range(4) for packet in tail.poll()]
        assert found == packets(len(found))
        assert not tail.complete
    assert len(found) == 3


def test_tail_is_not_confused_by_a_stream_that_goes_on(tmp_path: Path) -> None:
    """A cut packet, and index and footer, make room for packets."""
    rng = random.Random(3)
    segment, found = Segment("live", 0, SPEC), []
    tail = StreamTail(tmp_path / "live" / "0000.ecd")
    sent = 0
    for _ in range(30):
        sink = FileSink(tmp_path, resume=True)
        resume = sink.resume_point(segment) or Resume()
        assert resume.sequence == sent
        sink.begin(segment)
        for packet in packets(rng.randrange(4), sent):
            sink.send(packet, packet.pack())
            sent += 1
            if rng.random() < 0.5:
                found += tail.poll()
        if rng.random() < 0.5:
            sink.end()
        else:
            sink.abort()
            append(sink.path, packets(1, sent)[0].pack()[: rng.randrange(100)])
        for _ in range(rng.randrange(3)):
            found += tail.poll()
    found += tail.poll()
    assert found == packets(sent)


def test_memory_of_a_poll_is_bounded(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(p.pack() for p in packets(40, size=100_000)))
    tail, found = StreamTail(path), []
    tracemalloc.start()
    try:
        while new := tail.poll(max_bytes=250_000):
            assert len(new) == 2
            found += [packet.sequence for packet in new]
            del new
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == list(range(40))
    assert peak < 1_000_000


def test_packet_larger_than_the_limit_comes_alone(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(p.pack() for p in packets(3)))
    tail = StreamTail(path)
    assert [tail.poll(max_bytes=1) for _ in range(4)] == [[p] for p in packets(3)] + [[]]


def damage_payload(data: bytearray) -> None:
    data[len(HEADER) + 150] ^= 1


def damage_head(data: bytearray) -> None:
    data[len(HEADER) + len(packets(1)[0].pack()) + 4] ^= 1


def repeat_packet(data: bytearray) -> None:
    data[len(HEADER) :] = packets(1)[0].pack() * 2 + bytes(100)


def wrong_slice(data: bytearray) -> None:
    wrong = replace(packets(2)[1], slice_index=1)
    data[len(HEADER) :] = packets(1)[0].pack() + wrong.pack() + bytes(100)


@pytest.mark.parametrize("damage", [damage_payload, damage_head, repeat_packet, wrong_slice])
def test_damage_is_told_when_it_stays(path: Path, damage: Callable[[bytearray], None]) -> None:
    data = bytearray(complete(4))
    damage(data)
    path.write_bytes(data)
    tail = StreamTail(path)
    assert len(tail.poll()) <= 1  # it may be about to change
    for _ in range(2):
        with pytest.raises(BitstreamError, match=r"0000.ecd, byte \d+"):
            tail.poll()
    path.write_bytes(complete(4))  # mended by another writer
    os.utime(path, (1, 1))
    tail.poll()
    assert tail.complete


@pytest.mark.parametrize("data", [b"something else", b"\x89ECD\r\n\x1a\n\2\0" + bytes(20)])
def test_other_files_are_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tail = StreamTail(path)
    tail.poll()
    with pytest.raises(BitstreamError):
        tail.poll()


def test_damaged_header_is_told(path: Path) -> None:
    data = bytearray(complete(1))
    data[30] ^= 1
    path.write_bytes(data)
    tail = StreamTail(path)
    tail.poll()
    with pytest.raises(BitstreamError, match="header"):
        tail.poll()


def test_replaced_and_removed_files(path: Path) -> None:
    path.write_bytes(complete(3))
    tail = StreamTail(path)
    assert len(tail.poll()) == 3
    path.write_bytes(complete(1))
    with pytest.raises(BitstreamError, match="was replaced"):
        tail.poll()
    path.unlink()
    with pytest.raises(SourceError, match="removed"):
        tail.poll()
    path.mkdir()
    with pytest.raises(SourceError, match="cannot be read"):
        tail.poll()


def test_noise_never_escapes_as_another_error(path: Path) -> None:
    rng = random.Random(4)
    data = complete(3)
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(len(damaged) + 1)])
        tail, found = StreamTail(path), []
        try:
            for _ in range(3):
                found += tail.poll()
        except BitstreamError:
            pass
        assert found == packets(len(found)) or tail.spec != SPEC


# ------------------------------------------------------------------------------ LiveFolder


def write_stream(folder: Path, name: str, n: int, *, end: bool, number: int = 0) -> Path:
    sink = FileSink(folder, resume=number > 0)
    sink.begin(Segment(name, number, SPEC))
    for packet in packets(n):
        sink.send(packet, packet.pack())
    if end:
        sink.end()
    else:
        sink.abort()
    return sink.path


def summary(folder: LiveFolder) -> dict[str, list[tuple[int, int, bool]]]:
    return {
        stream.name: [(s.number, s.frames, s.complete) for s in stream.segments]
        for stream in folder.streams()
    }


def test_streams_and_segments_are_listed(tmp_path: Path) -> None:
    folder = LiveFolder(tmp_path)
    assert folder.streams() == ()
    write_stream(tmp_path, "b", 3, end=True)
    write_stream(tmp_path, "b", 2, end=False, number=1)
    growing = write_stream(tmp_path, "a", 4, end=False)
    assert summary(folder) == {"a": [(0, 4, False)], "b": [(0, 3, True), (1, 2, False)]}
    assert folder.streams()[1].frames == 5
    entry = folder.streams()[0].segments[0]
    assert (entry.path, entry.spec, entry.size) == (growing, SPEC, growing.stat().st_size)
    append(growing, packets(1, 4)[0].pack() + b"\xecP")
    assert summary(folder)["a"] == [(0, 5, False)]
    append(growing, packets(1, 5)[0].pack()[2:])
    assert summary(folder)["a"] == [(0, 6, False)]


def test_replaced_file_is_counted_anew(tmp_path: Path) -> None:
    folder = LiveFolder(tmp_path)
    path = write_stream(tmp_path, "a", 4, end=True)
    assert summary(folder) == {"a": [(0, 4, True)]}
    path.write_bytes(HEADER + packets(1)[0].pack())
    assert summary(folder) == {"a": [(0, 1, False)]}
    path.unlink()
    assert summary(folder) == {}


def test_what_is_no_stream_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file.ecd").write_bytes(complete(1))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "0000.ecd").write_bytes(HEADER[:50])
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "0000.ecd").write_bytes(bytes(500))
    (tmp_path / "link").symlink_to(tmp_path / "cut")
    folder = LiveFolder(tmp_path)
    assert summary(folder) == {"cut": [(0, 0, False)], "noise": [(0, 0, False)]}
    assert folder.streams()[0].segments[0].spec is None


def test_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        LiveFolder(tmp_path / "nowhere").streams()

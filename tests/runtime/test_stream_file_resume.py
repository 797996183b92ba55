from __future__ import annotations

import io
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stream_file_samples import (
    assert_frames,
    bytes_in_file,
    closing_sinks,
    decoded,
    encode,
    make_segment,
    resumed,
    send,
    start,
)

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import Packet
from edge_codec.errors import SinkError
from edge_codec.runtime import stream_file
from edge_codec.runtime.stream_file import FileSink, SyncPolicy


@pytest.fixture(autouse=True)
def no_open_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from closing_sinks(monkeypatch)


@pytest.fixture
def started(tmp_path: Path) -> tuple[FileSink, list[Packet]]:
    return start(tmp_path)


def test_cut_anywhere_in_the_last_packet_goes_on(tmp_path: Path) -> None:
    segment = make_segment()
    sink = FileSink(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    sink.begin(segment)
    packets = encode(segment.spec, 6)
    send(sink, packets)
    sink.abort()
    data = sink.path.read_bytes()
    size = bytes_in_file(tmp_path, packets)
    for cut in range(len(data) - size, len(data)):
        folder = tmp_path / str(cut)
        (folder / "scan-1").mkdir(parents=True)
        (folder / "scan-1" / "0000.ecd").write_bytes(data[:cut])
        again = resumed(folder, 3)
        again.end()
        assert again.path.name == "0000.ecd"
        assert_frames(again.path, 8, complete=True)


@pytest.mark.parametrize("key_interval", [1, 4])
def test_power_loss_costs_no_more_than_what_was_not_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_interval: int
) -> None:
    """After the last fsync, any suffix may be lost, or be zeros, or old and new pages mixed."""
    forced = [0]

    def note(fd: int) -> None:
        if stream_file.os.fstat(fd).st_size < 1 << 20 and not Path(f"/proc/self/fd/{fd}").is_dir():
            forced[0] = os.fstat(fd).st_size

    rng = random.Random(9)
    segment = make_segment(key_interval=key_interval)
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
        again = resumed(folder, 2, segment)
        again.end()
        if again.path == sink.path:
            went_on += 1
            assert len(decoded(again.path)) >= whole + 2
            assert_frames(again.path, len(decoded(again.path)), complete=True)
        else:
            assert bytes(data) == sink.path.read_bytes()
            assert len(decoded(sink.path)) >= whole
            assert_frames(again.path, 2, complete=True)
    assert 40 < went_on <= (59 if key_interval == 1 else 60)


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

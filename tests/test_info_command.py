"""`edge-codec info` of live streams: their notes, and a folder of them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.cli import Console, main
from edge_codec.codec import Encoder
from edge_codec.exit_status import ExitStatus
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink
from edge_codec.spec import CineInfo, StreamSpec

INFO = CineInfo(1, 0, 200, 8, np.dtype(np.int16))  # two bands
SPEC = StreamSpec(INFO, 0, 999, key_interval=8)


def info(source: Path, *options: str) -> tuple[int, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main(["info", str(source), *options], console)
    return status, console.out.getvalue()


def write(folder: Path, notes: list[bytes | None], *, name: str = "scan", end: bool = True) -> Path:
    """A live stream; every third frame has no time left, and every fifth is a key frame."""
    sink, encoder = FileSink(folder), Encoder(SPEC)
    sink.begin(Segment(name, 0, SPEC))
    rng = np.random.default_rng(2)
    for i, note in enumerate(notes):
        frame = rng.integers(0, 1000, INFO.frame_shape).astype(np.int16)
        frame[:150] //= 100  # so that it is coded and not raw
        packet = encoder.push(frame, key=i % 5 == 0, give_up_ns=0 if i % 3 == 0 else None)
        packet = with_note(packet, note)
        sink.send(packet, packet.pack())
    if end:
        sink.end()
    else:
        sink.abort()
    return sink.path


def with_note(packet: Packet, note: bytes | None) -> Packet:
    return packet if note is None else replace(packet, layers={**packet.layers, LayerId.LIVE: note})


def notes(n: int) -> list[bytes | None]:
    return [
        LiveNote(
            (Policy.ADAPTIVE, Policy.DROP_OLDEST)[i % 2], i, 10 * i, 5, i % 2, i == 2, i > 7
        ).pack()
        for i in range(n)
    ]


def fields(path: Path) -> dict[str, Any]:
    return json.loads(info(path, "--json")[1])


def test_notes_add_up(tmp_path: Path) -> None:
    path = write(tmp_path, notes(11))
    found = fields(path)
    assert found["frames"] == found["live_frames"] == 11
    assert found["key_frames"] == 4  # 0, 5, 8, 10
    assert found["live_policies"] == ["adaptive", "drop-oldest"]
    assert found["live_dropped"] == 5
    assert found["live_late"] == 3
    assert found["live_clock_jumps"] == 1
    assert found["live_latency_us_p50_p99_max"] == pytest.approx([55.0, 104.0, 105.0])
    assert found["live_unreadable_notes"] == 0
    assert found["layer_bytes"]["live"] == 11 * 24
    fast, bands = found["live_bands_as_fast_of_all"]
    assert bands == 22
    assert 0 < fast <= 8  # of frames 0, 3, 6, 9
    status, text = info(path)
    assert status == ExitStatus.OK
    assert "live latency us p50 p99 max" in text


def test_stream_without_notes_has_no_statistics_of_them(tmp_path: Path) -> None:
    assert not any(name.startswith("live") for name in fields(write(tmp_path, [None] * 3)))


def test_hostile_notes_are_counted_and_hurt_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, [b"", b"\xff" * 24, *notes(1), bytes(1000)])
    found = fields(path)
    assert (found["live_frames"], found["live_unreadable_notes"]) == (1, 3)
    assert found["complete"]
    only = fields(write(tmp_path, [b"?"], name="only"))
    assert (only["live_frames"], only["live_unreadable_notes"]) == (0, 1)
    assert only["live_latency_us_p50_p99_max"] == []


def test_hostile_residual_layer_is_left_to_its_decoder(tmp_path: Path) -> None:
    sink = FileSink(tmp_path)
    sink.begin(Segment("scan", 0, SPEC))
    (note,) = notes(1)
    layers = {LayerId.RESIDUAL: b"\xff" * 9, LayerId.LIVE: note}
    packet = Packet(0, 0, 0, True, layers)
    sink.send(packet, packet.pack())
    sink.end()
    assert fields(sink.path)["live_bands_as_fast_of_all"] == [0, 0]


def test_stream_that_is_being_written(tmp_path: Path) -> None:
    path = write(tmp_path, notes(3), end=False)
    status, out = info(path, "--json")
    assert status == ExitStatus.DAMAGED
    assert json.loads(out)["live_frames"] == 3


def test_folder_of_live_streams_is_listed(tmp_path: Path) -> None:
    write(tmp_path, notes(3), name="b", end=False)
    path = write(tmp_path, notes(2), name="a")
    found = fields(tmp_path)
    assert list(found) == ["source", "a/0000.ecd", "b/0000.ecd"]
    assert found["a/0000.ecd"] == {
        "frames": 2,
        "slices": 1,
        "rows": 200,
        "columns": 8,
        "bytes": path.stat().st_size,
        "complete": True,
    }
    assert found["b/0000.ecd"]["frames"] == 3
    assert not found["b/0000.ecd"]["complete"]
    status, text = info(tmp_path)
    assert status == ExitStatus.OK
    assert "a/0000.ecd  frames 2, slices 1, rows 200" in text

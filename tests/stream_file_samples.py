"""Small streams written by `FileSink`, for tests of writing, of faults and of going on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import Packet
from edge_codec.bitstream.verify import verify
from edge_codec.codec import Decoder, Encoder, Resume
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink
from edge_codec.spec import CineInfo, Effort, StreamSpec


def make_segment(number: int = 0, n_phases: int = 0, **changes: Any) -> Segment:
    info = CineInfo(1, n_phases, 12, 10, np.dtype(np.int16))
    spec = StreamSpec(info, 0, 999, effort=Effort.FAST, key_interval=4)
    return Segment("scan-1", number, replace(spec, **changes))


def frame(phase: int) -> np.ndarray:
    return np.random.default_rng(phase).integers(0, 1000, (12, 10)).astype(np.int16)


def encode(spec: StreamSpec, n: int, resume: Resume | None = None) -> list[Packet]:
    encoder = Encoder(spec, resume=resume)
    first = resume.next_phases.get(0, 0) if resume else 0
    return [encoder.push(frame(first + i)) for i in range(n)]


def send(sink: FileSink, packets: list[Packet]) -> None:
    for packet in packets:
        sink.send(packet, packet.pack())


def bytes_in_file(folder: Path, packets: list[Packet]) -> int:
    """How many bytes the last packet takes in a file that has the others before it."""
    (folder / "size").mkdir()
    sink = FileSink(folder / "size")
    sink.begin(make_segment())
    send(sink, packets[:-1])
    before = sink.path.stat().st_size
    send(sink, packets[-1:])
    sink.abort()
    return sink.path.stat().st_size - before


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


def closing_sinks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Abort, after a test, every sink that it made."""
    made, init = [], FileSink.__init__

    def note(sink: FileSink, *args: Any, **options: Any) -> None:
        made.append(sink)
        init(sink, *args, **options)

    monkeypatch.setattr(FileSink, "__init__", note)
    yield
    for sink in made:
        sink.abort()


def start(folder: Path) -> tuple[FileSink, list[Packet]]:
    """A sink after three of ten packets."""
    sink, segment = FileSink(folder), make_segment()
    packets = encode(segment.spec, 10)
    sink.begin(segment)
    send(sink, packets[:3])
    return sink, packets

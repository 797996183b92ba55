from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_samples import make_packets, make_spec, make_stream, starts_of

from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.short_packet import MAX_FIRST_LAYER
from edge_codec.bitstream.verify import verify
from edge_codec.errors import FrameError
from edge_codec.spec import ModelId, StreamSpec

# One frame: header, packet, index, footer.
GOLDEN = (
    "894543440d0a1a0a010000009c00000001000000010000000400000006000000030000000000000002000000"
    "ed030000fbffffffffffffffffffffffffffffff050000000000000001000000010000000000000000000000"
    "00000000000000000000000000000000000000000000f03f0000000000000000000000000000000000000000"
    "00000000000000000000000004000000000000001d89f6be"
    "ec501200000009901820eb7c02b37dffffffffffffffffff"
    "ec500801000003057036f516d18ae8000118"
    "b4000000000000000100000091c381b489454344454e440a"
)


class Pipe(io.RawIOBase):
    """Takes at most seven bytes at a time and cannot seek; counts what is flushed."""

    def __init__(self) -> None:
        self.data = b""
        self.flushed = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.data += bytes(data[:7])
        return min(7, len(data))

    def flush(self) -> None:
        self.flushed = len(self.data)


def test_stream_has_the_bytes_of_the_specification() -> None:
    assert make_stream(make_spec(1, 1)) == bytes.fromhex(GOLDEN)


def test_pipe_gets_every_packet_at_once() -> None:
    spec, pipe = make_spec(rich=True), Pipe()
    writer = StreamWriter(pipe, spec)
    assert pipe.flushed == len(pack_header(spec))
    for packet in make_packets(spec):
        size = writer.write(packet)
        assert pipe.flushed == len(pipe.data) == writer.offset
        assert pipe.data.endswith(packet.pack())
        assert size == len(packet.pack())
    writer.close()
    writer.close()
    assert pipe.data == make_stream(spec)


def test_stream_begins_where_the_file_stands() -> None:
    file = io.BytesIO(b"head of another format")
    file.seek(0, io.SEEK_END)
    with StreamWriter(file, make_spec(1, 1)) as writer:
        writer.write(make_packets(make_spec(1, 1))[0])
    assert file.getvalue() == b"head of another format" + bytes.fromhex(GOLDEN)


def test_exception_leaves_a_recoverable_file() -> None:
    file, spec = io.BytesIO(), make_spec()
    with contextlib.suppress(KeyError), StreamWriter(file, spec) as writer:
        writer.write(make_packets(spec)[0])
        raise KeyError
    assert not verify(file).ok
    assert list(StreamReader(file, recover=True).packets()) == make_packets(spec)[:1]


def test_slices_may_be_interleaved_in_any_way() -> None:
    spec = make_spec(2, 3)
    by_slice = sorted(make_packets(spec), key=lambda packet: packet.slice_index)
    renumbered = [
        Packet(i, p.slice_index, p.phase_index, p.key, p.layers) for i, p in enumerate(by_slice)
    ]
    assert verify(io.BytesIO(make_stream(spec, renumbered))).ok


RESIDUAL = {LayerId.RESIDUAL: b"x"}


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (Packet(1, 0, 0, True, RESIDUAL), "sequence number 1 where 0"),
        (Packet(0, 2, 0, True, RESIDUAL), "2 slices"),
        (Packet(5, 0, 3, False, RESIDUAL), "sequence"),
        (Packet(0, 0, 0, False, RESIDUAL), "no key frame"),
        (Packet(0, 0, 2, True, RESIDUAL), "after only 0"),
        (Packet(0, 0, 0, True, {}), "demands"),
        (Packet(0, 0, 0, True, {LayerId.BASE: b"", **RESIDUAL}), "demands"),
    ],
)
def test_packet_that_does_not_fit_is_refused(packet: Packet, message: str) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, make_spec())
    size = len(file.getvalue())
    with pytest.raises(FrameError, match=message):
        writer.write(packet)
    assert len(file.getvalue()) == size
    writer.write(make_packets(make_spec())[0])


@pytest.mark.parametrize("phase", [0, 2, 4])
def test_phase_out_of_turn_is_refused(phase: int) -> None:
    spec = make_spec(3, 9)
    writer = StreamWriter(io.BytesIO(), spec)
    for packet in make_packets(spec)[:4]:  # phase 0 of all slices, phase 1 of the first
        writer.write(packet)
    with pytest.raises(FrameError):
        writer.write(Packet(4, 1, phase, True, RESIDUAL))


def test_close_before_the_last_frame_is_refused() -> None:
    writer = StreamWriter(io.BytesIO(), make_spec())
    writer.write(make_packets(make_spec())[0])
    with pytest.raises(FrameError, match="1 of 6 frames"):
        writer.close()


def test_write_after_close_is_refused() -> None:
    spec = make_spec(1, 0)
    writer = StreamWriter(io.BytesIO(), spec)
    writer.close()
    with pytest.raises(FrameError, match="closed"):
        writer.write(make_packets(spec, n_phases=1)[0])


def forms(spec: StreamSpec, packets: list[Packet]) -> str:
    """F for each packet in full, s for each in short form; the stream must be right."""
    starts, data = starts_of(spec, packets), make_stream(spec, packets)
    assert verify(io.BytesIO(data)).ok
    assert list(StreamReader(io.BytesIO(data)).packets()) == packets
    return "".join("s" if data[start] < 128 else "F" for start in starts[:-1])


def renumbered(packets: list[Packet]) -> list[Packet]:
    return [replace(packet, sequence=number) for number, packet in enumerate(packets)]


def test_predicted_frames_stand_in_short_form() -> None:
    spec = make_spec(3, 5, key_interval=4)
    packets = make_packets(spec)
    assert forms(spec, packets) == "FFF" + 9 * "s" + "FFF"
    by_slice = renumbered(sorted(packets, key=lambda packet: packet.slice_index))
    assert forms(spec, by_slice) == 3 * "FsssF"
    spec = make_spec(2, 5, key_interval=4, archive=True, model=ModelId.DWT_CAL, max_error=None)
    assert forms(spec, make_packets(spec)) == "FF" + 6 * "s" + "FF"


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        ({3: {"key": True}}, "FFFFsssss"),
        ({4: {"layers": {LayerId.RESIDUAL: b"", LayerId.LIVE: b"note"}}}, "FFFsFssss"),
        ({5: {"layers": {LayerId.RESIDUAL: b"", LayerId.METADATA: bytes(4)}}}, "FFFssFsss"),
        ({6: {"layers": {LayerId.RESIDUAL: bytes(MAX_FIRST_LAYER + 1)}}}, "FFFsssFss"),
        ({6: {"layers": {LayerId.RESIDUAL: bytes(MAX_FIRST_LAYER)}}}, "FFFssssss"),
    ],
)
def test_other_frames_stand_in_full(changed: dict[int, dict[str, Any]], due: str) -> None:
    spec = make_spec(3, 3, key_interval=9)
    packets = [replace(p, **changed.get(p.sequence, {})) for p in make_packets(spec)]
    assert forms(spec, packets) == due


def test_frame_of_another_slice_than_the_next_stands_in_full() -> None:
    spec = make_spec(3, 3, key_interval=9)
    backwards = sorted(make_packets(spec), key=lambda p: (p.phase_index, -p.slice_index))
    assert forms(spec, renumbered(backwards)) == 9 * "F"


def test_data_of_a_packet_is_written_where_it_has_no_short_form() -> None:
    spec, file = make_spec(1, 2), io.BytesIO()
    first, second = make_packets(spec)
    writer = StreamWriter(file, spec)
    assert writer.write(first, first.pack()) == len(first.pack())
    assert writer.write(second, second.pack()) == 1 + 4 + 9
    writer.close()
    assert file.getvalue() == make_stream(spec)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_any_interleaving_comes_back(n_slices: int, key_interval: int, data: st.DataObject) -> None:
    n_phases = data.draw(st.integers(1, 5))
    archive = data.draw(st.booleans())
    model, max_error = (ModelId.DWT_CAL, None) if archive else (ModelId.NONE, 0)
    spec = make_spec(
        n_slices,
        n_phases,
        key_interval=key_interval,
        archive=archive,
        model=model,
        max_error=max_error,
    )
    queues = [
        [p for p in make_packets(spec, size=50) if p.slice_index == i] for i in range(n_slices)
    ]
    packets: list[Packet] = []
    while any(queues):
        queue = queues[data.draw(st.sampled_from([i for i, q in enumerate(queues) if q]))]
        packets.append(queue.pop(0))
    packets = renumbered(packets)
    stream = make_stream(spec, packets)
    assert verify(io.BytesIO(stream)).ok
    for recover in (False, True):
        reader = StreamReader(io.BytesIO(stream), recover)
        assert list(reader.packets()) == packets
        for packet in packets[::-1]:
            assert reader.read(packet.slice_index, packet.phase_index) == packet
    cut = data.draw(st.integers(0, len(packets)))
    part = stream[: starts_of(spec, packets)[cut]]
    assert list(StreamReader(io.BytesIO(part), recover=True).packets()) == packets[:cut]

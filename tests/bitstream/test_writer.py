from __future__ import annotations

import contextlib
import io

import pytest
from stream_samples import make_packets, make_spec, make_stream

from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import verify
from edge_codec.errors import FrameError

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

from __future__ import annotations

import contextlib
import faulthandler
import io
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import mutated_payloads, mutations, repair
from stream_samples import make_packets, make_spec, make_stream

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.header import pack_header, unpack_header
from edge_codec.bitstream.index import Footer, unpack_index
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.metadata import unpack_metadata
from edge_codec.bitstream.packet import LayerId, Packet, unpack_head
from edge_codec.bitstream.packet_file import always
from edge_codec.bitstream.short_packet import Place, is_short, pack_short, unpack_short
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError, FrameError
from edge_codec.spec import ModelId

ARCHIVE = make_spec(2, 7, key_interval=4, model=ModelId.DWT_CAL, max_error=None, archive=True)
STREAM_COUNT = 70_000
PART_COUNT = 30_000
HANG_S = 600


@pytest.fixture(autouse=True)
def hang_guard() -> Iterator[None]:
    """Show where it hangs and stop, instead of blocking for ever."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def streams() -> list[bytes]:
    live = make_spec(1, 0, key_interval=1)
    return [
        make_stream(make_spec(2, 2)),
        make_stream(make_spec(1, 3, rich=True)),
        make_stream(live, make_packets(live, n_phases=2)),
        make_stream(live, []),
        make_stream(make_spec(2, 3, key_interval=4), noted_packets()),
        make_stream(make_spec(2, 6, key_interval=5)),
        make_stream(make_spec(1, 5, key_interval=5, model=ModelId.VIDEO, max_error=1)),
        make_stream(ARCHIVE),
    ]


def noted_packets() -> list[Packet]:
    """Packets of a live stream: each with a note, some of them key frames that need not be."""
    packets = make_packets(make_spec(2, 3, key_interval=4))
    return [
        Packet(
            p.sequence,
            p.slice_index,
            p.phase_index,
            p.key or p.sequence % 3 == 0,
            {**p.layers, LayerId.LIVE: LiveNote(Policy.ADAPTIVE, 1 << 60, 5, 6).pack()},
        )
        for p in packets
    ]


def read_all(data: bytes) -> None:
    """Every way of reading; anything but BitstreamError that comes out is a failure."""
    report = verify(io.BytesIO(data))
    if report.spec is None:
        return
    try:
        reader = StreamReader(io.BytesIO(data))
        read = list(reader.packets())
    except BitstreamError:
        assert not report.ok, "read as strict finds more than verify"
        read = []
    else:
        assert report.ok, "verify finds more than a strict reading"
    for packet in read:
        assert reader.read(packet.slice_index, packet.phase_index).pack() == packet.pack()
    for packet in read:
        unpack_layer(packet, report.spec.info.source.data)


def unpack_layer(packet: Packet, dictionary: bytes) -> None:
    if LayerId.METADATA in packet.layers:
        with contextlib.suppress(BitstreamError):
            unpack_metadata(packet.layers[LayerId.METADATA], dictionary)
    if LayerId.LIVE in packet.layers:
        with contextlib.suppress(BitstreamError):
            LiveNote.unpack(packet.layers[LayerId.LIVE])


@pytest.mark.slow
def test_mutated_streams_raise_nothing_but_bitstream_errors(streams: list[bytes]) -> None:
    for data in mutations(streams, STREAM_COUNT, seed=20):
        read_all(data)


def test_mutated_payloads_pass_the_container_and_reach_the_layers(streams: list[bytes]) -> None:
    whole = [*streams[:3], *streams[4:7]]
    for data in mutated_payloads(whole, 1000, seed=21):
        reader = StreamReader(io.BytesIO(data))
        for packet in reader.packets():
            unpack_layer(packet, reader.spec.info.source.data)


def parse_index(data: bytes) -> object:
    head = unpack_head(data)
    return unpack_index(head, data[head.head_size :], 0, 1 << 20, ARCHIVE)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "header": unpack_header,
    "packet": Packet.unpack,
    "index": parse_index,
    "footer": Footer.unpack,
    "note": LiveNote.unpack,
    "short packet": lambda data: (
        unpack_short(data, always(Place(1, 0, 1)), tuple(LayerId)[:2]) if is_short(data) else None
    ),
    "metadata": lambda data: unpack_metadata(data, b"DICM header bytes " * 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARSERS)
def test_mutated_parts_raise_nothing_but_bitstream_errors(part: str, streams: list[bytes]) -> None:
    rich = streams[1]
    (index_offset,) = struct.unpack_from("<Q", rich, len(rich) - 24)
    packet = make_packets(make_spec(1, 3, rich=True))[1]
    whole = {
        "header": pack_header(make_spec(1, 3, rich=True)),
        "packet": packet.pack(),
        "index": rich[index_offset:-24],
        "footer": rich[-24:],
        "note": noted_packets()[0].layers[LayerId.LIVE],
        "short packet": pack_short(packet, next_slice=True),
        "metadata": packet.layers[LayerId.METADATA],
    }[part]
    header = streams[3][: struct.unpack_from("<I", streams[3], 12)[0]]
    count = PART_COUNT // len(PARSERS)
    for number, mutated in enumerate(mutations([whole], count, seed=22)):
        data = mutated
        if part in ("packet", "index") and number % 2:
            data = repair(bytearray(header + mutated))[len(header) :]
        with contextlib.suppress(BitstreamError):
            PARSERS[part](data)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_noise_after_a_valid_header_is_survived(noise: bytes, sync: bool) -> None:
    header = pack_header(make_spec())
    data = bytearray(header + (b"\xecP\x12\0\0\0" if sync else b"") + noise)
    read_all(bytes(data))
    read_all(repair(data))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_no_stream(noise: bytes) -> None:
    assert not verify(io.BytesIO(noise)).ok
    with pytest.raises(BitstreamError):
        StreamReader(io.BytesIO(noise), recover=True)


def test_recovered_frames_are_read_at_random_too(streams: list[bytes]) -> None:
    for data in mutations(streams, 2000, seed=23):
        try:
            reader = StreamReader(io.BytesIO(data), recover=True)
        except BitstreamError:
            continue
        places = [(packet.slice_index, packet.phase_index) for packet in reader.packets()]
        for place in places:
            list(reader.read_chain(*place))
        with pytest.raises(FrameError):
            reader.read(0, (1 << 32) - 1)

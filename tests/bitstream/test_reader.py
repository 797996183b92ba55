from __future__ import annotations

import io
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import repair
from stream_samples import make_packets, make_spec, make_stream

from edge_codec.bitstream.container import MAX_REPORTS, StreamReader, StreamWriter
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.index import Footer, pack_index
from edge_codec.bitstream.packet import LayerId, Packet, PacketHead
from edge_codec.bitstream.packet_file import PacketFile
from edge_codec.bitstream.varint import pack_varint, read_varint
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError, FrameError, SourceError

SPEC = make_spec(2, 6, key_interval=3)
PACKETS = make_packets(SPEC)
DATA = make_stream(SPEC)
NONE = np.zeros(0, np.uint32)
STARTS = [len(pack_header(SPEC))]
for _packet in PACKETS:
    STARTS.append(STARTS[-1] + len(_packet.pack()))


def with_size(data: bytes, packet_at: int, size: int) -> bytes:
    """The stream with another size for the first layer of a packet; its CRC is wrong."""
    at = packet_at + 6  # after sync, contents and three numbers of one byte each
    _, end = read_varint(data, at)
    return data[:at] + pack_varint(size) + data[end:]


def recovered(data: bytes) -> tuple[list[int], StreamReader]:
    reader = StreamReader(io.BytesIO(data), recover=True)
    return [packet.sequence for packet in reader.packets()], reader


def test_packets_come_back_in_order() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    assert reader.spec == SPEC
    assert reader.complete
    assert list(reader.packets()) == PACKETS
    assert list(reader.packets()) == PACKETS
    assert reader.damage == ()


@pytest.mark.parametrize("recover", [False, True])
def test_random_access(recover: bool) -> None:
    reader = StreamReader(io.BytesIO(DATA), recover=recover)
    for packet in reversed(PACKETS):
        assert reader.read(packet.slice_index, packet.phase_index) == packet
    assert [packet.phase_index for packet in reader.read_chain(1, 5)] == [3, 4, 5]
    for place in ((2, 0), (0, 6), (-1, 0), (0, 1 << 40)):
        with pytest.raises(FrameError, match="no frame of slice"):
            reader.read(*place)


def test_reading_at_random_between_the_packets() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    for packet in reader.packets():
        assert reader.read(0, 0) == PACKETS[0]
        assert packet == PACKETS[packet.sequence]


def test_live_stream_tells_its_phases() -> None:
    spec = make_spec(2, 0)
    data = make_stream(spec, make_packets(spec, n_phases=5))
    assert StreamReader(io.BytesIO(data)).n_phases == 5
    assert StreamReader(io.BytesIO(data[:-30]), recover=True).n_phases == 5
    assert StreamReader(io.BytesIO(make_stream(spec, []))).n_phases == 0
    assert StreamReader(io.BytesIO(DATA)).n_phases == 6


def test_cut_at_any_byte_gives_the_whole_packets_before_it() -> None:
    for cut in range(len(DATA)):
        if cut < STARTS[0]:
            with pytest.raises(BitstreamError):
                StreamReader(io.BytesIO(DATA[:cut]), recover=True)
            continue
        with pytest.raises(BitstreamError, match=r"^byte \d+: .*decompress --recover"):
            StreamReader(io.BytesIO(DATA[:cut]))
        whole = sum(1 for end in STARTS[1:] if end <= cut)
        found, reader = recovered(DATA[:cut])
        assert found == list(range(whole))
        assert not reader.complete
        assert reader.damage


def test_flipped_byte_in_a_packet_costs_its_group_in_its_slice_only() -> None:
    for position in range(STARTS[2], STARTS[3]):  # slice 0, phase 1; keys are phases 0 and 3
        damaged = bytearray(DATA)
        damaged[position] ^= 0x40
        found, reader = recovered(bytes(damaged))
        assert found == [0, 1, 3, 5, 6, 7, 8, 9, 10, 11]
        assert not reader.complete
        assert any(STARTS[2] <= report.offset <= STARTS[3] for report in reader.damage)
        assert any("phase 1 before it is lost" in report.what for report in reader.damage)
        with pytest.raises(FrameError):
            reader.read(0, 2)
        with pytest.raises(BitstreamError, match=r"byte \d+"):
            list(StreamReader(io.BytesIO(damaged)).packets())


def test_report_says_what_is_lost() -> None:
    damaged = bytearray(DATA[: STARTS[-1]])
    damaged[STARTS[3] - 1] ^= 1  # last payload byte of slice 0, phase 1
    _, reader = recovered(bytes(damaged))
    first, *rest = (report.what for report in reader.damage)
    assert "no footer" in first
    patterns = [
        "layer 1 of packet 2 is damaged",
        "packet 4: phase 2 of slice 0 cannot be decoded: phase 1 before it is lost",
        "packet 6: phases 1 to 2 of slice 0 are missing",
        "10 frames found; the header promises 12",
    ]
    assert len(rest) == len(patterns)
    for what, pattern in zip(rest, patterns, strict=True):
        assert pattern in what


def test_report_names_missing_packets() -> None:
    _, reader = recovered(DATA[: STARTS[6]] + DATA[STARTS[8] : STARTS[-1]])
    assert [r.what for r in reader.damage if "missing" in r.what] == ["packets 6 to 7 are missing"]


def test_packet_with_a_size_beyond_the_end_hides_none() -> None:
    damaged = with_size(DATA, STARTS[3], 10_000)
    found, _ = recovered(repair(bytearray(damaged)))
    assert found == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]


def test_frame_without_its_layer_is_refused_at_random_too() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[4] + 2] = 1  # base, where the residual was
    reader = StreamReader(io.BytesIO(repair(damaged)))
    with pytest.raises(BitstreamError, match="header demands"):
        reader.read(0, 2)


def test_index_among_the_frames_is_found() -> None:
    spec = make_spec(1, 0)
    packets = make_packets(spec, n_phases=3)
    pieces = [packet.pack() for packet in packets[:2]] + [pack_index(NONE, NONE)]
    data = pack_header(spec) + b"".join(pieces)
    sizes = np.array([*map(len, pieces)], np.uint32)
    data += pack_index(np.zeros(3, np.uint32), sizes) + Footer(len(data), 3).pack()
    with pytest.raises(BitstreamError, match="packets end here before number 2"):
        list(StreamReader(io.BytesIO(data)).packets())


def test_bytes_lost_from_the_middle() -> None:
    for start in range(STARTS[2], STARTS[3]):
        found, _ = recovered(DATA[:start] + DATA[start + 20 :])
        assert set(found) >= {0, 1, 6, 7, 8, 9, 10, 11}


def test_bytes_put_into_the_middle() -> None:
    for start in range(STARTS[2], STARTS[3]):
        found, _ = recovered(DATA[:start] + b"\xecP" * 18 + DATA[start:])
        assert set(found) >= {0, 1, 6, 7, 8, 9, 10, 11}


def test_sync_bytes_across_the_chunks_of_the_search_are_found() -> None:
    for extra in range(8):
        gap = bytes((1 << 16) - 4 + extra)
        found, _ = recovered(DATA[: STARTS[3]] + gap + DATA[STARTS[3] :])
        assert found == list(range(12))


def test_payload_that_imitates_packets_is_payload() -> None:
    spec = make_spec(1, 1)
    inner = PACKETS[0].pack()
    outer = Packet(0, 0, 0, True, {LayerId.RESIDUAL: inner * 3})
    data = bytearray(make_stream(spec, [outer]))
    assert recovered(bytes(data))[0] == [0]
    data[STARTS[0] + 40] ^= 1
    assert recovered(bytes(data))[0] == []


def test_duplicate_and_swap_are_reported_and_harmless() -> None:
    pieces = [DATA[a:b] for a, b in pairwise(STARTS)]
    twice = [*pieces[:3], pieces[2], *pieces[3:]]
    found, reader = recovered(DATA[: STARTS[0]] + b"".join(twice))
    assert found == list(range(12))
    assert any("packet 2 stands where packet 3 is due" in r.what for r in reader.damage)
    swapped = [pieces[0], pieces[1], pieces[3], pieces[2], *pieces[4:]]
    found, reader = recovered(DATA[: STARTS[0]] + b"".join(swapped))
    assert set(found) >= {0, 1, 3, 5, 6, 7}
    assert reader.damage


def test_damaged_index_costs_nothing() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[-1] + 20] ^= 1
    found, reader = recovered(bytes(damaged))
    assert found == list(range(12))
    assert not reader.complete
    assert reader.read(1, 5) == PACKETS[11]


def test_packet_other_than_the_index_says_is_refused_at_random() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[4] + 5] = 5  # phase of packet 4
    reader = StreamReader(io.BytesIO(repair(damaged)))
    with pytest.raises(BitstreamError, match="not the one that the index lists"):
        reader.read(0, 2)


def test_huge_sizes_allocate_nothing() -> None:
    data = DATA
    for at in (STARTS[-1], STARTS[3]):
        data = with_size(data, at, 1 << 27)
    data = repair(bytearray(data))
    tracemalloc.start()
    try:
        recovered(data)
        with pytest.raises(BitstreamError):
            StreamReader(io.BytesIO(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_long_stream_is_read_in_flat_memory(tmp_path: Path) -> None:
    spec = make_spec(1, 0)
    path = tmp_path / "long.ecd"
    layers = {LayerId.RESIDUAL: bytes(100_000)}
    with path.open("wb") as file, StreamWriter(file, spec) as writer:
        for phase in range(300):
            writer.write(Packet(phase, 0, phase, phase % 2 == 0, layers))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            for recover in (False, True):
                assert sum(1 for _ in StreamReader(file, recover).packets()) == 300
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 30_000_000
    assert peak < 2_000_000


def test_reports_are_limited() -> None:
    data = DATA[: STARTS[0]] + (b"damage" + PACKETS[5].pack()) * (MAX_REPORTS + 100)
    _, reader = recovered(data)
    assert len(reader.damage) == MAX_REPORTS + 1
    assert reader.damage[-1].what == "more damage, not listed"


def test_pipe_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe, pytest.raises(SourceError, match="seekable"):
        StreamReader(pipe)


def extra_keys(keys: list[bool], key_interval: int) -> tuple[bytes, list[Packet]]:
    """A stream of one slice whose phases are key frames where they must be, or `keys` says so."""
    spec = make_spec(1, 0, key_interval=key_interval)
    packets = [
        Packet(i, 0, i, key or i % key_interval == 0, {LayerId.RESIDUAL: bytes([i]) * 5})
        for i, key in enumerate(keys)
    ]
    return make_stream(spec, packets), packets


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=24), st.integers(1, 9), st.booleans())
def test_chain_begins_at_the_latest_key_frame(
    keys: list[bool], key_interval: int, recover: bool
) -> None:
    data, packets = extra_keys(keys, key_interval)
    assert verify(io.BytesIO(data)).ok
    reader = StreamReader(io.BytesIO(data), recover)
    for phase in range(len(packets)):
        first = max(p.phase_index for p in packets[: phase + 1] if p.key)
        assert list(reader.read_chain(0, phase)) == packets[first : phase + 1]
        assert phase - first < key_interval


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=24), st.integers(1, 9), st.integers(0), st.data()
)
def test_recovery_goes_on_at_any_key_frame(
    keys: list[bool], key_interval: int, lost: int, data: st.DataObject
) -> None:
    stream, packets = extra_keys(keys, key_interval)
    lost %= len(packets)
    start = len(pack_header(make_spec(1, 0, key_interval=key_interval)))
    start += sum(len(packet.pack()) for packet in packets[:lost])
    at = data.draw(st.integers(start, start + len(packets[lost].pack()) - 1))
    damaged = bytearray(stream)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    rest = packets[lost + 1 :]
    next_key = next((p.phase_index for p in rest if p.key), len(packets))
    found, reader = recovered(bytes(damaged))
    assert found == [*range(lost), *range(next_key, len(packets))]
    for phase in found:
        chain = list(reader.read_chain(0, phase))
        assert chain[0].key
        assert chain[-1] == packets[phase]
    if lost not in found:
        with pytest.raises(FrameError):
            list(reader.read_chain(0, lost))


def test_frame_that_must_be_a_key_frame_and_is_none_is_refused() -> None:
    data = bytearray(DATA)
    data[STARTS[6] + 2] ^= 0x10  # phase 3 of slice 0, key interval 3
    data = bytearray(repair(data))
    assert not verify(io.BytesIO(data)).ok
    reader = StreamReader(io.BytesIO(data))
    for phase in (3, 4, 5):
        with pytest.raises(BitstreamError, match="no key frame, but must be one"):
            list(reader.read_chain(0, phase))


def test_chain_reads_no_more_heads_than_the_key_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    data, packets = extra_keys([False] * 70, 32)
    reader = StreamReader(io.BytesIO(data))
    offsets, head_at = [], PacketFile.head_at

    def count(file: PacketFile, offset: int) -> PacketHead:
        offsets.append(offset)
        return head_at(file, offset)

    monkeypatch.setattr(PacketFile, "head_at", count)
    assert next(reader.read_chain(0, 63)) == packets[32]
    assert len(offsets) == 32 + 1

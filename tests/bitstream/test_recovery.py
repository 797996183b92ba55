from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import repair
from stream_samples import extra_keys, make_packets, make_spec, make_stream, starts_of, with_size

from edge_codec.bitstream.container import MAX_REPORTS, StreamReader
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.errors import BitstreamError, FrameError
from edge_codec.spec import ModelId

SPEC = make_spec(2, 6, key_interval=3)
PACKETS = make_packets(SPEC)
DATA = make_stream(SPEC)
STARTS = starts_of(SPEC, PACKETS)  # packets 0, 1, 6, 7 in full, the others in short form
KEYS = (0, 1, 6, 7)
ARCHIVE = make_spec(2, 11, key_interval=6, model=ModelId.DWT_CAL, max_error=None, archive=True)


def recovered(data: bytes) -> tuple[list[int], StreamReader]:
    reader = StreamReader(io.BytesIO(data), recover=True)
    return [packet.sequence for packet in reader.packets()], reader


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
        assert list(reader.packets()) == [PACKETS[number] for number in found]
        assert any(STARTS[2] <= report.offset <= STARTS[3] for report in reader.damage)
        assert any("phase 1 before it is lost" in report.what for report in reader.damage)
        with pytest.raises(FrameError):
            reader.read(0, 2)
        with pytest.raises(BitstreamError, match=r"byte \d+"):
            list(StreamReader(io.BytesIO(damaged)).packets())


@pytest.mark.parametrize("packet", range(12))
@pytest.mark.parametrize("index", [False, True])
def test_flipped_byte_costs_its_group_in_its_slice_only(packet: int, index: bool) -> None:
    """Without an index, a size that is lost costs the short forms up to the next full head."""
    group = PACKETS[packet - packet % 6 : packet - packet % 6 + 6]
    for position in range(STARTS[packet], STARTS[packet + 1]):
        damaged = bytearray(DATA if index else DATA[: STARTS[-1]])
        damaged[position] ^= 0x04
        found, _ = recovered(bytes(damaged))
        sizes = STARTS[packet] + (15 * (packet in (1, 7)) if packet in KEYS else 1)
        slices = {0, 1} if position < sizes and not index else {packet % 2}
        lost = {p.sequence for p in group if p.slice_index in slices and p.sequence >= packet}
        assert found == [number for number in range(12) if number not in lost]


def test_two_packets_that_are_lost_cost_their_slices_only() -> None:
    spec = make_spec(4, 5, key_interval=5)
    data, packets = bytearray(make_stream(spec)), make_packets(spec)
    starts = starts_of(spec, packets)
    for packet in (9, 10):  # slices 1 and 2, phase 2
        data[starts[packet]] ^= 0x04
    found, reader = recovered(bytes(data))
    assert found == [i for i in range(20) if i < 8 or i % 4 in (0, 3)]
    assert any("packets 9 to 10 are missing" in report.what for report in reader.damage)


def test_report_says_what_is_lost() -> None:
    damaged = bytearray(DATA[: STARTS[-1]])
    damaged[STARTS[2] - 1] ^= 1  # last payload byte of slice 1, phase 0
    damaged[STARTS[3] - 1] ^= 1  # of slice 0, phase 1
    _, reader = recovered(bytes(damaged))
    first, *rest = (report.what for report in reader.damage)
    assert "no footer" in first
    patterns = [
        "layer 1 of packet 1 is damaged",
        "packet 2 (short form) is damaged",
        "packets 2 to 2 are missing",
        "packet 3: phase 1 of slice 1 cannot be decoded: phase 0 before it is lost",
        "packet 4: phase 2 of slice 0 cannot be decoded: phase 1 before it is lost",
        "packet 5: phase 2 of slice 1 cannot be decoded: phase 1 before it is lost",
        "packet 6: phases 1 to 2 of slice 0 are missing",
        "packet 7: phases 0 to 2 of slice 1 are missing",
        "7 frames found; the header promises 12",
    ]
    assert len(rest) == len(patterns)
    for what, pattern in zip(rest, patterns, strict=True):
        assert pattern in what


def test_report_names_missing_packets() -> None:
    _, reader = recovered(DATA[: STARTS[4]] + DATA[STARTS[6] : STARTS[-1]])
    assert [r.what for r in reader.damage if "packets" in r.what] == ["packets 4 to 5 are missing"]


def test_packet_with_a_size_beyond_the_end_hides_none() -> None:
    damaged = with_size(DATA, STARTS[6], 10_000)
    found, _ = recovered(repair(bytearray(damaged)))
    assert found == [0, 1, 2, 3, 4, 5, 7, 9, 11]


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
        found, _ = recovered(DATA[: STARTS[6]] + gap + DATA[STARTS[6] :])
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
    twice = [*pieces[:7], pieces[6], *pieces[7:]]
    found, reader = recovered(DATA[: STARTS[0]] + b"".join(twice))
    assert found == list(range(12))
    assert any("packet 6 stands where packet 7 is due" in r.what for r in reader.damage)
    swapped = [*pieces[:6], pieces[7], pieces[6], *pieces[8:]]
    found, reader = recovered(DATA[: STARTS[0]] + b"".join(swapped))
    assert set(found) >= {0, 1, 2, 3, 4, 5, 7}
    assert reader.damage
    twice = [*pieces[:3], pieces[2], *pieces[3:]]  # in short form, that is no packet
    found, reader = recovered(DATA[: STARTS[0]] + b"".join(twice))
    assert found == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert reader.damage


def test_damaged_index_costs_nothing() -> None:
    damaged = bytearray(DATA)
    damaged[STARTS[-1] + 20] ^= 1
    found, reader = recovered(bytes(damaged))
    assert found == list(range(12))
    assert not reader.complete
    assert reader.read(1, 5) == PACKETS[11]


def test_reports_are_limited() -> None:
    data = DATA[: STARTS[0]] + (b"damage" + PACKETS[5].pack()) * (MAX_REPORTS + 100)
    _, reader = recovered(data)
    assert len(reader.damage) == MAX_REPORTS + 1
    assert reader.damage[-1].what == "more damage, not listed"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=24), st.integers(1, 9), st.integers(0), st.data()
)
def test_recovery_goes_on_at_any_key_frame(
    keys: list[bool], key_interval: int, lost: int, data: st.DataObject
) -> None:
    stream, packets = extra_keys(keys, key_interval)
    lost %= len(packets)
    starts = starts_of(make_spec(1, 0, key_interval=key_interval), packets)
    at = data.draw(st.integers(starts[lost], starts[lost + 1] - 1))
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


def test_damage_in_an_archive_costs_what_is_coded_after_it_in_its_group() -> None:
    packets, starts = make_packets(ARCHIVE), starts_of(ARCHIVE, make_packets(ARCHIVE))
    data = bytearray(make_stream(ARCHIVE))
    data[starts[5] - 1] ^= 1  # slice 0, phase 1
    found, reader = recovered(bytes(data))
    assert found == [
        p.sequence for p in packets if p.slice_index or p.sequence not in (4, 6, 8, 10)
    ]
    assert any("4 frames of slice 0 before it" in report.what for report in reader.damage)
    assert [p.phase_index for p in reader.read_chain(0, 10)] == [6, 8, 7, 9, 10]
    with pytest.raises(FrameError):
        reader.read(0, 5)


def test_reading_at_random_between_the_packets_of_a_damaged_stream() -> None:
    data = bytearray(DATA)
    for packet in (2, 9):
        data[STARTS[packet]] ^= 0x04
    reader = StreamReader(io.BytesIO(data), recover=True)
    found = []
    for packet in reader.packets():
        found.append(packet.sequence)
        assert reader.read(0, 0) == PACKETS[0]
    assert found == [0, 1, 3, 5, 6, 7, 8, 10]

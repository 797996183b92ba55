from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fuzzing import mutations, repair
from stream_samples import make_packets, make_spec, make_stream, starts_of

from edge_codec.bitstream.container import StreamReader, StreamWriter, find_whole_part
from edge_codec.bitstream.index import pack_index
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError, FrameError, SourceError
from edge_codec.spec import ModelId

SPEC = make_spec(2, 0, key_interval=3)
PACKETS = make_packets(SPEC, n_phases=5)
DATA = make_stream(SPEC, PACKETS)
STARTS = starts_of(SPEC, PACKETS)  # packets 0, 1, 6, 7 in full, the others in short form


def keyed(packets: list[Packet]) -> list[Packet]:
    """The same packets, all of them key frames, with a note: what may follow any cut."""
    note = {LayerId.LIVE: LiveNote(Policy.NONE, 0, 0, 0).pack()}
    return [
        Packet(p.sequence, p.slice_index, p.phase_index, True, {**p.layers, **note})
        for p in packets
    ]


def go_on(data: bytes, packets: list[Packet]) -> bytes:
    """Resume a stream and append those of `packets` that it lacks."""
    file = io.BytesIO(data)
    part = find_whole_part(file)
    assert part is not None
    first = part.sequence
    with StreamWriter.resume(file, part) as writer:
        for packet in packets[first:]:
            writer.write(packet)
    return file.getvalue()


def assert_complete(data: bytes, packets: list[Packet]) -> None:
    assert verify(io.BytesIO(data)).ok
    assert list(StreamReader(io.BytesIO(data)).packets()) == packets


def test_stream_cut_at_any_byte_goes_on() -> None:
    for cut in range(STARTS[0], len(DATA) + 1):
        whole = sum(1 for end in STARTS[1:] if end <= cut)
        part = find_whole_part(io.BytesIO(DATA[:cut]))
        assert part is not None
        assert (part.sequence, part.end) == (whole, STARTS[whole])
        assert part.given_up == cut - STARTS[whole]
        assert part.next_phases == {
            i: n for i in (0, 1) if (n := sum(p.slice_index == i for p in PACKETS[:whole]))
        }
        goes_on = PACKETS[:whole] + keyed(PACKETS[whole:])
        assert_complete(go_on(DATA[:cut], goes_on), goes_on)


def test_complete_stream_goes_on_as_if_it_had_never_ended() -> None:
    more = make_packets(SPEC, n_phases=9)
    assert go_on(DATA, more) == make_stream(SPEC, more)
    assert go_on(DATA, PACKETS) == DATA


def test_last_bytes_lost_as_zeros_are_given_up() -> None:
    for first in range(STARTS[-3], len(DATA)):
        data = DATA[:first] + bytes(len(DATA) - first)
        part = find_whole_part(io.BytesIO(data))
        assert part is not None
        assert part.sequence >= sum(1 for end in STARTS[1:] if end <= first)
        goes_on = PACKETS[: part.sequence] + keyed(PACKETS[part.sequence :])
        assert_complete(go_on(data, goes_on), goes_on)


def test_header_that_is_cut_holds_nothing() -> None:
    for cut in range(STARTS[0]):
        assert find_whole_part(io.BytesIO(DATA[:cut])) is None
        assert find_whole_part(io.BytesIO(DATA[:cut] + bytes(len(DATA)))) is None or not any(
            DATA[cut : STARTS[0]]
        )


@pytest.mark.parametrize(
    "data", [b"something else", b"\x89ECD\r\n\x1a\n\2" + bytes(200) + b"x", b"\x89ECX", b"\0\0x"]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError):
        find_whole_part(io.BytesIO(data))


def test_damaged_header_is_refused() -> None:
    data = bytearray(DATA)
    data[20] ^= 1
    with pytest.raises(BitstreamError, match="damaged"):
        find_whole_part(io.BytesIO(data))


def test_pipe_is_refused() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(SourceError, match="seekable"):
        find_whole_part(Pipe(DATA))


def test_damage_with_anything_whole_after_it_is_refused_and_nothing_is_touched() -> None:
    for position in range(STARTS[0], STARTS[-2]):
        data = bytearray(DATA)
        data[position] ^= 0x10
        file = io.BytesIO(data)
        with pytest.raises(BitstreamError, match="damaged and not cut"):
            find_whole_part(file)
        assert file.getvalue() == data


def test_damage_in_the_last_packet_is_a_cut() -> None:
    for position in range(STARTS[-2], STARTS[-1]):
        data = bytearray(DATA)
        data[position] ^= 0x10
        part = find_whole_part(io.BytesIO(data))
        assert part is not None
        assert part.end == STARTS[-2]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((0, 1, 3), "packet 3 stands where packet 2"),
        ((0, 1, 1), "packet 1 stands where packet 2"),
        ((1,), "packet 1 stands where packet 0"),
    ],
)
def test_packets_out_of_order_are_damage(order: tuple[int, ...], message: str) -> None:
    data = DATA[: STARTS[0]] + b"".join(PACKETS[i].pack() for i in order)
    with pytest.raises(BitstreamError, match=message):
        find_whole_part(io.BytesIO(data))


def test_packets_after_an_index_are_damage() -> None:
    index = pack_index(np.zeros(1, np.uint32), np.zeros(1, np.uint32), 2)
    data = DATA[: STARTS[2]] + index + DATA[STARTS[2] :]
    with pytest.raises(BitstreamError, match="index; but packet 2"):
        find_whole_part(io.BytesIO(data))


@pytest.mark.parametrize(
    "packet",
    [
        Packet(2, 5, 0, True, {LayerId.RESIDUAL: b"x"}),  # no such slice
        Packet(2, 0, 1, True, {LayerId.BASE: b"x"}),  # no such layer
        Packet(2, 0, 2, True, {LayerId.RESIDUAL: b"x"}),  # phase 1 is due
    ],
)
def test_packet_that_does_not_fit_is_damage(packet: Packet) -> None:
    with pytest.raises(BitstreamError, match="damaged and not cut"):
        find_whole_part(io.BytesIO(DATA[: STARTS[2]] + packet.pack()))


def test_archive_is_not_gone_on_with() -> None:
    spec = make_spec(1, 9, key_interval=9, model=ModelId.DWT_CAL, max_error=None, archive=True)
    data = make_stream(spec)
    for cut in (len(data), starts_of(spec, make_packets(spec))[3]):
        with pytest.raises(BitstreamError, match="compress its source again"):
            find_whole_part(io.BytesIO(data[:cut]))


def test_short_forms_after_damage_are_not_given_up() -> None:
    spec = make_spec(2, 6, key_interval=6)
    packets = make_packets(spec)
    starts, data = starts_of(spec, packets), bytearray(make_stream(spec)[:-60])
    for packet in (2, 5):
        for position in range(starts[packet], starts[packet + 1]):
            damaged = data.copy()
            damaged[position] ^= 0x04
            with pytest.raises(BitstreamError, match="damaged and not cut"):
                find_whole_part(io.BytesIO(damaged))


def test_writer_that_goes_on_uses_the_short_form_again() -> None:
    spec = make_spec(2, 6, key_interval=6)
    packets, data = make_packets(spec), make_stream(spec)
    for end in starts_of(spec, packets):
        assert go_on(data[:end], packets) == data


def test_stream_with_all_its_frames_is_full() -> None:
    spec = make_spec(2, 3)
    data = make_stream(spec)
    part = find_whole_part(io.BytesIO(data))
    assert part is not None
    assert part.full
    cut = find_whole_part(io.BytesIO(data[:-60]))
    assert cut is not None
    assert not cut.full
    assert go_on(data[:-60], make_packets(spec)) == data
    writer = StreamWriter.resume(io.BytesIO(data), part)
    with pytest.raises(FrameError):
        writer.write(Packet(6, 0, 3, True, {LayerId.RESIDUAL: b"x"}))


def test_writer_that_goes_on_keeps_the_order() -> None:
    file = io.BytesIO(DATA[: STARTS[3] + 5])
    part = find_whole_part(file)
    assert part is not None
    writer = StreamWriter.resume(file, part)
    assert file.getvalue() == DATA[: STARTS[3]]
    for wrong in (PACKETS[2], PACKETS[4], PACKETS[0]):
        with pytest.raises(FrameError):
            writer.write(wrong)
    assert writer.offset == STARTS[3]
    writer.write(PACKETS[3])


@pytest.mark.slow
def test_mutated_streams_go_on_or_are_refused() -> None:
    streams = [DATA, make_stream(make_spec(1, 3, rich=True)), make_stream(SPEC, keyed(PACKETS))]
    refused = went_on = 0
    for data in mutations(streams, 8000, seed=31):
        file = io.BytesIO(data)
        try:
            part = find_whole_part(file)
        except BitstreamError:
            refused += 1
            continue
        assert file.getvalue() == data
        if part is None:
            continue
        went_on += 1
        before = list(StreamReader(io.BytesIO(data[: part.end]), recover=True).packets())
        spec, sequence = part.spec, part.sequence
        writer = StreamWriter.resume(file, part)
        assert file.getvalue() == data[: part.end]
        if not spec.info.n_phases:
            writer.close()
            assert verify(file).ok
        kept = list(StreamReader(file, recover=True).packets())
        assert len(kept) == sequence
        assert kept == before
    assert min(refused, went_on) > 500


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(0, len(DATA)), st.binary(max_size=200), st.booleans())
def test_noise_after_a_cut_costs_nothing_that_is_whole(cut: int, noise: bytes, mend: bool) -> None:
    data = DATA[:cut] + noise
    if mend:  # this also writes what is the CRC of a footer, near the end
        data, cut = repair(bytearray(data)), min(cut, len(data) - 24)
    whole = sum(1 for end in STARTS[1:] if end <= cut)
    try:
        part = find_whole_part(io.BytesIO(data))
    except BitstreamError:
        assert mend or cut < STARTS[0]
        return
    assert (part.sequence if part else 0) >= whole


def test_long_stream_goes_on_in_flat_memory() -> None:
    spec = make_spec(1, 0, key_interval=1)
    layers = {LayerId.RESIDUAL: bytes(100_000)}
    data = make_stream(spec, [Packet(i, 0, i, True, layers) for i in range(200)])
    file = io.BytesIO(data[:-1000])
    tracemalloc.start()
    try:
        part = find_whole_part(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert part is not None
    assert part.sequence == 199
    assert peak < 1_000_000

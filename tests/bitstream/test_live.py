from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_samples import make_packets, make_spec, make_stream

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.live import NOTE_SIZE, LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError, FrameError

U32 = st.integers(0, (1 << 32) - 1)
NOTES = st.builds(
    LiveNote,
    st.sampled_from(Policy),
    st.integers(-(1 << 63), (1 << 63) - 1),
    U32,
    U32,
    U32,
    st.booleans(),
    st.booleans(),
)
SAMPLE = LiveNote(Policy.ADAPTIVE, 1_800_000_000_123_456_789, 1500, 4321, 2, True, True)
GOLDEN = (
    "02 03 0000"  # policy, flags, reserved
    "15cd0f9b76e2fa18"  # acquired
    "dc050000 e1100000 02000000"  # waited, coded, dropped
)


def test_note_has_the_bytes_of_the_specification() -> None:
    assert SAMPLE.pack() == bytes.fromhex(GOLDEN)
    assert len(SAMPLE.pack()) == NOTE_SIZE == 24


@settings(derandomize=True, max_examples=200, deadline=None)
@given(NOTES)
def test_unpack_inverts_pack(note: LiveNote) -> None:
    assert LiveNote.unpack(note.pack()) == note


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.binary(min_size=NOTE_SIZE, max_size=NOTE_SIZE) | st.binary(max_size=40))
def test_any_bytes_are_a_note_or_a_bitstream_error(data: bytes) -> None:
    try:
        note = LiveNote.unpack(data)
    except BitstreamError:
        return
    assert note.pack() == data


@pytest.mark.parametrize("size", [0, 1, 23, 25, 48])
def test_note_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(BitstreamError, match=f"has {size} bytes; 24 are due"):
        LiveNote.unpack(bytes(size))


@pytest.mark.parametrize(("at", "bit"), [(1, bit) for bit in range(2, 8)] + [(2, 0), (3, 7)])
def test_reserved_bits_are_refused(at: int, bit: int) -> None:
    data = bytearray(SAMPLE.pack())
    data[at] |= 1 << bit
    with pytest.raises(BitstreamError, match="upgrade"):
        LiveNote.unpack(bytes(data))


@pytest.mark.parametrize("policy", [4, 255])
def test_unknown_policy_is_refused(policy: int) -> None:
    with pytest.raises(BitstreamError, match=f"policy {policy}; known are 0 to 3"):
        LiveNote.unpack(bytes([policy]) + SAMPLE.pack()[1:])


def test_counts_beyond_32_bits_are_noted_as_the_most() -> None:
    note = LiveNote.unpack(LiveNote(Policy.NONE, 0, 1 << 40, 1 << 32, 1 << 50).pack())
    assert (note.waited_us, note.coded_us, note.dropped) == ((1 << 32) - 1,) * 3


@pytest.mark.parametrize(
    "numbers", [(0, -1, 0, 0), (0, 0, -1, 0), (0, 0, 0, -1), (1 << 63, 0, 0, 0)]
)
def test_numbers_that_cannot_be_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(FrameError, match="64 bits"):
        LiveNote(Policy.NONE, *numbers).pack()


@pytest.mark.parametrize("payload", [b"", b"\xff" * 24, SAMPLE.pack(), bytes(1000)])
def test_no_note_hurts_the_stream(payload: bytes) -> None:
    spec = make_spec()
    packets = [
        Packet(p.sequence, p.slice_index, p.phase_index, p.key, {**p.layers, LayerId.LIVE: payload})
        for p in make_packets(spec)
    ]
    data = make_stream(spec, packets)
    assert verify(io.BytesIO(data)).ok
    assert list(StreamReader(io.BytesIO(data)).packets()) == packets
    cut = StreamReader(io.BytesIO(data[:-70]), recover=True)
    assert len(list(cut.packets())) >= len(packets) - 2


def test_sync_bytes_of_packets_with_notes_are_found_after_damage() -> None:
    spec = make_spec(1, 4, key_interval=1)
    packets = [
        Packet(i, 0, i, True, {LayerId.RESIDUAL: b"residual", LayerId.LIVE: SAMPLE.pack()})
        for i in range(4)
    ]
    data = bytearray(make_stream(spec, packets))
    (header_size,) = struct.unpack_from("<I", data, 12)
    data[header_size + 1] ^= 1  # sync of the first packet
    found = list(StreamReader(io.BytesIO(data), recover=True).packets())
    assert found == packets[1:]

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.errors import ProtocolError
from edge_codec.runtime.transport import forward_wire as wire
from edge_codec.runtime.transport.forward_wire import Position, Refusal
from edge_codec.runtime.transport.unacknowledged import Entry, Unacknowledged

NUMBER = st.integers(0, (1 << 32) - 1)


def entries(count, segment=0):
    return [Entry(segment, i, bytes([i])) for i in range(count)]


def filled(count, max_packets=100):
    window = Unacknowledged(max_packets, 1 << 20)
    for entry in entries(count):
        window.add(entry)
    return window


def taken(window):
    found = []
    while (entry := window.next()) is not None:
        found.append(entry.sequence)
    return found


def test_entries_go_out_in_order_and_again_after_a_rewind():
    window = filled(5)
    assert taken(window) == [0, 1, 2, 3, 4]
    assert window.acknowledge(Position(0, 2)) == 2
    window.rewind()
    assert taken(window) == [2, 3, 4]
    assert window.acknowledge(Position(0, 5)) == 3
    assert len(window) == 0


def test_half_of_it_is_on_its_way_at_most():
    window = filled(8, max_packets=8)
    assert window.full
    assert taken(window) == [0, 1, 2, 3]
    assert window.drop_oldest().sequence == 4
    window.acknowledge(Position(0, 4))
    assert taken(window) == [5, 6, 7]
    assert window.drop_oldest() is None


def test_bytes_count_too_and_one_entry_always_fits():
    window = Unacknowledged(100, 10)
    window.add(Entry(0, 0, bytes(50)))
    assert window.full
    assert taken(window) == [0]
    window.add(Entry(0, 1, bytes(50)))
    assert taken(window) == []
    window.acknowledge(Position(0, 1))
    assert taken(window) == [1]
    window.acknowledge(Position(0, 2))
    assert window.low
    assert not window.full


@pytest.mark.parametrize(
    ("position", "left"),
    [
        (Position(0, 0), 5),
        (Position(0, 2), 3),
        (Position(0, 3), 2),
        (Position(0, 3, True), 1),
        (Position(1, 0), 1),
        (Position(1, 1), 0),
    ],
)
def test_what_is_stored_is_let_go(position, left):
    window = filled(3)
    window.add(Entry(0, 3, None))
    window.add(Entry(1, 0, b"x"))
    window.acknowledge(position)
    assert len(window) == left
    taken(window)
    window.acknowledge(position)
    assert len(window) == left


@given(
    segment=NUMBER, sequence=NUMBER, ended=st.booleans(), proof=st.binary(min_size=32, max_size=32)
)
def test_positions_come_back(segment, sequence, ended, proof):
    position = Position(segment, sequence, ended)
    assert Position.unpack(position.pack()) == position
    assert wire.unpack_welcome(wire.pack_welcome(proof, position)) == (proof, position)


@given(segment=NUMBER, first=NUMBER, size=st.integers(1, 100), header=st.binary(max_size=40))
def test_messages_come_back(segment, first, size, header):
    assert wire.unpack_begin(wire.pack_begin(segment, header)) == (segment, header)
    end = min(first + size, (1 << 32) - 1)
    if end > first:
        assert wire.unpack_gap(wire.pack_gap(segment, first, end)) == (segment, first, end)
    assert wire.unpack_end(wire.pack_end(segment, first)) == (segment, first)
    assert wire.unpack_key(wire.pack_key(segment)) in (segment, None)


def test_keys_and_errors_come_back():
    assert wire.unpack_key(wire.pack_key(None)) is None
    for code in Refusal:
        assert wire.unpack_error(wire.pack_error(code, "why\n")) == (code, "why ")
    assert len(wire.unpack_error(wire.pack_error(Refusal.CLOSING, "x" * 9999))[1]) == wire.MAX_TEXT


UNPACK = (
    Position.unpack, wire.Challenge.unpack, wire.Hello.unpack, wire.unpack_welcome,
    wire.unpack_begin, wire.unpack_gap, wire.unpack_end, wire.unpack_key, wire.unpack_error,
)  # fmt: skip


@given(unpack=st.sampled_from(UNPACK), data=st.binary(max_size=200))
def test_any_body_is_parsed_or_refused(unpack, data):
    with contextlib.suppress(ProtocolError):
        unpack(data)


def test_other_versions_are_refused_in_words():
    challenge = bytearray(wire.Challenge(bytes(32), True).pack())
    challenge[8] = 2
    with pytest.raises(ProtocolError, match="version 2"):
        wire.Challenge.unpack(bytes(challenge))
    challenge[0] = 0
    with pytest.raises(ProtocolError, match="no packets of ours"):
        wire.Challenge.unpack(bytes(challenge))

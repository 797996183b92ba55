import pytest
from live_packets import LiveSource, live_spec

from edge_codec.bitstream.header import pack_header
from edge_codec.errors import ProtocolError
from edge_codec.runtime.transport.conceal import MAX_REPEATED, ConcealingDecoder


def begun(n_slices=1, key_interval=1000):
    source = LiveSource(live_spec(n_slices, key_interval))
    shown = []
    decoder = ConcealingDecoder(shown.append)
    decoder.begin(0, pack_header(source.spec))
    return source, decoder, shown


def put(decoder, packet):
    return decoder.put(packet, packet.pack())


def test_the_last_frame_stands_for_what_is_missing_and_says_so():
    source, decoder, shown = begun()
    packets = [source.packet() for _ in range(4)]
    put(decoder, packets[0])
    put(decoder, packets[1])
    decoder.skip(3)
    assert not put(decoder, packets[3])
    assert [(frame.phase_index, frame.concealed) for frame in shown] == [
        (0, False), (1, False), (2, True), (3, True),
    ]  # fmt: skip
    for frame in shown[2:]:
        assert (frame.frame == source.shown[0, 1]).all()
    assert decoder.keys_wanted == {0}
    source.request_key(0)
    assert put(decoder, source.packet())
    assert not shown[-1].concealed
    assert (shown[-1].frame == source.shown[0, 4]).all()
    assert decoder.keys_wanted == set()


def test_what_was_never_seen_is_not_invented():
    source, decoder, shown = begun()
    source.packet()
    decoder.skip(1)
    assert not put(decoder, source.packet())
    assert shown == []
    assert decoder.blank == 2


def test_other_slices_do_not_notice():
    source, decoder, shown = begun(n_slices=2)
    for slice_index in (0, 1):
        put(decoder, source.packet(slice_index))
    source.packet(0)
    put(decoder, source.packet(1))
    put(decoder, source.packet(0))
    put(decoder, source.packet(1))
    assert [frame.concealed for frame in shown if frame.slice_index == 1] == [False] * 3
    assert [frame.concealed for frame in shown if frame.slice_index == 0] == [False, True, True]


def test_a_hole_of_any_length_shows_few_frames():
    source, decoder, shown = begun()
    put(decoder, source.packet())
    packet = source.packet()
    object.__setattr__(packet, "phase_index", 1 << 30)
    put(decoder, packet)
    assert len(shown) <= 2 + MAX_REPEATED
    assert decoder.concealed == 1 << 30


def test_packets_that_came_before_are_not_shown_again():
    source, decoder, shown = begun()
    packets = [source.packet() for _ in range(2)]
    for packet in (*packets, *packets):
        put(decoder, packet)
    assert len(shown) == 2


def test_a_new_segment_begins_anew():
    source, decoder, shown = begun()
    put(decoder, source.packet())
    other = LiveSource(live_spec(rows=20), seed=4)
    decoder.begin(1, pack_header(other.spec))
    put(decoder, other.packet())
    assert shown[-1].segment == 1
    assert (shown[-1].frame == other.shown[0, 0]).all()


def test_nothing_is_shown_before_a_segment_has_begun():
    decoder = ConcealingDecoder(lambda _: None)
    with pytest.raises(ProtocolError):
        put(decoder, LiveSource(live_spec()).packet())

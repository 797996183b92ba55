import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_packets import LiveSource, live_spec, wait_for

from edge_codec.bitstream.header import pack_header
from edge_codec.errors import EdgeCodecError, ProtocolError, SinkError
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.assembly import Assembly
from edge_codec.runtime.transport.conceal import ConcealingDecoder
from edge_codec.runtime.transport.datagram import Datagram, Kind
from edge_codec.runtime.transport.key_gate import KeyGate
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.runtime.transport.udp_peer import UdpPeer
from edge_codec.runtime.transport.udp_receive import UdpReceiver
from edge_codec.runtime.transport.udp_sender import UdpSender

STREAM = b"12345678"
SEAL = wire.session_seal(None, STREAM, bytes(16), bytes(16))
SECRET = wire.session_seal("a token of 16 or more", STREAM, bytes(16), bytes(16))
SPEC = live_spec(rows=40, columns=60)
HEADER = pack_header(SPEC)
SMALL = UdpOptions(window_packets=8, window_bytes=1 << 16)


@given(
    kind=st.integers(0, 255), segment=st.integers(0, (1 << 32) - 1),
    sequence=st.integers(0, (1 << 32) - 1), fragment=st.integers(0, 0xFFFE),
    slice_index=st.integers(0, 0xFFFF), flags=st.integers(0, 0xFFFF),
    body=st.binary(max_size=wire.CHUNK), seal=st.sampled_from([SEAL, SECRET]),
)  # fmt: skip
def test_datagrams_come_back_as_they_were(
    kind, segment, sequence, fragment, slice_index, flags, body, seal
):
    sent = Datagram(kind, STREAM, segment, sequence, fragment, 0xFFFF, slice_index, flags, body)
    data = sent.pack(seal)
    assert len(data) <= wire.MAX_DATAGRAM
    assert wire.open_datagram(data, seal) == sent
    assert wire.stream_of(data) == STREAM


@pytest.mark.parametrize("seal", [SEAL, SECRET])
def test_a_flipped_bit_a_cut_or_another_key_is_noticed(seal):
    data = Datagram(Kind.DATA, STREAM, 1, 2, 3, 4, 5, 1, b"body").pack(seal)
    for at in range(len(data) * 8):
        wrong = bytearray(data)
        wrong[at // 8] ^= 1 << at % 8
        assert wire.open_datagram(bytes(wrong), seal) is None
    for end in range(len(data)):
        assert wire.open_datagram(data[:end], seal) is None
    other = wire.session_seal(None, STREAM, bytes(16), b"x" * 16)
    assert wire.open_datagram(data, other) is None
    assert wire.open_datagram(data, wire.Seal(seal.key, not seal.authentic)) is None


def test_a_part_beyond_the_number_of_parts_is_none():
    assert wire.open_datagram(Datagram(Kind.DATA, STREAM, fragment=4).pack(SEAL), SEAL) is None


@given(data=st.binary(max_size=1300))
def test_random_bytes_are_no_datagram(data):
    assert wire.open_datagram(data, SECRET) is None


def test_greetings():
    seal = wire.greeting_seal("a token of 16 or more")
    data = wire.pack_hello(STREAM, b"n" * 16, "heart-1.x", seal)
    assert len(data) == wire.MAX_DATAGRAM
    assert wire.unpack_hello(wire.open_datagram(data, seal).body) == (b"n" * 16, "heart-1.x")
    assert wire.open_datagram(data, wire.greeting_seal(None)) is None
    with pytest.raises(ProtocolError, match="fill its datagram"):
        wire.unpack_hello(bytes(16) + b"\1a")
    with pytest.raises(ProtocolError, match="stream name"):
        wire.unpack_hello(bytes(1200))


def peer_of(consumer, answers, options=SMALL):
    return UdpPeer(STREAM, SEAL, consumer, answers.append, options)


def numbers(most):
    return st.one_of(st.integers(0, 12), st.integers(0, most))


HOSTILE = st.lists(
    st.builds(
        Datagram,
        kind=st.sampled_from([*Kind, 77]), stream=st.just(STREAM),
        segment=numbers((1 << 32) - 1), sequence=numbers((1 << 32) - 1),
        fragment=numbers(0xFFFE), fragments=st.one_of(st.integers(1, 12), st.just(0xFFFF)),
        slice_index=numbers(0xFFFF), flags=st.integers(0, 3),
        body=st.one_of(
            st.binary(max_size=30), st.just(bytes(wire.CHUNK)), st.just(HEADER),
            st.just(LiveSource(SPEC).packet().pack()[: wire.CHUNK]),
        ),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(said=HOSTILE, begun=st.booleans())
def test_a_hostile_sender_costs_bounded_memory_and_no_more_answers_than_it_sends(said, begun):
    answers = []
    decoder = ConcealingDecoder(lambda _: None)
    peer = peer_of(decoder, answers)
    now_ns = 0
    if begun:
        said = [Datagram(Kind.HEADER, STREAM, body=HEADER), *said]
    for datagram in said:
        now_ns += 3_000_000
        try:
            peer.receive(datagram.pack(SEAL), now_ns)
            peer.tick(now_ns)
        except EdgeCodecError:
            return  # the receiver forgets such a sender
        assert sum(map(len, answers)) <= peer.counts.received_bytes
        assemblies = [*peer._later.values(), *([peer._current] if peer._current else [])]
        assert len(assemblies) <= 3
        for assembly in assemblies:
            assert len(assembly._partials) <= SMALL.window_packets + 1
            kept = sum(
                len(part)
                for partial in assembly._partials.values()
                for part in partial.parts.values()
            )
            assert kept == assembly._bytes <= SMALL.window_bytes + 2 * wire.MAX_DATAGRAM


def test_a_report_is_never_larger_than_what_came():
    answers = []
    peer = peer_of(ConcealingDecoder(lambda _: None), answers, UdpOptions())
    for datagram in (
        Datagram(Kind.HEADER, STREAM, body=HEADER),
        Datagram(Kind.PING, STREAM, sequence=200),
    ):
        peer.receive(datagram.pack(SEAL), 1)
    for now_ns in range(20_000_000, 2_000_000_000, 5_000_000):
        peer.tick(now_ns)  # 128 packets are to be asked for: more bytes than came
    came = peer.counts.received_bytes
    assert came / 2 < sum(map(len, answers)) <= came
    assert 0 < peer.counts.asked < wire.MAX_MISSING


def test_too_many_bytes_behind_a_hole_end_the_waiting():
    assembly = Assembly(0, SMALL)
    assembly.start(0, 0)
    for sequence in range(1, 3):
        for fragment in range(30):
            part = Datagram(Kind.DATA, STREAM, 0, sequence, fragment, 30, body=bytes(wire.CHUNK))
            assembly.add(part, 0)
        assert assembly.give_up(1) == (None if sequence == 1 else (1, set()))


def test_nothing_is_kept_of_a_jump_to_the_end_of_numbers():
    assembly = Assembly(0, SMALL)
    assembly.start(0, 0)
    assembly.add(Datagram(Kind.DATA, STREAM, sequence=(1 << 32) - 1, body=b"x"), 1)
    assert len(assembly._partials) <= SMALL.window_packets
    assert assembly.give_up(1 << 40)[0] == (1 << 32) - 1
    assert assembly.take() == b"x"


def test_parts_in_any_order_make_the_packet_and_doubles_do_not_count():
    assembly = Assembly(0, UdpOptions())
    assembly.start(5, 0)
    parts = wire.cut(bytes(range(256)) * 12)
    for fragment in (2, 0, 0, 1, 2):
        assert assembly.take() is None
        part = Datagram(Kind.DATA, STREAM, 0, 5, fragment, len(parts), body=parts[fragment])
        assembly.add(part, 0)
        if fragment == 1:
            break
    assert assembly.take() == bytes(range(256)) * 12
    assert assembly.due == 6


def test_what_is_missing_is_asked_for_once_in_a_while():
    options = UdpOptions()
    assembly = Assembly(0, options)
    assembly.start(0, 0)
    assembly.add(Datagram(Kind.DATA, STREAM, 0, 1, 1, 3, body=b"x"), options.ask_ns)
    now_ns = options.ask_ns
    assert assembly.missing(now_ns, 10) == []  # it may still be on its way
    now_ns += options.reorder_ns
    assert assembly.missing(now_ns, 10) == [(0, wire.WHOLE_PACKET), (1, 0), (1, 2)]
    assert assembly.missing(now_ns + 1, 10) == []
    assert len(assembly.missing(now_ns + options.ask_ns, 2)) == 2
    assert assembly.give_up(now_ns) is None
    assert assembly.give_up(now_ns + options.deadline_ns) == (2, {0})


def test_reports_of_what_is_missing():
    missing = [(number, wire.WHOLE_PACKET) for number in range(200)]
    body = wire.pack_missing(missing)
    assert len(body) <= wire.CHUNK
    assert wire.unpack_missing(body) == missing[: wire.MAX_MISSING]
    assert wire.unpack_missing(body[:-1]) == missing[: wire.MAX_MISSING - 1]


def sender_of(requests):
    sent = []
    sender = UdpSender("heart", None, sent.append, requests.append, UdpOptions(window_packets=4))
    sender.begin(0, HEADER, 0)
    hello = wire.open_datagram(sent[0], wire.greeting_seal(None))
    nonce, _ = wire.unpack_hello(hello.body)
    return sender, sent, hello.stream, nonce


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), kind=st.integers(0, 255), flags=st.integers(0, 7))
def test_a_sender_takes_nothing_from_strangers(data, kind, flags):
    requests = []
    sender, sent, stream, nonce = sender_of(requests)
    before = len(sent)
    sender.receive(data, 1)
    for seal in (SEAL, wire.session_seal(None, stream, nonce, bytes(16))):
        answer = Datagram(kind, stream, flags=flags, body=data).pack(seal)
        sender.receive(answer, 1)
    assert len(sent) == before
    assert requests == []
    assert not sender.established


def test_a_sender_repeats_only_what_it_still_has():
    requests = []
    sender, sent, stream, nonce = sender_of(requests)
    receiver_nonce = os.urandom(16)
    greeting = wire.greeting_seal(None)
    sender.receive(Datagram(Kind.CHALLENGE, stream, body=nonce + receiver_nonce).pack(greeting), 1)
    assert sender.established
    seal = wire.session_seal(None, stream, nonce, receiver_nonce)
    source = LiveSource(SPEC)
    for _ in range(10):
        packet = source.packet()
        sender.send(packet.sequence, 0, packet.key, packet.pack(), 2)
    sent.clear()
    asked = [(2, wire.WHOLE_PACKET), (9, wire.WHOLE_PACKET), (8, 0), (8, 900), (77, 0)]
    report = Datagram(Kind.REPORT, stream, 0, 2, body=wire.pack_missing(asked))
    sender.receive(report.pack(seal), 3)
    again = {wire.open_datagram(data, seal).sequence for data in sent}
    assert again == {8, 9}
    key = Datagram(Kind.KEY, stream, 0, 8)
    sender.receive(key.pack(seal), 4)  # packet 8 was a key frame
    assert requests == []
    sender.receive(Datagram(Kind.KEY, stream, 0, 9).pack(seal), 5)
    sender.receive(Datagram(Kind.KEY, stream, 0, 9).pack(seal), 6)
    assert requests == [0]


def test_a_header_that_is_too_large_is_refused():
    sender = UdpSender("heart", None, lambda _: None, lambda _: None)
    with pytest.raises(SinkError, match="over TCP"):
        sender.begin(0, bytes(400_000), 0)


def test_a_gate_opens_once_in_a_while():
    now = [0]
    gate = KeyGate(100, lambda: now[0])
    assert gate.opens(1)
    assert not gate.opens(1)
    assert gate.opens(2)
    now[0] = 100
    assert gate.opens(None)
    assert not gate.opens(1)  # every slice has been asked for
    now[0] = 200
    assert gate.opens(1)


def established_sender(requests):
    sender, sent, stream, nonce = sender_of(requests)
    greeting = wire.greeting_seal(None)
    sender.receive(Datagram(Kind.CHALLENGE, stream, body=nonce + bytes(16)).pack(greeting), 1)
    return sender, sent, stream, wire.session_seal(None, stream, nonce, bytes(16))


def test_a_report_that_is_repeated_makes_no_flood():
    sender, sent, stream, seal = established_sender([])
    source = LiveSource(SPEC)
    for _ in range(3):
        packet = source.packet()
        sender.send(packet.sequence, 0, packet.key, packet.pack(), 2)
    parts = sum(wire.open_datagram(data, seal).kind == Kind.DATA for data in sent[1:])
    report = Datagram(
        Kind.REPORT, stream, 0, 0, body=wire.pack_missing([(1, wire.WHOLE_PACKET)] * 100)
    ).pack(seal)
    for now_ns in range(3, 20):
        sender.receive(report, now_ns)
    assert 0 < sender.counts.sent_again <= parts


def test_own_words_that_are_thrown_back_are_no_sign_of_life():
    sender, sent, _, seal = established_sender([])
    header = next(data for data in sent if wire.open_datagram(data, seal) is not None)
    sender.receive(header, 1_000)
    assert sender.heard_ns == 1
    answers = []
    peer = peer_of(ConcealingDecoder(lambda _: None), answers)
    peer.receive(Datagram(Kind.HEADER, STREAM, body=HEADER).pack(SEAL), 1)
    assert not peer.receive(Datagram(Kind.REPORT, STREAM).pack(SEAL), 2)
    assert peer.heard_ns == 1


def test_what_is_whole_behind_a_hole_is_handed_out_before_the_next_segment():
    shown = []
    options = UdpOptions()
    peer = peer_of(ConcealingDecoder(shown.append), [], options)
    packet = LiveSource(SPEC).packet()
    peer.receive(Datagram(Kind.HEADER, STREAM, body=HEADER).pack(SEAL), 1)
    parts = wire.cut(packet.pack())
    for fragment, body in enumerate(parts):  # its first part comes later than packet 1
        part = Datagram(Kind.DATA, STREAM, 0, 1, fragment, len(parts), body=body)
        assert peer.receive(part.pack(SEAL), 2)
    peer.receive(Datagram(Kind.HEADER, STREAM, 1, body=HEADER).pack(SEAL), 3)
    before = peer.counts.damaged
    peer.tick(options.deadline_ns + 10)
    assert peer.counts.damaged == before + 1  # packet 0 came as 1: it was looked at


class Stranger:
    """Speaks to a receiver by hand."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(5)
        self.sock.connect(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def greet(self, nonce, name="heart"):
        """Send a greeting and return the receiver's number."""
        greeting = wire.greeting_seal(None)
        self.sock.send(wire.pack_hello(STREAM, nonce, name, greeting))
        answer = wire.open_datagram(self.sock.recv(2000), greeting)
        assert answer.body[:16] == nonce
        return answer.body[16:]

    def begin(self, nonce, number):
        seal = wire.session_seal(None, STREAM, nonce, number)
        self.sock.send(Datagram(Kind.HEADER, STREAM, body=HEADER).pack(seal))


def test_a_greeting_that_is_repeated_on_a_long_way_gets_the_same_answer(tmp_path):
    with UdpReceiver(("127.0.0.1", 0), tmp_path) as receiver, Stranger(receiver.address) as sender:
        number = sender.greet(b"n" * 16)
        assert sender.greet(b"n" * 16) == number
        assert sender.greet(b"m" * 16) != number  # an old one that somebody has recorded, say
        sender.begin(b"n" * 16, number)
        assert wait_for(lambda: receiver.streams == ["heart"])


def test_a_stranger_who_names_a_stream_does_not_end_it(tmp_path):
    with UdpReceiver(("127.0.0.1", 0), tmp_path) as receiver, Stranger(receiver.address) as sender:
        sender.begin(b"n" * 16, sender.greet(b"n" * 16))
        assert wait_for(lambda: receiver.streams)
        with Stranger(receiver.address) as other:
            other.sock.send(wire.pack_hello(STREAM, b"o" * 16, "../x", wire.greeting_seal(None)))
            assert wait_for(lambda: receiver.refused)
        assert receiver.streams == ["heart"]

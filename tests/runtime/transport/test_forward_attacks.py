import contextlib
import os
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_packets import LiveSource, decoded_files, live_spec, segment_of, wait_for

from edge_codec.bitstream.header import pack_header
from edge_codec.runtime.access import Access
from edge_codec.runtime.transport import forward_wire as wire
from edge_codec.runtime.transport import tcp_receive
from edge_codec.runtime.transport.channel import HEAD
from edge_codec.runtime.transport.forward_wire import Kind
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.tcp_forward import TcpForwardSink
from edge_codec.runtime.transport.tcp_receive import PacketReceiver

LOCAL = ("127.0.0.1", 0)
SPEC = live_spec()
HEADER = pack_header(SPEC)
QUICK = ReceiverOptions(hello_s=0.3, message_s=0.3, silence_s=0.6)
PATIENT = ReceiverOptions(hello_s=10, message_s=10, silence_s=10)


class RawSender:
    """Speaks the protocol by hand."""

    def __init__(self, address, session=None, name="heart"):
        self.sock = socket.create_connection(address, 5)
        self.session = session or os.urandom(wire.SESSION_SIZE)
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def say(self, kind, body=b""):
        self.sock.sendall(HEAD.pack(kind, len(body)) + body)

    def hear(self):
        """The next message; None where the receiver has closed the connection."""
        head = self._read(HEAD.size)
        if head is None:
            return None
        kind, size = HEAD.unpack(head)
        return kind, self._read(size)

    def _read(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        return data

    def greet(self):
        kind, _ = self.hear()
        assert kind == Kind.CHALLENGE
        hello = wire.Hello(bytes(wire.NONCE_SIZE), bytes(32), self.session, self.name)
        self.say(Kind.HELLO, hello.pack())
        kind, body = self.hear()
        assert kind == Kind.WELCOME
        return wire.unpack_welcome(body)[1]

    def error(self):
        """What the receiver says before it closes the connection."""
        text = ""
        while (message := self.hear()) is not None:
            if message[0] == Kind.ERROR:
                text = wire.unpack_error(message[1])[1]
        return text


def still_serves(receiver, folder):
    source = LiveSource(SPEC, seed=9)
    sink = TcpForwardSink(receiver.address)
    sink.begin(segment_of(SPEC, name="after"))
    for _ in range(3):
        packet = source.packet()
        sink.send(packet, packet.pack())
    sink.end()
    frames = [frame for path in folder.glob("after*") for frame in decoded_files(path)["0000.ecd"]]
    assert len(frames) % 3 == 0
    assert frames


def messages():
    """What a sender may say at any point, sensible or not."""
    source = LiveSource(SPEC)
    packets = [source.packet().pack() for _ in range(4)]
    number = st.integers(0, 5)
    return st.lists(
        st.one_of(
            st.tuples(st.just(Kind.BEGIN), st.builds(wire.pack_begin, number, st.just(HEADER))),
            st.tuples(st.just(Kind.PACKET), st.sampled_from(packets)),
            st.tuples(st.just(Kind.GAP), st.builds(wire.pack_gap, number, number, number)),
            st.tuples(st.just(Kind.END), st.builds(wire.pack_end, number, number)),
            st.tuples(st.integers(0, 255), st.binary(max_size=60)),
        ),
        max_size=12,
    )


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    with PacketReceiver(LOCAL, folder, QUICK) as found:
        yield found, folder


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=400))
def test_random_bytes_harm_only_their_connection(receiver, data):
    found, _ = receiver
    with RawSender(found.address) as sender:
        sender.sock.sendall(data)
        sender.sock.shutdown(socket.SHUT_WR)
        while sender.hear() is not None:
            pass
    assert found._thread.is_alive()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=messages())
def test_messages_in_any_order_harm_only_their_connection(receiver, said):
    found, folder = receiver
    with RawSender(found.address, name="odd") as sender:
        sender.greet()
        with contextlib.suppress(OSError):  # the receiver may have had enough
            for kind, body in said:
                sender.say(kind, body)
            sender.sock.shutdown(socket.SHUT_WR)
        while sender.hear() is not None:
            pass
    for path in folder.glob("odd*"):
        assert (path / "transport.jsonl").exists()


def test_after_all_that_it_still_serves_and_every_file_is_whole(receiver):
    found, folder = receiver
    still_serves(found, folder)
    assert wait_for(lambda: not found._connections)
    found._sessions.close_idle(0)
    for path in folder.iterdir():
        decoded_files(path)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(Kind.PACKET, b"\xecP")], "no segment has begun"),
        ([(Kind.GAP, wire.pack_gap(0, 0, 1))], "no segment has begun"),
        ([(Kind.END, wire.pack_end(0, 0))], "no segment has begun"),
        ([(Kind.BEGIN, wire.pack_begin(0, HEADER[:-1]))], "header"),
        ([(Kind.BEGIN, wire.pack_begin(0, b""))], "not an edge-codec stream"),
        ([(Kind.BEGIN, wire.pack_begin(0, HEADER)), (Kind.PACKET, b"junk")], "a packet must begin"),
        ([(99, b"")], "none of a sender's"),
        ([(Kind.WELCOME, b"")], "none of a sender's"),
        ([(Kind.GAP, bytes(11))], "are due"),
        (
            [(Kind.BEGIN, wire.pack_begin(0, HEADER)), (Kind.GAP, wire.pack_gap(0, 5, 9))],
            "is due",
        ),
        ([(Kind.BEGIN, wire.pack_begin(0, HEADER)), (Kind.END, wire.pack_end(0, 7))], "is due"),
        (
            [
                (Kind.BEGIN, wire.pack_begin(0, HEADER)),
                (Kind.BEGIN, wire.pack_begin(0, pack_header(live_spec(rows=13)))),
            ],
            "another header",
        ),
        (
            [
                (Kind.BEGIN, wire.pack_begin(0, HEADER)),
                (Kind.PACKET, LiveSource(live_spec(2)).packet(1).pack()),
            ],
            "outside the stream",
        ),
        (
            [(Kind.BEGIN, wire.pack_begin(0, HEADER)), (Kind.PACKET, bytes(2_000_000))],
            "are allowed",
        ),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused_in_words(tmp_path, said, expected):
    with PacketReceiver(LOCAL, tmp_path, PATIENT) as found, RawSender(found.address) as sender:
        sender.greet()
        for kind, body in said:
            sender.say(kind, body)
        assert expected in sender.error()


def test_a_slice_that_cannot_go_on_gets_a_key_frame_requested(tmp_path):
    source = LiveSource(live_spec(2))
    packets = [source.packet(slice_index) for slice_index in (0, 1, 0, 1, 0)]
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found, RawSender(found.address) as sender:
        sender.greet()
        sender.say(Kind.BEGIN, wire.pack_begin(0, pack_header(source.spec)))
        for packet in packets[:2]:
            sender.say(Kind.PACKET, packet.pack())
        sender.say(Kind.GAP, wire.pack_gap(0, 2, 3))
        for packet in packets[3:]:
            sender.say(Kind.PACKET, packet.pack())
        kinds = []
        while not kinds or kinds[-1][0] != Kind.KEY:
            kinds.append(sender.hear())
        assert wire.unpack_key(kinds[-1][1]) == 0


def test_a_packet_that_leaves_others_out_is_refused(tmp_path):
    source = LiveSource(SPEC)
    packets = [source.packet().pack() for _ in range(3)]
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found, RawSender(found.address) as sender:
        sender.greet()
        sender.say(Kind.BEGIN, wire.pack_begin(0, HEADER))
        sender.say(Kind.PACKET, packets[0])
        sender.say(Kind.PACKET, packets[2])
        assert "where 1 of 0 is due" in sender.error()


def test_a_huge_message_is_refused_before_memory_is_spent(tmp_path):
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found:
        with RawSender(found.address) as sender:
            sender.sock.sendall(HEAD.pack(Kind.HELLO, 0xFFFFFFFF))
            sender.hear()
            assert "1024 are allowed" in sender.error()
        with RawSender(found.address) as sender:
            sender.greet()
            sender.sock.sendall(HEAD.pack(Kind.PACKET, 0xFFFFFFFF))
            assert "are allowed" in sender.error()


@pytest.mark.parametrize("greeted", [False, True])
def test_a_slow_sender_is_cut_off(tmp_path, greeted):
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found, RawSender(found.address) as sender:
        if greeted:
            sender.greet()
        stop = threading.Event()

        def trickle():
            for byte in HEAD.pack(Kind.BEGIN, 500) + bytes(500):
                if stop.wait(0.05):
                    return
                try:
                    sender.sock.send(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert sender.error()  # long before 505 bytes have come
        finally:
            stop.set()
            thread.join()


def test_a_silent_sender_is_cut_off(tmp_path):
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found, RawSender(found.address) as sender:
        sender.greet()
        assert "no sign of life" in sender.error()


def test_too_many_connections_are_refused_and_the_others_go_on(tmp_path):
    options = ReceiverOptions(max_peers=2)
    with PacketReceiver(LOCAL, tmp_path, options) as found:
        with RawSender(found.address) as first, RawSender(found.address, name="b") as second:
            first.greet()
            second.greet()
            with RawSender(found.address) as third:
                assert third.hear() is None
            first.say(Kind.BEGIN, wire.pack_begin(0, HEADER))
            assert first.hear()[0] == Kind.ACK
        assert wait_for(lambda: not found._connections)
        still_serves(found, tmp_path)


def test_a_second_connection_of_a_session_takes_over(tmp_path):
    session = os.urandom(wire.SESSION_SIZE)
    source = LiveSource(SPEC)
    with PacketReceiver(LOCAL, tmp_path) as found, RawSender(found.address, session) as old:
        old.greet()
        old.say(Kind.BEGIN, wire.pack_begin(0, HEADER))
        old.say(Kind.PACKET, source.packet().pack())
        while old.hear() != (Kind.ACK, wire.Position(0, 1).pack()):
            pass
        with RawSender(found.address, session) as new:
            assert new.greet() == wire.Position(0, 1)
            assert old.hear() is None


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "", "x" * 65, "nul\0"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    (out := tmp_path / "out").mkdir()
    with PacketReceiver(LOCAL, out, QUICK) as found, RawSender(found.address) as sender:
        sender.hear()
        body = wire.Hello(bytes(32), bytes(32), bytes(16), "x").pack()[:-1] + name.encode()
        sender.say(Kind.HELLO, body)
        assert "stream name" in sender.error()
    assert list(tmp_path.iterdir()) == [out]
    assert not list(out.iterdir())


def test_a_proof_is_not_good_for_another_connection(tmp_path):
    token = "0123456789abcdef"
    options = ReceiverOptions(Access(token), hello_s=0.5)
    with PacketReceiver(LOCAL, tmp_path, options) as found:
        proofs = []
        for _ in range(2):
            with RawSender(found.address) as sender:
                _, body = sender.hear()
                challenge = wire.Challenge.unpack(body)
                hello = wire.Hello(bytes(32), bytes(32), bytes(16), "heart")
                proofs.append(wire.sender_proof(token.encode(), challenge, hello))
                sender.say(Kind.HELLO, wire.Hello(bytes(32), proofs[0], bytes(16), "heart").pack())
                kind, body = sender.hear()
                assert kind == (Kind.WELCOME if len(proofs) == 1 else Kind.ERROR)


def test_strangers_who_say_nothing_do_not_keep_senders_out(tmp_path):
    options = ReceiverOptions(max_peers=3, hello_s=60)
    with PacketReceiver(LOCAL, tmp_path, options) as found, contextlib.ExitStack() as stack:
        first, *silent = [stack.enter_context(RawSender(found.address)) for _ in range(3)]
        first.greet()
        for sender in silent:
            assert sender.hear()[0] == Kind.CHALLENGE
        late = stack.enter_context(RawSender(found.address, name="late"))
        late.greet()
        assert silent[0].hear() is None  # the oldest of them left
        for sender in (first, late):
            sender.say(Kind.PING)
            assert sender.hear()[0] == Kind.ACK


def test_a_sender_that_does_not_read_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(tcp_receive, "_MAX_UNREAD", 0)  # bytes; many fit into the network
    with PacketReceiver(LOCAL, tmp_path, QUICK) as found, RawSender(found.address) as sender:
        sender.greet()
        sender.say(Kind.PING)
        assert "does not read" in sender.error()

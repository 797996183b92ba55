import contextlib
import socket
import threading

import pytest
from live_packets import LiveSource, live_spec, segment_of, wait_for

from edge_codec.errors import SinkError
from edge_codec.runtime.transport import forward_wire as wire
from edge_codec.runtime.transport import tcp_forward
from edge_codec.runtime.transport.channel import HEAD, Channel
from edge_codec.runtime.transport.forward_options import ForwardOptions
from edge_codec.runtime.transport.forward_wire import Kind
from edge_codec.runtime.transport.tcp_forward import TcpForwardSink
from edge_codec.runtime.transport.tcp_receive import PacketReceiver

LOCAL = ("127.0.0.1", 0)
SPEC = live_spec()


class LyingReceiver:
    """Accepts one connection, says given bytes, and keeps it open."""

    def __init__(self, said):
        self.sock = socket.create_server(LOCAL)
        self.address = self.sock.getsockname()
        self._said = said
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        self.sock.settimeout(0.05)
        held = []
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                held.append(self.sock.accept()[0])
                held[-1].sendall(self._said)
        for sock in held:
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.sock.close()


def message(kind, body=b""):
    return HEAD.pack(kind, len(body)) + body


GREETING = message(Kind.CHALLENGE, wire.Challenge(bytes(32), False).pack())
WELCOME = message(Kind.WELCOME, wire.pack_welcome(bytes(32), wire.Position()))


def test_a_receiver_s_request_reaches_the_encoder():
    requests = []
    with LyingReceiver(GREETING + WELCOME + message(Kind.KEY, wire.pack_key(0))) as liar:
        sink = TcpForwardSink(liar.address, on_key_request=requests.append)
        sink.begin(segment_of(SPEC))
        assert wait_for(lambda: requests)
        sink.abort()
    assert requests == [0]


def test_what_was_not_confirmed_is_sent_again():
    """A receiver that takes a packet and leaves without a word gets it once more."""
    seen = []
    with socket.create_server(LOCAL) as server:

        def serve():
            for _ in range(2):
                sock, _ = server.accept()
                with sock:
                    sock.sendall(GREETING + WELCOME)
                    data = b""
                    while data.count(b"\xecP") < 2:
                        data += sock.recv(1 << 16)
                    seen.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        source = LiveSource(SPEC)
        sink = TcpForwardSink(server.getsockname(), ForwardOptions(retry_s=0.02))
        sink.begin(segment_of(SPEC))
        packets = [source.packet() for _ in range(2)]
        for packet in packets:
            sink.send(packet, packet.pack())
        thread.join(20)
        sink.abort()
    for data in seen:
        assert data.endswith(b"".join(message(Kind.PACKET, packet.pack()) for packet in packets))
    assert len(seen) == 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        HEAD.pack(Kind.CHALLENGE, 0xFFFFFFFF),
        message(Kind.WELCOME),
        GREETING + message(Kind.ACK),
        GREETING + WELCOME,
        GREETING + WELCOME + message(Kind.ACK, b"short"),
        GREETING + WELCOME + message(Kind.KEY, wire.pack_key(70)),
        GREETING + WELCOME + message(Kind.PACKET),
    ],
    ids=range(9),
)
def test_a_hostile_receiver_fails_the_stream_in_time(said):
    source = LiveSource(SPEC)
    options = ForwardOptions(patience_s=0.3, connect_s=0.1, silence_s=0.1, retry_s=0.02)
    with LyingReceiver(said) as liar:
        sink = TcpForwardSink(liar.address, options)
        sink.begin(segment_of(SPEC))
        packet = source.packet()
        sink.send(packet, packet.pack())
        with pytest.raises(SinkError, match="check that the receiver runs"):
            sink.end()
        sink.abort()


def test_what_waits_for_a_peer_is_counted():
    with socket.create_server(LOCAL) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        far.settimeout(5)
        channel = Channel(near, 1000, 1.0)
        channel.queue(Kind.PACKET, b"x" * 10, b"y")
        channel.queue(Kind.PING)
        assert channel.waiting == 2 * HEAD.size + 11
        channel.pump(0)
        assert channel.waiting == 0
        assert far.recv(100) == message(Kind.PACKET, b"x" * 10 + b"y") + message(Kind.PING)


def test_what_a_receiver_lost_after_it_had_confirmed_it_is_counted():
    """Receivers that confirm packets, and know nothing of them at the next connection."""
    confirms = message(Kind.ACK, wire.Position(0, 2).pack())
    source = LiveSource(SPEC)
    with LyingReceiver(GREETING + WELCOME + confirms) as liar:
        sink = TcpForwardSink(liar.address, ForwardOptions(silence_s=0.2, retry_s=0.02))
        sink.begin(segment_of(SPEC))
        for _ in range(3):
            packet = source.packet()
            sink.send(packet, packet.pack())
        assert wait_for(lambda: sink.counts.lost)
        sink.abort()
    assert sink.counts.lost % 2 == 0


def test_a_segment_that_begins_while_the_last_connection_still_ends_is_sent(tmp_path, monkeypatch):
    trying, give_up = threading.Event(), threading.Event()
    connect = socket.create_connection

    def hang(address, timeout):
        if give_up.is_set():
            return connect(address, timeout)
        trying.set()
        give_up.wait(10)
        raise TimeoutError("no route")

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(tcp_forward, "_JOIN_S", 0.0)
    source = LiveSource(SPEC)
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address, ForwardOptions(retry_s=0.02))
        sink.begin(segment_of(SPEC))
        assert trying.wait(10)
        sink._halt()
        sink.begin(segment_of(SPEC, number=1))
        give_up.set()
        packet = source.packet()
        sink.send(packet, packet.pack())
        sink.end()
    assert sink.counts.acknowledged == 2

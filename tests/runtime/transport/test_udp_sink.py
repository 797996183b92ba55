import socket

import pytest
from live_packets import LiveSource, decoded_files, live_spec, segment_of, wait_for

from edge_codec.errors import SinkError, SpecError
from edge_codec.runtime.access import Access
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.forward_options import ForwardOptions, WhenGone
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.udp_receive import UdpReceiver
from edge_codec.runtime.transport.udp_sink import UdpSink

TOKEN = "0123456789abcdef-token"
LOCAL = ("127.0.0.1", 0)
WITH_TOKEN = ReceiverOptions(Access(TOKEN))


def push(sink, source, slice_index=0):
    packet = source.packet(slice_index)
    sink.send(packet, packet.pack())


def forward(sink, source, count, number=0, slices=1):
    sink.begin(segment_of(source.spec, number=number))
    for i in range(count):
        push(sink, source, i % slices)
    sink.end()


def check_frames(files, source):
    """Every stored frame is one that was sent, bit for bit."""
    sent = {frame.tobytes() for frame in source.shown.values()}
    for frames in files.values():
        assert all(frame.tobytes() in sent for _, frame in frames)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_packets_arrive_in_order_and_bit_for_bit(tmp_path, token):
    source = LiveSource(live_spec(n_slices=3, rows=40, columns=60))
    options = WITH_TOKEN if token else None
    with UdpReceiver(LOCAL, tmp_path, options) as receiver:
        sink = UdpSink(receiver.address, ForwardOptions(token=token))
        forward(sink, source, 60, slices=3)
        assert receiver.completed == 1
    frames = decoded_files(tmp_path / "heart")["0000.ecd"]
    assert [packet.sequence for packet, _ in frames] == list(range(60))
    for packet, frame in frames:
        assert (frame == source.shown[packet.slice_index, packet.phase_index]).all()


def test_segments_become_files(tmp_path):
    sources = [LiveSource(live_spec(rows=rows), seed=rows) for rows in (12, 20)]
    with UdpReceiver(LOCAL, tmp_path) as receiver:
        sink = UdpSink(receiver.address)
        for number, source in enumerate(sources):
            forward(sink, source, 5, number)
    files = decoded_files(tmp_path / "heart")
    assert [len(frames) for frames in files.values()] == [5, 5]
    check_frames({"0001.ecd": files["0001.ecd"]}, sources[1])


def test_receiver_that_is_replaced_goes_on(tmp_path):
    source = LiveSource(live_spec(key_interval=64))
    first = UdpReceiver(LOCAL, tmp_path)
    sink = UdpSink(first.address, on_key_request=source.request_key)
    sink.begin(segment_of(source.spec))
    for _ in range(10):
        push(sink, source)
    assert wait_for(lambda: first.streams)
    first.close()
    for _ in range(10):
        push(sink, source)
    with UdpReceiver(first.address, tmp_path) as second:
        assert wait_for(lambda: second.streams)
        for _ in range(10):
            push(sink, source)
        sink.end()
        assert second.completed == 1
    files = decoded_files(tmp_path / "heart")
    check_frames(files, source)
    assert sum(map(len, files.values())) >= 10


@pytest.mark.parametrize("when", WhenGone)
def test_nobody_there(when):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(LOCAL)
        address = free.getsockname()
    source = LiveSource(live_spec())
    sink = UdpSink(address, ForwardOptions(when_gone=when, patience_s=0.1))
    if when is WhenGone.GO_ON:
        forward(sink, source, 5)
    else:
        with pytest.raises(SinkError, match="check address, token"):
            forward(sink, source, 5)
    sink.abort()


@pytest.mark.parametrize("token", [None, "another-token-altogether"])
def test_wrong_token_gets_no_answer(tmp_path, token):
    source = LiveSource(live_spec())
    with UdpReceiver(LOCAL, tmp_path, WITH_TOKEN) as receiver:
        sink = UdpSink(receiver.address, ForwardOptions(token=token, patience_s=0.2))
        with pytest.raises(SinkError):
            forward(sink, source, 5)
        assert receiver.refused > 0
        assert sink._sender.heard_ns is None
    assert not list(tmp_path.iterdir())


def test_a_greeting_is_answered_with_less_and_nothing_else_is(tmp_path):
    with (
        UdpReceiver(LOCAL, tmp_path) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(receiver.address)
        sock.settimeout(5)
        seal = wire.greeting_seal(None)
        hello = wire.pack_hello(b"12345678", bytes(16), "heart", seal)
        assert len(hello) == wire.MAX_DATAGRAM
        sock.send(hello)
        assert len(sock.recv(2000)) < len(hello) / 10
        short = wire.Datagram(wire.Kind.HELLO, b"12345678", body=bytes(16) + b"\5heart")
        for data in (short.pack(seal), hello[:-1] + b"?", b"", b"EU", bytes(1300)):
            sock.send(data)
        assert wait_for(lambda: receiver.refused >= 4)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(2000)
        assert not receiver.streams
    assert not list(tmp_path.iterdir())


def test_who_is_elsewhere_is_not_heard(tmp_path):
    source = LiveSource(live_spec())
    with (
        UdpReceiver(LOCAL, tmp_path) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere,
    ):
        sink = UdpSink(receiver.address)
        sink.begin(segment_of(source.spec))
        push(sink, source)
        assert wait_for(lambda: sink._sender.heard_ns)
        before = receiver.refused
        sender = sink._sender
        copied = wire.Datagram(wire.Kind.PING, sender._stream).pack(sender._seal)
        elsewhere.sendto(copied, receiver.address)
        assert wait_for(lambda: receiver.refused > before)
        push(sink, source)
        sink.end()
    assert len(decoded_files(tmp_path / "heart")["0000.ecd"]) == 2


def test_greetings_of_many_take_no_room(tmp_path):
    with (
        UdpReceiver(LOCAL, tmp_path) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(receiver.address)
        seal = wire.greeting_seal(None)
        for number in range(300):
            sock.send(wire.pack_hello(number.to_bytes(8, "little"), bytes(16), "heart", seal))
        assert wait_for(lambda: len(receiver._greeted) >= 32)
        assert len(receiver._greeted) <= 64
        source = LiveSource(live_spec())
        forward(UdpSink(receiver.address), source, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["heart"]


def test_tls_is_refused_and_so_is_listening_to_everybody(tmp_path):
    with pytest.raises(SpecError, match="--token-file"):
        UdpReceiver(("0.0.0.0", 0), tmp_path)
    with (
        UdpReceiver(LOCAL, tmp_path) as receiver,
        pytest.raises(SpecError, match="another address or port"),
    ):
        UdpReceiver(receiver.address, tmp_path)

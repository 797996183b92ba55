import socket
import threading

import pytest
from live_packets import LiveSource, decoded_files, live_spec, segment_of, wait_for
from tls_files import make_certificate

from edge_codec.errors import SinkError, SpecError
from edge_codec.runtime.access import Access, client_context, server_context
from edge_codec.runtime.frame_event import FrameOutcome
from edge_codec.runtime.transport.forward_options import ForwardOptions, WhenGone
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.tcp_forward import TcpForwardSink
from edge_codec.runtime.transport.tcp_receive import PacketReceiver

TOKEN = "0123456789abcdef-token"
LOCAL = ("127.0.0.1", 0)


def forward(sink, source, count, number=0, slices=1):
    sink.begin(segment_of(source.spec, number=number))
    for i in range(count):
        push(sink, source, i % slices)
    sink.end()


def push(sink, source, slice_index=0):
    packet = source.packet(slice_index)
    sink.send(packet, packet.pack())


def check_whole(folder, source, count, file="0000.ecd"):
    files = decoded_files(folder)
    assert len(files[file]) == count
    for sequence, (packet, frame) in enumerate(files[file]):
        assert packet.sequence == sequence
        assert (frame == source.shown[packet.slice_index, packet.phase_index]).all()


def test_packets_arrive_in_order_and_bit_for_bit(tmp_path):
    source = LiveSource(live_spec(n_slices=3))
    seen = []
    with PacketReceiver(LOCAL, tmp_path, listener=seen.append) as receiver:
        sink = TcpForwardSink(receiver.address)
        forward(sink, source, 60, slices=3)
        assert sink.counts.acknowledged == 61
        assert sink.counts.lost == 0
        assert receiver.completed == 1
    check_whole(tmp_path / "heart", source, 60)
    assert [(event.stream, event.sequence) for event in seen] == [("heart", i) for i in range(60)]
    assert all(event.outcome is FrameOutcome.SENT and event.latency_ns > 0 for event in seen)


def test_segments_become_files(tmp_path):
    sources = [LiveSource(live_spec(rows=rows), seed=rows) for rows in (12, 20)]
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address)
        for number, source in enumerate(sources):
            forward(sink, source, 5, number)
    for number, source in enumerate(sources):
        check_whole(tmp_path / "heart", source, 5, f"000{number}.ecd")


def test_several_senders_at_once(tmp_path):
    sources = [LiveSource(live_spec(), seed=i) for i in range(4)]
    with PacketReceiver(LOCAL, tmp_path) as receiver:

        def run(index):
            sink = TcpForwardSink(receiver.address)
            sink.begin(segment_of(sources[index].spec, name=f"s{index}"))
            for _ in range(20):
                push(sink, sources[index])
            sink.end()

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    for index, source in enumerate(sources):
        check_whole(tmp_path / f"s{index}", source, 20)


def test_the_same_name_from_another_session_gets_a_folder_of_its_own(tmp_path):
    sources = [LiveSource(live_spec(), seed=i) for i in range(2)]
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        for source in sources:
            forward(TcpForwardSink(receiver.address), source, 3)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders[0] == "heart"
    assert folders[1].startswith("heart.")
    for folder, source in zip(folders, sources, strict=True):
        check_whole(tmp_path / folder, source, 3)


def test_sender_goes_on_after_the_receiver_was_replaced(tmp_path):
    source = LiveSource(live_spec())
    first = PacketReceiver(LOCAL, tmp_path)
    sink = TcpForwardSink(first.address, ForwardOptions(retry_s=0.02, max_retry_s=0.05))
    sink.begin(segment_of(source.spec))
    for _ in range(10):
        push(sink, source)
    assert wait_for(lambda: sink.counts.acknowledged == 10)
    first.close()
    for _ in range(10):
        push(sink, source)
    with PacketReceiver(first.address, tmp_path):
        for _ in range(10):
            push(sink, source)
        sink.end()
    assert sink.counts.connections >= 2
    assert sink.counts.lost == 0
    check_whole(tmp_path / "heart", source, 30)


def test_broken_connection_resumes_in_the_same_file(tmp_path):
    source = LiveSource(live_spec())
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address, ForwardOptions(retry_s=0.02))
        sink.begin(segment_of(source.spec))
        made = 0
        for i in range(60):
            push(sink, source)
            if i % 20 == 10:
                assert wait_for(lambda made=made: sink.counts.connections > made)
                made = sink.counts.connections
                for connection in list(receiver._connections):
                    connection._sock.shutdown(socket.SHUT_RDWR)
        sink.end()
        assert sink.counts.connections >= 4
    check_whole(tmp_path / "heart", source, 60)


def test_gone_receiver_fails_the_stream(tmp_path):
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        address = receiver.address
    source = LiveSource(live_spec())
    sink = TcpForwardSink(address, ForwardOptions(patience_s=0.2, retry_s=0.02, window_packets=4))
    with pytest.raises(SinkError, match="check that the receiver runs"):
        forward(sink, source, 10)
    sink.abort()


def test_gone_receiver_lets_the_others_go_on_and_nothing_is_lost_silently(tmp_path):
    source = LiveSource(live_spec(key_interval=64))
    first = PacketReceiver(LOCAL, tmp_path)
    options = ForwardOptions(
        when_gone=WhenGone.GO_ON, patience_s=5, retry_s=0.02, max_retry_s=0.05, window_packets=8
    )
    sink = TcpForwardSink(first.address, options, source.request_key)
    sink.begin(segment_of(source.spec))
    for _ in range(6):
        push(sink, source)
    assert wait_for(lambda: sink.counts.acknowledged == 6)
    first.close()
    assert wait_for(lambda: sink._gone_s is not None)
    for _ in range(30):
        push(sink, source)  # never blocks for long, never raises
    lost = sink.counts.lost
    assert lost == 22
    with PacketReceiver(first.address, tmp_path) as second:
        assert wait_for(lambda: source.requests)
        for _ in range(10):
            push(sink, source)
        sink.end()
        counts = second
        assert counts.completed == 1
    assert source.requests[0] is None
    files = decoded_files(tmp_path / "heart")
    assert [len(frames) for frames in files.values()] == [6, 10]
    (packet, _), *_ = files["0001.ecd"]
    assert packet.key
    stored = list(source.shown.items())[36:]
    for (_, frame), (_, due) in zip(files["0001.ecd"], stored, strict=True):
        assert (frame == due).all()
    journal = (tmp_path / "heart" / "transport.jsonl").read_text()
    assert '"event": "lost", ' in journal
    assert '"first": 6, "end": 28' in journal


def test_slow_receiver_holds_the_sender_back(tmp_path):
    source = LiveSource(live_spec())
    allow = threading.Semaphore(0)
    with PacketReceiver(LOCAL, tmp_path, listener=lambda _: allow.acquire(timeout=20)) as receiver:
        sink = TcpForwardSink(receiver.address, ForwardOptions(window_packets=8))
        sink.begin(segment_of(source.spec))
        done = threading.Event()

        def run():
            for _ in range(30):
                push(sink, source)
            done.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert not done.wait(0.3)
        assert sink.counts.packets <= 9
        for _ in range(30):
            allow.release()
        assert done.wait(10)
        thread.join(10)
        sink.end()
        assert sink.counts.lost == 0
    check_whole(tmp_path / "heart", source, 30)


@pytest.mark.parametrize("token", [None, "another-token-altogether"])
def test_wrong_token_is_refused(tmp_path, token):
    options = ReceiverOptions(Access(TOKEN))
    source = LiveSource(live_spec())
    with PacketReceiver(LOCAL, tmp_path, options) as receiver:
        sink = TcpForwardSink(receiver.address, ForwardOptions(token=token))
        with pytest.raises(SinkError, match="token"):
            forward(sink, source, 3)
        sink.abort()
    assert not list(tmp_path.iterdir())


def test_right_token_is_let_in(tmp_path):
    source = LiveSource(live_spec())
    with PacketReceiver(LOCAL, tmp_path, ReceiverOptions(Access(TOKEN))) as receiver:
        forward(TcpForwardSink(receiver.address, ForwardOptions(token=TOKEN)), source, 3)
    check_whole(tmp_path / "heart", source, 3)


def test_receiver_that_does_not_know_the_token_gets_nothing(tmp_path):
    source = LiveSource(live_spec())
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address, ForwardOptions(token=TOKEN))
        with pytest.raises(SinkError, match="does not know the token"):
            forward(sink, source, 3)
        sink.abort()
    assert not list(tmp_path.glob("*/*.ecd"))


def test_a_port_in_use_is_refused(tmp_path):
    with (
        PacketReceiver(LOCAL, tmp_path) as receiver,
        pytest.raises(SpecError, match="another address or port"),
    ):
        PacketReceiver(receiver.address, tmp_path)


def test_listening_to_everybody_needs_a_token(tmp_path):
    with pytest.raises(SpecError, match="--token-file"):
        PacketReceiver(("0.0.0.0", 0), tmp_path)


def test_abort_ends_the_stream_with_what_is_whole(tmp_path):
    source = LiveSource(live_spec())
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address)
        sink.begin(segment_of(source.spec))
        for _ in range(5):
            push(sink, source)
        assert wait_for(lambda: sink.counts.acknowledged == 5)
        sink.abort()
        assert wait_for(lambda: not receiver.streams)
    check_whole(tmp_path / "heart", source, 5)
    assert "the sender has aborted" in (tmp_path / "heart" / "transport.jsonl").read_text()


def tls_receiver(folder, certificate):
    access = Access(TOKEN, server_context(*certificate))
    return PacketReceiver(LOCAL, folder, ReceiverOptions(access))


def test_tls_with_the_right_ca(tmp_path):
    cert, key = make_certificate(tmp_path)
    (out := tmp_path / "out").mkdir()
    source = LiveSource(live_spec(rows=64, columns=64))
    with tls_receiver(out, (cert, key)) as receiver:
        options = ForwardOptions(token=TOKEN, tls=client_context(cert))
        forward(TcpForwardSink(receiver.address, options), source, 40)
    check_whole(out / "heart", source, 40)


def test_tls_with_a_wrong_ca_or_none_gets_nothing_through(tmp_path):
    cert, key = make_certificate(tmp_path)
    (other := tmp_path / "other").mkdir()
    other_cert, _ = make_certificate(other)
    (out := tmp_path / "out").mkdir()
    source = LiveSource(live_spec())
    with tls_receiver(out, (cert, key)) as receiver:
        wrong = ForwardOptions(token=TOKEN, tls=client_context(other_cert))
        with pytest.raises(SinkError, match="certificate"):
            forward(TcpForwardSink(receiver.address, wrong), source, 3)
        clear = ForwardOptions(token=TOKEN, patience_s=0.3, retry_s=0.05)
        with pytest.raises(SinkError):
            forward(sink := TcpForwardSink(receiver.address, clear), source, 3)
        sink.abort()
    assert not list(out.iterdir())


def test_many_short_segments_come_one_after_the_other(tmp_path):
    """The connection of one is hardly over when that of the next is there."""
    with PacketReceiver(LOCAL, tmp_path) as receiver:
        sink = TcpForwardSink(receiver.address)
        for number in range(15):
            source = LiveSource(live_spec(), seed=number)
            forward(sink, source, 2, number)
        assert receiver.completed == 15
    assert [len(frames) for frames in decoded_files(tmp_path / "heart").values()] == [2] * 15

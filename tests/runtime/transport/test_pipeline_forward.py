import pytest
from live_packets import decoded_files, live_frames, wait_for

from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.stream_file import FileSink
from edge_codec.runtime.transport.forward_options import ForwardOptions, WhenGone
from edge_codec.runtime.transport.open_forward import open_forward
from edge_codec.runtime.transport.tcp_receive import PacketReceiver
from edge_codec.runtime.transport.udp_receive import UdpReceiver
from edge_codec.spec import Effort

LOCAL = ("127.0.0.1", 0)
OPTIONS = LiveOptions(effort=Effort.FAST, budget_ms=0, n_slices=2, key_interval=1000)


def forward(receiver, scheme, local, frames):
    """Store frames here and at the receiver; the matrix changes in the middle."""
    host, port = receiver.address
    sink = open_forward(f"{scheme}://{host}:{port}")
    with Pipeline() as pipeline:
        stream = pipeline.open("heart", OPTIONS, [FileSink(local), sink])
        sink.on_key_request = stream.request_key
        for number, frame in enumerate(frames):
            stream.push(frame, number % 2)
        stream.close()


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_what_is_stored_there_is_what_is_stored_here(tmp_path, scheme):
    frames = [*live_frames(20), *live_frames(10, rows=24)]
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    make = PacketReceiver if scheme == "tcp" else UdpReceiver
    with make(LOCAL, there) as receiver:
        forward(receiver, scheme, here, frames)
        assert receiver.completed == 2
    files = sorted(path.name for path in (there / "heart").glob("*.ecd"))
    assert files == ["0000.ecd", "0001.ecd"]
    for file in files:
        assert (there / "heart" / file).read_bytes() == (here / "heart" / file).read_bytes()


def test_the_pipeline_makes_the_key_frame_that_a_gap_asks_for(tmp_path):
    first = PacketReceiver(LOCAL, tmp_path)
    options = ForwardOptions(
        when_gone=WhenGone.GO_ON, retry_s=0.02, max_retry_s=0.05, window_packets=8
    )
    host, port = first.address
    sink = open_forward(f"tcp://{host}:{port}", options)
    frames = list(live_frames(60))
    with Pipeline() as pipeline:
        stream = pipeline.open("heart", LiveOptions(effort=Effort.FAST, budget_ms=0), [sink])
        sink.on_key_request = stream.request_key
        for frame in frames[:5]:
            stream.push(frame)
        assert wait_for(lambda: sink.counts.acknowledged == 5)
        first.close()
        assert wait_for(lambda: sink.counts.last_error)
        for frame in frames[5:40]:
            stream.push(frame)
        stream.flush()
        with PacketReceiver(first.address, tmp_path) as second:
            assert wait_for(lambda: sink.counts.key_requests)
            for frame in frames[40:]:
                stream.push(frame)
            stream.close()
            assert second.completed == 1
    before, after = decoded_files(tmp_path / "heart").values()
    assert len(before) == 5
    assert after[0][0].key
    for (_, frame), due in zip(reversed(after), reversed(frames), strict=False):
        assert (frame == due).all()
    assert len(after) >= 19  # all but those that were coded before the request

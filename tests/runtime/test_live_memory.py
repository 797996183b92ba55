"""The pipeline's own memory: nothing of a frame's size for each frame."""

import tracemalloc

import numpy as np
import pytest
from live_samples import PATIENCE_S, FakeFactory, no_thread_is_left

from edge_codec.bitstream.live import Policy
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline

__all__ = ["no_thread_is_left"]
SIDE = 512


class Forget(PacketList):
    """A sink that keeps nothing."""

    def send(self, packet, data):
        pass


def most_allocated(stream, frame, n: int) -> int:
    """Bytes that were allocated at a time, beyond those before, while frames went through."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in range(n):
        stream.push(frame)
    stream.flush(PATIENCE_S)
    return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("policy", [Policy.ADAPTIVE, Policy.DROP_OLDEST])
def test_nothing_of_a_frames_size_is_allocated_for_a_frame(dtype, policy):
    frame = np.ones((SIDE, SIDE), dtype)
    options = LiveOptions(queue_frames=3, policy=policy)
    with Pipeline(factory=FakeFactory()) as pipeline:
        stream = pipeline.open("a", options, [Forget()])
        for _ in range(20):  # the first frame describes the segment
            stream.push(frame)
        stream.flush(PATIENCE_S)
        tracemalloc.start()
        try:
            most = most_allocated(stream, frame, 50)
        finally:
            tracemalloc.stop()
        made = stream._queue.pool.made
    assert most < frame.nbytes / 4  # 50 frames' events and packets are some kilobytes
    assert made <= options.queue_frames + 1


def test_the_measurement_sees_what_a_frame_allocates():
    def script(frame):
        frame.copy()

    frame = np.ones((SIDE, SIDE), np.int16)
    with Pipeline(factory=FakeFactory(script)) as pipeline:
        stream = pipeline.open("a", LiveOptions(), [Forget()])
        stream.push(frame)
        stream.flush(PATIENCE_S)
        tracemalloc.start()
        try:
            assert most_allocated(stream, frame, 3) >= frame.nbytes
        finally:
            tracemalloc.stop()

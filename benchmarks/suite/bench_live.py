"""The live pipeline's own cost, and telemetry's."""

# ruff: noqa: D103, D401 -- described as tests are

import numpy as np
import pytest

from edge_codec.runtime.frame_event import FrameEvent
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.telemetry.histogram import Histogram
from edge_codec.runtime.telemetry.sensors import Sensors
from edge_codec.runtime.telemetry.telemetry import Telemetry
from edge_codec.spec import Effort

STEPS = {"wait": 10**5, "normalize": 10**5, "code": 8 * 10**6, "pack": 10**5, "send": 10**5}


def bench_histogram_record(benchmark):
    histogram = Histogram()
    benchmark(histogram.record, 8_123_456)
    assert histogram.percentile(50) == pytest.approx(8_123_456, rel=1e-3)


def bench_histogram_percentiles(benchmark):
    histogram = Histogram()
    for value in np.random.default_rng(0).integers(0, 10**7, 10_000).tolist():
        histogram.record(value)
    assert benchmark(histogram.summary_ms)["n"] == 10_000


def bench_telemetry_record(benchmark, tmp_path):
    telemetry = Telemetry(interval_s=0, sensors=Sensors(tmp_path, sources=[]))
    event = FrameEvent("heart", finished_ns=8_500_000, steps_ns=STEPS, packet_bytes=30_000)
    benchmark(telemetry.record, event)
    found = telemetry.snapshot()["streams"]["heart"]
    assert found["sent"] == found["steps_ms"]["code"]["n"] > 0


def bench_pipeline_hand_over(benchmark):
    """A frame of 16 voxels from `push` to the sink: nearly all of it is threads and queues."""
    frame = np.arange(16, dtype=np.int16).reshape(4, 4)
    packets = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("tiny", LiveOptions(effort=Effort.FAST, budget_ms=0), [packets])

        def push():
            stream.push(frame)
            stream.flush()

        benchmark(push)
    assert len(packets.sent) > 0
    assert [packet.phase_index for _, packet, _ in packets.sent] == list(range(len(packets.sent)))


def bench_pipeline_lossless_fast(benchmark, cine):
    """A frame of 256 x 256 from `push` to the sink."""
    packets = PacketList()
    options = LiveOptions(effort=Effort.FAST, budget_ms=0)
    with Pipeline() as pipeline:
        stream = pipeline.open("heart", options, [packets], geometry=None)
        number = iter(range(10**9))

        def push():
            stream.push(cine.voxels[0, next(number) % 20])
            stream.flush()

        benchmark(push)
    assert len(packets.sent) == next(number)

"""Frames, sinks, clocks and coders for tests of live streams."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_codec.bitstream.live import LiveNote
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Decoder
from edge_codec.runtime.clock import Clock
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.warm_up import WarmTimes

PATIENCE_S = 20.0  # of tests that wait for another thread: no more than a sign of a deadlock


def frames(n: int, rows: int = 24, columns: int = 20, dtype: type = np.int16) -> NDArray:
    return heart(n, rows, columns, np.dtype(dtype), seed=3)


def decode(sink: PacketList) -> list[NDArray]:
    """Decode all that a sink got, segment by segment."""
    decoders = {segment.number: Decoder(segment.spec) for segment in sink.segments}
    return [decoders[segment.number].push(packet) for segment, packet, _ in sink.sent]


def notes(sink: PacketList) -> list[LiveNote]:
    return [LiveNote.unpack(packet.layers[LayerId.LIVE]) for _, packet, _ in sink.sent]


def phases(sink: PacketList, slice_index: int) -> list[int]:
    return [p.phase_index for _, p, _ in sink.sent if p.slice_index == slice_index]


def wait_for(condition: threading.Condition, predicate) -> None:
    """Wait for what is seen with the lock of `condition` held; not everything notifies."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with condition:
            if predicate():
                return
        time.sleep(0.001)
    raise AssertionError("what was waited for never came")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Import it into a module to check each of its tests."""
    before = set(threading.enumerate())
    yield
    left = [t.name for t in threading.enumerate() if t not in before and "edge-codec" in t.name]
    assert not left


class Gate(PacketList):
    """A sink that takes packets only while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.waits = threading.Event()

    def send(self, packet, data):
        self.waits.set()
        assert self.open.wait(PATIENCE_S)
        super().send(packet, data)


def all_same(found: list[NDArray], expected) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


class Failing(PacketList):
    """A sink that raises at its n-th packet, or when it is to begin or end."""

    def __init__(self, error: Exception, at: int | str) -> None:
        super().__init__()
        self.error = error
        self.at = at

    def begin(self, segment):
        super().begin(segment)
        self._raise_at("begin")

    def send(self, packet, data):
        self._raise_at(len(self.sent))
        super().send(packet, data)

    def end(self):
        self._raise_at("end")
        super().end()

    def _raise_at(self, place):
        if place == self.at:
            raise self.error


class FakeTime:
    """Clocks that stand still until they are told."""

    def __init__(self, monotonic_ns: int = 10**12, unix_ns: int = 10**18) -> None:
        self.now_ns = monotonic_ns
        self.wall_ns = unix_ns
        self.clock = Clock(lambda: self.now_ns, lambda: self.wall_ns)

    def go_on(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.wall_ns += duration_ns


class FakeCoder:
    """Copies nothing and codes nothing: its packets hold a number for each frame.

    `script` is called with each frame before it is coded: it may wait, set clocks, or raise.
    """

    def __init__(self, factory, spec, mark):
        self.factory = factory
        self.mark = mark
        self.phases: dict[int, int] = {}
        self.sequence = 0

    def push(self, frame, slice_index=0, metadata=b"", *, key=False, give_up_ns=None):
        self.mark("normalize")
        self.factory.calls.append((slice_index, int(frame[0, 0]), key, give_up_ns))
        self.factory.script(frame)
        self.mark("code")
        phase = self.phases.get(slice_index, 0)
        self.phases[slice_index] = phase + 1
        layers = {LayerId.METADATA: b"frame %d" % frame[0, 0]}
        packet = Packet(self.sequence, slice_index, phase, key or phase == 0, layers)
        self.sequence += 1
        return packet

    def restart(self):
        self.phases, self.sequence = {}, 0


class FakeFactory:
    """Takes the place of a `CoderFactory`."""

    def __init__(self, script=lambda frame: None, times=None) -> None:
        self.script = script
        self.times = times or WarmTimes(before_ns=0, fast_ns=1_000_000, n_voxels=0)
        self.calls: list[tuple[int, int, bool, int | None]] = []
        self.closed = False

    def prepare(self, options):
        return lambda spec, mark, resume=None: FakeCoder(self, spec, mark)

    def warm_up(self, make_coder, options, spec):
        rows, columns = spec.info.frame_shape
        return replace(self.times, n_voxels=rows * columns)

    def close(self):
        self.closed = True


def numbered(n: int) -> NDArray:
    """A small frame that a `FakeCoder` knows by its number."""
    return np.full((4, 4), n, np.int16)

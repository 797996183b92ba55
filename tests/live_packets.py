"""Small live streams for the tests of the transport: specs, frames, packets, whole files."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from edge_codec.bitstream.container import StreamReader
from edge_codec.codec import Decoder, Encoder
from edge_codec.runtime.packet_sink import Segment
from edge_codec.spec import CineInfo, Effort, StreamSpec

ROWS, COLUMNS = 12, 16


def live_spec(n_slices=1, key_interval=8, rows=ROWS, columns=COLUMNS):
    info = CineInfo(n_slices, 0, rows, columns, np.dtype(np.int16))
    return StreamSpec(info, low=0, high=4095, key_interval=key_interval, effort=Effort.FAST)


def live_frames(count, seed=0, rows=ROWS, columns=COLUMNS):
    """Smooth frames that move a little, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    for phase in range(count):
        clean = 1500 + 900 * np.sin((x + phase) / 5) * np.cos(y / 4)
        yield (clean + rng.normal(0, 20, clean.shape)).clip(0, 4095).astype(np.int16)


class LiveSource:
    """An encoder that makes key frames on request, as the pipeline does; remembers its frames."""

    def __init__(self, spec, seed=0):
        self.spec = spec
        self._encoder = Encoder(spec)
        self._frames = live_frames(1 << 30, seed, spec.info.rows, spec.info.columns)
        self._keys = set()
        self.requests = []
        self.shown = {}  # (slice, phase) -> the frame that a decoder must show
        self._phases = {}

    def request_key(self, slice_index=None):
        self.requests.append(slice_index)
        slices = range(self.spec.info.n_slices) if slice_index is None else [slice_index]
        self._keys.update(slices)

    def packet(self, slice_index=0):
        key = slice_index in self._keys
        self._keys.discard(slice_index)
        frame = next(self._frames)
        packet = self._encoder.push(frame, slice_index, key=key)
        self.shown[slice_index, packet.phase_index] = frame
        return packet


def segment_of(spec, name="heart", number=0):
    return Segment(name, number, spec)


def decoded_files(folder):
    """Decode every file of a stream's folder; each must be whole. Return name -> list of frames."""
    result = {}
    for path in sorted(folder.glob("*.ecd")):
        with path.open("rb") as file:
            reader = StreamReader(file)
            assert not reader.damage
            decoder = Decoder(reader.spec)
            result[path.name] = [(packet, decoder.push(packet)) for packet in reader.packets()]
    return result


def with_phases(spec, n_phases):
    return replace(spec, info=replace(spec.info, n_phases=n_phases))


def wait_for(condition, timeout_s=10.0):
    """Wait until a condition holds; False if it never does."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return True
        pause.wait(0.01)
    return condition()

"""Small streams for the viewer's tests."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from toy_base import ToyModel

from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.cine import Cine
from edge_codec.codec import Encoder
from edge_codec.spec import ModelId, StreamSpec

SLICES, PHASES, KEY_INTERVAL = 2, 7, 3
NOTE = LiveNote(Policy.ADAPTIVE, 5, 100, 2000, dropped=3, clock_jumped=True, late=True)


def cine() -> Cine:
    """A bright disc that moves over noise."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:24, :20]
    frames = rng.integers(-20, 20, (SLICES, PHASES, 24, 20)).astype(np.int16)
    for phase in range(PHASES):
        frames[:, phase, (rows - 12) ** 2 + (columns - 5 - phase) ** 2 < 30] += 300
    return Cine.from_array(frames)


def packets_of(cine: Cine, n_phases: int = PHASES) -> tuple[StreamSpec, list[Packet]]:
    """Return spec and packets; every other one has a live note."""
    info = replace(cine.info, n_phases=n_phases)
    low, high = int(cine.voxels.min()), int(cine.voxels.max())
    spec = StreamSpec(info, low, high, key_interval=KEY_INTERVAL)
    encoder = Encoder(spec)
    packets = []
    for number, frame in enumerate(cine.frames()):
        packet = encoder.push(frame.samples, frame.slice_index)
        if number % 2 == 0:
            layers = {**packet.layers, LayerId.LIVE: NOTE.pack()}
            packet = replace(packet, layers=layers)
        packets.append(packet)
    return spec, packets


def stream(cine: Cine, n_phases: int = PHASES) -> tuple[bytes, list[int]]:
    """Return a closed stream and the offset of each packet, then of the index."""
    return _written(*packets_of(cine, n_phases))


def closed(cine: Cine, frames: int) -> bytes:
    """Return a closed stream of the first frames, of unknown length."""
    spec, packets = packets_of(cine, 0)
    return _written(spec, packets[:frames])[0]


def archive(cine: Cine) -> tuple[bytes, list[int]]:
    """Return a closed archive over a toy base layer, and the offset of each packet."""
    spec, _ = packets_of(cine)
    spec = replace(spec, model=ModelId.DWT_CAL, archive=True, key_interval=PHASES)
    encoder, packets = Encoder(spec, ToyModel()), []
    for _ in range(PHASES):
        for index in range(SLICES):
            frame = cine.voxels[index, encoder.next_phase(index)]
            packets.append(encoder.push(frame, index))
    return _written(spec, packets)


def _written(spec: StreamSpec, packets: list[Packet]) -> tuple[bytes, list[int]]:
    file = io.BytesIO()
    writer = StreamWriter(file, spec)
    offsets = [writer.offset]
    for packet in packets:
        writer.write(packet)
        offsets.append(writer.offset)
    writer.close()
    return file.getvalue(), offsets

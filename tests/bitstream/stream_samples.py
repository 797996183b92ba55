"""Small streams, and hypothesis strategies for any valid description and packet."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.metadata import pack_metadata
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.bitstream.varint import pack_varint, read_varint
from edge_codec.spec import (
    DTYPES,
    MAX_ARCHIVE_GROUP,
    MAX_FRAME_VOXELS,
    MAX_KEY_INTERVAL,
    MAX_MODEL_DATA,
    MAX_PHASES,
    MAX_SIDE,
    MAX_SLICES,
    MAX_SNR_LOSS_PERCENT,
    TITOK_MODEL_DATA,
    TITOKS,
    CineInfo,
    Effort,
    ModelId,
    SampleFormat,
    SourceHeader,
    SourceKind,
    StreamSpec,
)

WINDOW_LIMIT = 1 << 47


def make_spec(
    n_slices: int = 2, n_phases: int = 3, *, rich: bool = False, **changes: Any
) -> StreamSpec:
    """A small stream; `rich` has a model, hashes, times and source bytes."""
    info = CineInfo(n_slices, n_phases, 4, 6, np.dtype(np.int16))
    if rich:
        info = CineInfo(
            n_slices,
            n_phases,
            4,
            6,
            np.dtype(np.int16),
            spacing_mm=(8.0, 1.25, 1.25),
            trigger_time_ms=(0.0, 25.5, 51.0),
            rescale_slope=2.0,
            rescale_intercept=-1024.0,
            source=SourceHeader(SourceKind.DICOM, b"DICM header bytes " * 4),
        )
        changes = {
            "model": ModelId.VQVAE,
            "model_hashes": (bytes(range(32)), b"\xab" * 32),
            "window_low": -3,
            "window_high": 900,
            "max_error": 2,
        } | changes
    model_data = b"\0" if changes.get("model") is ModelId.VIDEO else b""
    fields = {"low": -5, "high": 1000, "key_interval": 2, "model_data": model_data} | changes
    return StreamSpec(info, **fields)


def make_packets(spec: StreamSpec, n_phases: int | None = None, size: int = 9) -> list[Packet]:
    """All packets of a stream, slice by slice at each turn, with payloads of about `size` bytes."""
    packets = []
    for turn in range(spec.info.n_phases if n_phases is None else n_phases):
        phase = PhaseOrder(spec).phase_at(turn)
        for slice_index in range(spec.info.n_slices):
            sequence = len(packets)
            layers = {}
            if spec.model is not ModelId.NONE:
                layers[LayerId.BASE] = bytes([sequence % 251]) * (size // 2)
            if spec.max_error is not None:
                layers[LayerId.RESIDUAL] = bytes([255 - sequence % 251]) * size
            if spec.info.source.data:
                raw = spec.info.source.data + bytes([sequence % 256])
                layers[LayerId.METADATA] = pack_metadata(raw, spec.info.source.data)
            key = phase % spec.key_interval == 0
            packets.append(Packet(sequence, slice_index, phase, key, layers))
    return packets


def make_stream(spec: StreamSpec, packets: list[Packet] | None = None) -> bytes:
    """The bytes of a complete stream."""
    file = io.BytesIO()
    with StreamWriter(file, spec) as writer:
        for packet in make_packets(spec) if packets is None else packets:
            writer.write(packet)
    return file.getvalue()


def starts_of(spec: StreamSpec, packets: list[Packet]) -> list[int]:
    """Where each packet begins in a file, and where the last one ends."""
    writer = StreamWriter(io.BytesIO(), spec)
    starts = [writer.offset]
    for packet in packets:
        writer.write(packet)
        starts.append(writer.offset)
    return starts


def with_size(data: bytes, packet_at: int, size: int) -> bytes:
    """The stream with another size for the first layer of a packet; its CRC is wrong."""
    at = packet_at + 6  # after sync, contents and three numbers of one byte each
    _, end = read_varint(data, at)
    return data[:at] + pack_varint(size) + data[end:]


def extra_keys(keys: list[bool], key_interval: int) -> tuple[bytes, list[Packet]]:
    """A stream of one slice whose phases are key frames where they must be, or `keys` says so."""
    spec = make_spec(1, 0, key_interval=key_interval)
    packets = [
        Packet(i, 0, i, key or i % key_interval == 0, {LayerId.RESIDUAL: bytes([i]) * 5})
        for i, key in enumerate(keys)
    ]
    return make_stream(spec, packets), packets


@st.composite
def specs(draw: st.DrawFn) -> StreamSpec:
    """Any description that has a place in the format."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    rows = draw(st.integers(1, MAX_SIDE))
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    integer = dtype.kind in "iu"
    float_formats = st.sampled_from([SampleFormat.FLOAT_INTEGER, SampleFormat.FLOAT32_ORDERED])
    sample_format = SampleFormat.INTEGER if integer else draw(float_formats)
    floats = sample_format is SampleFormat.FLOAT32_ORDERED
    info = CineInfo(
        draw(st.integers(1, MAX_SLICES)),
        draw(st.integers(0, MAX_PHASES)),
        rows,
        draw(st.integers(1, min(MAX_SIDE, MAX_FRAME_VOXELS // rows))),
        dtype,
        sample_format,
        draw(st.tuples(finite, finite, finite)),
        tuple(draw(st.lists(finite, max_size=5))),
        draw(finite),
        draw(finite),
        SourceHeader(draw(st.sampled_from(SourceKind)), draw(st.binary(max_size=200))),
    )
    model = ModelId.NONE if floats else draw(st.sampled_from(ModelId))
    bounds = np.iinfo(dtype if integer else np.int32)
    lowest, highest = int(bounds.min), int(bounds.max)
    low = draw(st.integers(lowest, highest))
    window_low = low + draw(st.integers(-WINDOW_LIMIT, WINDOW_LIMIT))
    errors = st.integers(0, (1 << 31) - 1)
    max_error = 0 if floats else draw(errors if model is ModelId.NONE else st.none() | errors)
    if model in TITOKS:
        max_error = None
    losses = st.floats(0, 0 if max_error is None else MAX_SNR_LOSS_PERCENT)
    snr_loss_percent = draw(losses)
    sigmas = st.floats(0, allow_nan=False, allow_infinity=False)
    archive = model is ModelId.DWT_CAL and info.n_phases > 0 and draw(st.booleans())
    with_files = model in (ModelId.NONE, ModelId.VQVAE, *TITOKS)
    data_sizes = {
        ModelId.VIDEO: (1, MAX_MODEL_DATA),
        ModelId.TITOK: (TITOK_MODEL_DATA,) * 2,
        ModelId.TITOK_GROUPS: (1, MAX_MODEL_DATA),
    }
    least, most = data_sizes.get(model, (0, 0))
    return StreamSpec(
        info,
        low,
        draw(st.integers(low, min(low + (1 << 32) - 1, highest))),
        model,
        tuple(draw(st.lists(st.binary(min_size=32, max_size=32), max_size=3 * with_files))),
        max_error,
        draw(st.integers(1, MAX_ARCHIVE_GROUP if archive else MAX_KEY_INTERVAL)),
        window_low,
        window_low + draw(st.integers(1, (1 << 32) - 1)),
        draw(st.sampled_from(Effort)),
        draw(sigmas) if snr_loss_percent else 0.0,
        snr_loss_percent,
        archive,
        draw(st.binary(min_size=least, max_size=most)),
    )


def packets() -> st.SearchStrategy[Packet]:
    """Any packet that has a place in the format."""
    number = st.integers(0, (1 << 32) - 1)
    layers = st.dictionaries(st.sampled_from(LayerId), st.binary(max_size=300))
    return st.builds(Packet, number, number, number, st.booleans(), layers)

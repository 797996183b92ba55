"""`dwt-cal` from Python: whole cines, single frames, targets, and the viewer's way to them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

import edge_codec
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import BASE_CHECK
from edge_codec.metrics.image import psnr
from edge_codec.runtime.base_rate import USUAL, BaseRate
from edge_codec.runtime.options import CompressOptions
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.runtime.viewer.frame_store import FrameStore, Layer
from edge_codec.runtime.viewer.packed_frame import unpack_frame
from edge_codec.runtime.viewer.packet_index import PacketIndex
from edge_codec.spec import Effort, ModelId

SLICES, PHASES = 2, 9
VOXELS = np.stack([heart(PHASES, 40, 56, np.dtype(np.int16), i) for i in range(SLICES)])
CINE = edge_codec.Cine.from_array(VOXELS)
ORDERS = {"low delay": False, "archive": True}


def compress(archive: bool, max_error: int | None, **options) -> bytes:
    return edge_codec.compress(
        CINE, model="dwt-cal", max_error=max_error, effort="fast", archive=archive, **options
    )


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_any_frame_is_the_one_that_decoding_all_gives(archive):
    lossless, alone = compress(archive, 0), compress(archive, None)
    base = edge_codec.decompress(alone).voxels
    np.testing.assert_array_equal(edge_codec.decompress(lossless).voxels, VOXELS)
    np.testing.assert_array_equal(edge_codec.decompress(lossless, preview=True).voxels, base)
    for index, phase in ((0, 0), (1, 1), (0, 4), (1, PHASES - 1)):
        for data, expected in ((lossless, VOXELS), (alone, base)):
            found = edge_codec.read_frame(io.BytesIO(data), index, phase)
            np.testing.assert_array_equal(found, expected[index, phase])


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_the_viewer_shows_both_layers(tmp_path, archive):
    path = tmp_path / "a.ecd"
    path.write_bytes(compress(archive, 0))
    base = edge_codec.decompress(path.read_bytes(), preview=True).voxels
    index = PacketIndex(path)
    index.poll()
    store = FrameStore(index, "auto", 1 << 20)
    for place in ((1, 3), (0, 8), (0, 2), (1, 0)):
        for layer, expected in ((Layer.WHOLE, VOXELS), (Layer.BASE, base)):
            frame = unpack_frame(store.frame(*place, layer))
            np.testing.assert_array_equal(frame, expected[place])
    index.close()


@pytest.mark.parametrize("archive", ORDERS.values(), ids=ORDERS)
def test_a_target_psnr_is_that_of_the_whole_cine(archive):
    data = compress(archive, None, psnr_db=33)
    error = edge_codec.decompress(data).voxels.astype(float) - VOXELS
    assert 33 <= psnr(float((error**2).mean()), int(VOXELS.max())) < 35


def test_bits_per_frame_are_the_size_of_the_base():
    sizes = [len(compress(False, None, bits_per_frame=bits)) for bits in (1000, 4000)]
    assert 2 * sizes[0] < sizes[1] < SLICES * PHASES * 1.5 * 4000 / 8


def test_what_the_frames_took_is_reported():
    options = CompressOptions(
        ModelId.DWT_CAL, None, effort=Effort.FAST, rate=BaseRate(bits_per_frame=3000)
    )
    file = io.BytesIO()
    report = encode_stream(CINE, file, options).rate
    payloads = [packet.layers[LayerId.BASE][BASE_CHECK.size :] for packet in packets(file)]
    bits = [8 * len(payload) for payload in payloads]
    assert (report.frames, report.bits, report.largest) == (len(bits), sum(bits), max(bits))
    assert report.mean == pytest.approx(np.mean(bits))
    assert report.overflows == 0
    assert 0 < report.fullest <= 32 * 3000
    usual = encode_stream(CINE, io.BytesIO(), replace(options, rate=USUAL)).rate
    assert usual.frames == SLICES * PHASES
    assert encode_stream(CINE, io.BytesIO(), CompressOptions(effort=Effort.FAST)).rate is None


def packets(file):
    return list(StreamReader(file).packets())

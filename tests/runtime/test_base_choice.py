"""Files whose groups have a base layer only where it costs little."""

from __future__ import annotations

import io
import json
from functools import cache

import numpy as np
import pytest

import edge_codec
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId
from edge_codec.bitstream.verify import verify
from edge_codec.cli import Console, main
from edge_codec.errors import SpecError
from edge_codec.exit_status import ExitStatus
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.options import USUAL_BASE_COST_PERCENT, CompressOptions
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.runtime.viewer.frame_store import FrameStore, Layer
from edge_codec.runtime.viewer.packed_frame import unpack_frame
from edge_codec.runtime.viewer.packet_index import PacketIndex
from edge_codec.spec import Effort, ModelId

PHASES, INTERVAL = 10, 5
RESIDUAL = (LayerId.BASE, LayerId.RESIDUAL)


def make_cine() -> edge_codec.Cine:
    """Two slices of two groups; noise in the second and third, else a texture that moves."""
    rng = np.random.default_rng(3)
    noise, texture = rng.integers(0, 256, (2, PHASES, 40, 48), np.uint8)
    texture[:] = [np.roll(texture[0], (2 * phase, phase), (0, 1)) for phase in range(PHASES)]
    early, late = np.arange(PHASES) < INTERVAL, np.arange(PHASES) >= INTERVAL
    slices = [np.where(early[:, None, None], texture, noise)]
    slices.append(np.where(late[:, None, None], texture, noise))
    return edge_codec.Cine.from_array(np.stack(slices))


CINE = make_cine()
EMPTY = {(0, INTERVAL), (1, 0)}  # (slice, phase) of the key frames of noise


@cache
def code(**changes):
    chosen = {
        "model": ModelId.DWT_CAL, "max_error": 0, "key_interval": INTERVAL, "effort": Effort.FAST,
        "base_cost_percent": 5.0, **changes,
    }  # fmt: skip
    file = io.BytesIO()
    report = encode_stream(CINE, file, CompressOptions(**chosen))
    return file.getvalue(), report


def packets(data):
    return list(StreamReader(io.BytesIO(data)).packets())


def empty_groups(data):
    return {(p.slice_index, p.phase_index) for p in packets(data) if p.key and not p.layers[0]}


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("max_error", [0, 2])
def test_groups_that_cost_too_much_lose_their_base_layer(archive, max_error):
    data, report = code(archive=archive, max_error=max_error)
    assert empty_groups(data) == EMPTY
    assert report.groups_without_base == len(EMPTY)
    assert verify(io.BytesIO(data)).ok
    error = edge_codec.decompress(data).voxels.astype(int) - CINE.voxels
    assert np.abs(error).max() == max_error
    for place in ((0, 0), (0, 7), (1, 3), (1, 9)):
        found = edge_codec.read_frame(io.BytesIO(data), *place)
        assert np.abs(found.astype(int) - CINE.voxels[place]).max() <= max_error


def test_each_group_is_the_cheaper_one():
    data, _ = code()
    sizes = {}
    for name, options in (("kept", {"base_cost_percent": None, "rate": BaseRate(32)}),
                          ("none", {"model": ModelId.NONE, "base_cost_percent": None}),
                          ("chosen", {})):  # fmt: skip
        for packet in packets(code(**options)[0]):
            group = packet.slice_index, packet.phase_index // INTERVAL * INTERVAL
            size = sum(len(packet.layers.get(layer, b"")) for layer in RESIDUAL)
            sizes.setdefault(group, {}).setdefault(name, []).append(size)
    assert len(sizes) == 4
    for group, found in sizes.items():
        kept, none, chosen = (sum(found[name]) for name in ("kept", "none", "chosen"))
        assert (kept > 1.05 * none) == (group in EMPTY)
        assert chosen == (none if group in EMPTY else kept)
    assert len(data) < len(code(base_cost_percent=None, rate=BaseRate(32))[0])


def test_a_base_layer_may_cost_as_much_as_is_said():
    assert empty_groups(code(base_cost_percent=1000.0)[0]) == set()
    assert empty_groups(code(base_cost_percent=0.0)[0]) == EMPTY
    assert code(base_cost_percent=None)[0] == code(base_cost_percent=USUAL_BASE_COST_PERCENT)[0]
    assert empty_groups(code(base_cost_percent=None, rate=BaseRate(32))[0]) == set()


def test_previews_show_the_frame_where_there_is_no_base():
    data, _ = code()
    kept, _ = code(base_cost_percent=None, rate=BaseRate(32))
    shown, bases = (edge_codec.decompress(one, preview=True).voxels for one in (data, kept))
    for slice_index, phase in np.ndindex(2, PHASES):
        empty = (slice_index, phase // INTERVAL * INTERVAL) in EMPTY
        expected = (CINE.voxels if empty else bases)[slice_index, phase]
        np.testing.assert_array_equal(shown[slice_index, phase], expected)


def test_the_viewer_shows_both_kinds_of_groups(tmp_path):
    path = tmp_path / "a.ecd"
    path.write_bytes(code()[0])
    preview = edge_codec.decompress(path.read_bytes(), preview=True).voxels
    index = PacketIndex(path)
    index.poll()
    store = FrameStore(index, "auto", 1 << 20)
    for place in np.ndindex(2, PHASES):
        for layer, voxels in ((Layer.WHOLE, CINE.voxels), (Layer.BASE, preview)):
            found = unpack_frame(store.frame(*place, layer))
            np.testing.assert_array_equal(found, voxels[place])
    index.close()


def test_what_is_damaged_is_lost_up_to_the_next_key_frame(tmp_path):
    data = bytearray(code()[0])
    first = next(p for p in packets(data) if (p.slice_index, p.phase_index) == (1, 2))
    at = bytes(data).index(first.layers[LayerId.RESIDUAL])
    data[at] ^= 1
    (tmp_path / "a.ecd").write_bytes(data)
    status, report = run("decompress", tmp_path / "a.ecd", tmp_path / "a.npy", "--recover")
    assert status == ExitStatus.RECOVERED
    assert report["missing_frames"] == 3
    found = np.load(tmp_path / "a.npy")
    for place in np.ndindex(2, PHASES):
        lost = place[0] == 1 and 2 <= place[1] < INTERVAL
        assert np.array_equal(found[place], CINE.voxels[place]) != lost


def run(*arguments):
    console = Console(io.StringIO(), io.StringIO())
    status = main([*map(str, arguments), "--json"], console)
    out = console.out.getvalue()
    return status, json.loads(out) if out else console.err.getvalue()


def test_the_command_line_tells_what_was_left_out(tmp_path):
    source, target = tmp_path / "a.npy", tmp_path / "a.ecd"
    np.save(source, CINE.voxels)
    options = ["--model", "dwt-cal", "--effort", "fast", "--key-interval", INTERVAL, "--force"]
    for more, count in (([], 2), (["--base-cost", 1000], 0), (["--quality", 32], 0),
                        (["--quality", 32, "--base-cost", 5], 2)):  # fmt: skip
        status, report = run("compress", source, target, "--lossless", *options, *more)
        assert status == ExitStatus.OK
        assert report.get("groups_without_base_layer", 0) == count
        assert run("info", target)[1]["groups_without_base_layer"] == count
        assert run("verify", target, "--decode")[1]["whole"]
    run("compress", source, target, *options)
    assert run("info", target)[1]["groups_without_base_layer"] is None
    status, error = run("compress", source, target, *options, "--base-cost", 5)
    assert (status, "below a residual layer" in error) == (ExitStatus.INPUT, True)


@pytest.mark.parametrize(
    "changes",
    [{"base_cost_percent": -1.0}, {"base_cost_percent": float("nan")}, {"base_cost_percent": "5"},
     {"base_cost_percent": True}, {"max_error": None}, {"model": ModelId.NONE},
     {"model": ModelId.DWT_CAL, "rate": BaseRate(bits_per_frame=900)}],
)  # fmt: skip
def test_prices_that_make_no_sense(changes):
    with pytest.raises(SpecError, match="base_cost"):
        CompressOptions(**{"model": ModelId.VQVAE, "base_cost_percent": 5.0, **changes})

"""The index of a stream that may be growing, cut or damaged."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import viewer_samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_codec.codec import Encoder
from edge_codec.errors import BitstreamError, EdgeCodecError, FrameError, SourceError
from edge_codec.group_order import coding_order
from edge_codec.runtime.viewer import packet_index
from edge_codec.runtime.viewer.packet_index import FIELDS, PacketIndex

CINE = viewer_samples.cine()
DATA, OFFSETS = viewer_samples.stream(CINE)
N = viewer_samples.SLICES * viewer_samples.PHASES


@pytest.fixture
def opened():
    """Give a function that writes a file and opens its index, closed after the test."""
    with contextlib.ExitStack() as files:

        def write_and_open(path, data):
            path.write_bytes(data)
            index = PacketIndex(path)
            files.callback(index.close)
            index.poll()
            return index

        yield write_and_open


def row_of(index, number):
    return dict(zip(FIELDS, index.rows(number, 1)[0], strict=True))


def test_a_closed_stream(opened, tmp_path):
    index = opened(tmp_path / "a.ecd", DATA)
    assert (len(index), index.complete, index.tail_bytes, index.damage) == (N, True, 0, [])
    places = [(row[0], row[1]) for row in index.rows(0, 999)]
    assert places == [(s, p) for p in range(viewer_samples.PHASES) for s in (0, 1)]
    row = row_of(index, 0)
    assert row["key"] == 1
    total = row["base_bytes"] + row["residual_bytes"] + row["other_bytes"]
    assert total == OFFSETS[1] - OFFSETS[0]
    times = [row[name] for name in ("policy", "waited_us", "coded_us", "dropped", "late")]
    assert times == [2, 100, 2000, 3, 1]
    assert row_of(index, 1)["policy"] == -1
    assert index.rows(N, 5) == []
    assert len(index.rows(3, 4)) == 4


def test_bands_that_gave_up_their_effort_are_counted(opened, tmp_path):
    spec, _ = viewer_samples.packets_of(CINE)
    encoder = Encoder(spec)
    hurried = [encoder.push(CINE.voxels[0, phase], give_up_ns=phase) for phase in (0, 1)]
    calm = encoder.push(CINE.voxels[0, 2])
    data = DATA[: OFFSETS[0]] + b"".join(packet.pack() for packet in (*hurried, calm))
    index = opened(tmp_path / "a.ecd", data)
    assert [row_of(index, number)["fast_bands"] for number in range(3)] == [1, 1, 0]


def test_a_growing_stream_is_read_on_from_where_it_ended(opened, tmp_path):
    path = tmp_path / "live.ecd"
    index = opened(path, DATA[: OFFSETS[2] + 5])
    assert (len(index), index.complete, index.tail_bytes) == (2, False, 5)
    assert index.damage == []  # a packet that is being written is no damage
    for end in (OFFSETS[3] - 1, OFFSETS[3], OFFSETS[3] + 3, len(DATA)):
        path.write_bytes(DATA[:end])
        index.poll()
    assert (len(index), index.complete, index.damage) == (N, True, [])


def test_a_complete_stream_may_be_gone_on_with(opened, tmp_path):
    path = tmp_path / "a.ecd"
    short, offsets = viewer_samples.stream(CINE, n_phases=0)
    half = viewer_samples.closed(CINE, 6)
    index = opened(path, half)
    assert (len(index), index.complete) == (6, True)
    path.write_bytes(short[: offsets[8]])
    index.poll()
    assert (len(index), index.complete, index.damage) == (8, False, [])
    path.write_bytes(short[: offsets[4]])
    index.poll()
    assert "became shorter" in index.damage[0][1]


def test_a_poll_stops_in_time_and_goes_on(opened, tmp_path):
    path = tmp_path / "a.ecd"
    index = opened(path, DATA[: OFFSETS[0]])
    path.write_bytes(DATA)
    index.poll(0.0)
    assert len(index) == 1
    for _ in range(N):
        index.poll(0.0)
    assert index.complete


def test_the_chain_begins_at_the_key_frame(opened, tmp_path):
    index = opened(tmp_path / "a.ecd", DATA)
    assert index.chain(1, 0) == [1]
    assert index.chain(1, 5) == [7, 9, 11]
    assert index.read(9).phase_index == 4
    for place in ((0, viewer_samples.PHASES), (viewer_samples.SLICES, 0)):
        with pytest.raises(FrameError, match="is not in the stream, or is lost"):
            index.chain(*place)


def test_the_chain_of_an_archive_is_its_group_in_the_order_of_coding(opened, tmp_path):
    data, offsets = viewer_samples.archive(CINE)
    index = opened(tmp_path / "a.ecd", data)
    assert (len(index), index.complete, index.damage) == (N, True, [])
    order = coding_order(viewer_samples.PHASES)
    for turn, phase in enumerate(order):
        chain = index.chain(1, phase)
        assert [index.read(number).phase_index for number in chain] == list(order[: turn + 1])
        assert [index.read(number).slice_index for number in chain] == [1] * len(chain)
    for number in range(N):  # short forms have shorter heads
        row = row_of(index, number)
        total = row["base_bytes"] + row["residual_bytes"] + row["other_bytes"]
        assert total == offsets[number + 1] - offsets[number]


def test_a_damaged_packet_of_an_archive_loses_the_rest_of_its_group(opened, tmp_path):
    data, offsets = viewer_samples.archive(CINE)
    damaged = bytearray(data)
    damaged[offsets[2 * 3 + 1] + 20] ^= 1  # turn 3 of slice 1
    index = opened(tmp_path / "a.ecd", bytes(damaged))
    order = coding_order(viewer_samples.PHASES)
    for turn, phase in enumerate(order):
        assert len(index.chain(0, phase)) == turn + 1
        if turn >= 3:
            with pytest.raises(FrameError, match="is lost"):
                index.chain(1, phase)


def test_a_damaged_packet_loses_its_frame_and_those_that_build_on_it(opened, tmp_path):
    data = bytearray(DATA)
    data[OFFSETS[2 * 4] + 40] ^= 1  # slice 0, phase 4: key frames are 0, 3, 6
    index = opened(tmp_path / "a.ecd", bytes(data))
    assert index.complete
    assert [what.split(":")[0] for _, what in index.damage] == [
        "slice 0, phase 4 is lost", "slice 0, phase 5 is lost",
    ]  # fmt: skip
    assert index.damage[0][0] == OFFSETS[8]
    with pytest.raises(FrameError):
        index.chain(0, 5)
    assert len(index.chain(0, 6)) == 1
    assert len(index.chain(1, 5)) == 3


def test_a_hole_in_the_file_is_passed(opened, tmp_path):
    data = DATA[: OFFSETS[4]] + b"\xff" * 300 + DATA[OFFSETS[6] :]
    index = opened(tmp_path / "a.ecd", data)
    assert index.complete
    assert [offset for offset, _ in index.damage][:2] == [OFFSETS[4], OFFSETS[4] + 300]
    assert any("packets 4 to 5 are missing" in what for _, what in index.damage)


def test_a_damaged_note_harms_no_frame(opened, tmp_path):
    index = opened(tmp_path / "a.ecd", DATA)
    spec, packets = viewer_samples.packets_of(CINE)
    assert index.spec == spec
    bad = packets[0].layers | {5: b"x" * 24}
    data = DATA[: OFFSETS[0]] + replace(packets[0], layers=bad).pack()
    index = opened(tmp_path / "b.ecd", data)
    assert row_of(index, 0)["policy"] == -1
    assert len(index.damage) == 1


def test_more_frames_than_the_limit_are_left_out(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(packet_index, "MAX_FRAMES", 4)
    index = opened(tmp_path / "a.ecd", DATA)
    assert len(index) == 4
    assert "no more than 4 frames" in index.damage[0][1]


def test_a_closed_index(opened, tmp_path):
    index = opened(tmp_path / "a.ecd", DATA)
    index.close()
    for use in (index.poll, lambda: index.read(0)):
        with pytest.raises(SourceError, match="choose it again"):
            use()


def test_no_stream(tmp_path):
    (tmp_path / "a.ecd").write_bytes(b"")
    with pytest.raises(BitstreamError):
        PacketIndex(tmp_path / "a.ecd")
    with pytest.raises(SourceError, match="cannot be read"):
        PacketIndex(tmp_path / "none.ecd")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=9)), max_size=5
    ),
    st.integers(0, len(DATA)),
)
def test_any_damage_ends_in_frames_or_in_our_errors(tmp_path, writes, cut):
    data = bytearray(DATA)
    for offset, what in writes:
        data[offset : offset + len(what)] = what
    path = tmp_path / "a.ecd"
    path.write_bytes(data[: max(cut, 1)])
    try:
        index = PacketIndex(path)
    except BitstreamError:
        return
    for _ in range(3):
        index.poll(5.0)
    assert index.complete or index.tail_bytes >= 0
    for number, row in enumerate(index.rows(0, 999)):
        assert index.chain(row[0], row[1])[-1] == number
        index.read(number)
    index.close()


def test_a_file_that_changes_under_the_index_is_noticed(opened, tmp_path):
    path = tmp_path / "a.ecd"
    index = opened(path, DATA)
    with path.open("r+b") as file:
        file.seek(OFFSETS[3])
        file.write(np.random.default_rng(1).bytes(200))
    with pytest.raises(EdgeCodecError):
        index.read(3)

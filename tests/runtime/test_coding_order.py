"""Frames between the order of a file and the order of coding."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from edge_codec.bitstream.phases import PhaseOrder
from edge_codec.io import SourceFrame
from edge_codec.runtime.coding_order import Ahead, in_coding_order
from edge_codec.spec import CineInfo, ModelId, StreamSpec


def make_spec(slices: int, phases: int, interval: int, archive: bool = True) -> StreamSpec:
    info = CineInfo(slices, phases, 1, 1, np.dtype(np.int16))
    return StreamSpec(
        info, low=0, high=9, model=ModelId.DWT_CAL, key_interval=interval, archive=archive
    )


def source(slices: int, phases: int) -> list[SourceFrame]:
    sample = np.zeros((1, 1), np.int16)
    return [SourceFrame(s, p, sample) for p in range(phases) for s in range(slices)]


def of_slice(frames, index: int) -> list[int]:
    return [frame.phase_index for frame in frames if frame.slice_index == index]


@pytest.mark.parametrize(
    ("slices", "phases", "interval"), [(1, 1, 1), (1, 20, 20), (3, 30, 32), (2, 65, 33), (2, 9, 4)]
)
def test_frames_go_in_by_turns_and_come_out_by_phases(slices, phases, interval):
    spec = make_spec(slices, phases, interval)
    order = PhaseOrder(spec)
    found = list(in_coding_order(source(slices, phases), spec))
    turns = [order.phase_at(turn) for turn in range(phases)]
    assert [of_slice(found, index) for index in range(slices)] == [turns] * slices
    read = []

    def decode(slice_index: int, phase_index: int) -> tuple[int, int]:
        read.append(SourceFrame(slice_index, phase_index, np.zeros(0)))
        return slice_index, phase_index

    ahead, most = Ahead(spec, decode), 0
    for frame in source(slices, phases):
        place = (frame.slice_index, frame.phase_index)
        assert ahead.take(*place) == place
        most = max(most, len(ahead._early))
    assert [of_slice(read, index) for index in range(slices)] == [turns] * slices
    assert most <= slices * interval.bit_length()  # one frame for each halving of the group
    assert not ahead._early


def test_a_stream_without_archive_passes_frames_on_at_once():
    spec = make_spec(2, 5, 3, archive=False)
    frames = iter(source(2, 5))
    for number, frame in enumerate(in_coding_order(frames, spec)):
        assert (frame.phase_index, frame.slice_index) == divmod(number, 2)
        assert len(list(copy.copy(frames))) == 9 - number  # none was kept back
    read = []
    ahead = Ahead(spec, lambda *place: read.append(place))
    for frame in source(2, 5):
        ahead.take(frame.slice_index, frame.phase_index)
        assert read[-1] == (frame.slice_index, frame.phase_index)


def test_a_missing_frame_holds_back_what_follows_it():
    spec = make_spec(1, 8, 8)
    frames = [frame for frame in source(1, 8) if frame.phase_index != 2]
    assert of_slice(in_coding_order(frames, spec), 0) == [0, 4]

"""Live streams that go on where they were cut off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_samples import PacketList, all_same, frames, no_thread_is_left

from edge_codec.bitstream.container import StreamReader
from edge_codec.codec import Decoder
from edge_codec.errors import FrameError, SinkError
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.stream_file import FileSink
from edge_codec.spec import CineInfo, Effort, StreamSpec

__all__ = ["no_thread_is_left"]
OPTIONS = LiveOptions(n_slices=2, budget_ms=0.0)


def record(folder: Path, images, options=OPTIONS, spec=None, cut=False):
    """Write frames as the stream `a`; return its sink."""
    sink = FileSink(folder, resume=True)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", options, [sink], spec=spec, resume=sink)
        for i, image in enumerate(images):
            stream.push(image, i % 2)
        stream.flush()
        stream.close(drain=not cut)
    return sink


def read(path: Path):
    with path.open("rb") as file:
        reader = StreamReader(file)
        decoder = Decoder(reader.spec)
        packets = list(reader.packets())
        return [decoder.push(packet) for packet in packets], packets


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "a").iterdir())


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_goes_on_in_its_last_file_with_key_frames(tmp_path, cut):
    images = frames(11)
    record(tmp_path, images[:5], cut=cut)
    record(tmp_path, images[5:])
    assert files(tmp_path) == ["0000.ecd"]
    decoded, packets = read(tmp_path / "a" / "0000.ecd")
    # The second part begins with slice 0 again, which had 3 frames; slice 1 had 2.
    assert [packet.key for packet in packets] == [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert len(decoded) == 11


def test_frames_of_another_kind_begin_the_next_file(tmp_path):
    record(tmp_path, frames(4), cut=True)
    record(tmp_path, frames(2, rows=30))
    record(tmp_path, 20 * frames(2, rows=30))  # beyond its bounds
    record(tmp_path, frames(2, rows=30), replace(OPTIONS, effort=Effort.FAST))
    assert files(tmp_path) == [f"000{i}.ecd" for i in range(4)]


def test_a_fixed_description_goes_on_to_the_end_that_it_promises(tmp_path):
    info = CineInfo(2, 3, 24, 20, np.dtype(np.int16))
    spec = StreamSpec(info, low=0, high=2047)
    images = frames(6)
    record(tmp_path, images[:4], spec=spec, cut=True)
    sink = FileSink(tmp_path, resume=True)
    with Pipeline() as pipeline:
        stream = pipeline.open("a", OPTIONS, [sink], spec=spec, resume=sink)
        for i in (4, 5):
            stream.push(images[i], i % 2)
        with pytest.raises(FrameError, match="slice 0 has all its 3 phases already"):
            stream.push(images[0])
    decoded, _ = read(tmp_path / "a" / "0000.ecd")
    assert all_same(decoded, images)


def test_promised_phases_are_completed_and_more_begin_the_next_file(tmp_path):
    images, options = frames(8), replace(OPTIONS, n_phases=3)
    record(tmp_path, images[:4], options, cut=True)
    record(tmp_path, images[4:], options)
    assert files(tmp_path) == ["0000.ecd", "0001.ecd"]
    decoded, _ = read(tmp_path / "a" / "0000.ecd")
    assert all_same(decoded, images[:6])


def test_a_stream_without_frames_lets_go_of_its_file(tmp_path):
    record(tmp_path, frames(4), cut=True)
    before = (tmp_path / "a" / "0000.ecd").read_bytes()
    sink = record(tmp_path, [])
    assert sink._found is None
    assert (tmp_path / "a" / "0000.ecd").read_bytes() == before


def test_what_cannot_be_read_is_told_when_the_stream_is_opened():
    class Broken(PacketList):
        def last_spec(self, stream):
            raise SinkError("no disk")

    with Pipeline() as pipeline, pytest.raises(SinkError, match="no disk"):
        pipeline.open("a", OPTIONS, [], resume=Broken())

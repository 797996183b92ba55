"""The list of streams, and the original beside them."""

import contextlib

import numpy as np
import pytest
import viewer_samples

from edge_codec.errors import BitstreamError, FrameError, SourceError
from edge_codec.runtime.viewer import library, original
from edge_codec.runtime.viewer.library import Library
from edge_codec.runtime.viewer.packed_frame import unpack_frame

CINE = viewer_samples.cine()
DATA = viewer_samples.stream(CINE)[0]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.ecd"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def opened():
    """Give a function that opens a library, closed after the test."""
    with contextlib.ExitStack() as libraries:

        def open_library(*arguments):
            made = Library(*arguments)
            libraries.callback(made.close)
            return made

        yield open_library


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr(library, "RESCAN_S", 0.0)


def test_one_file(opened, file):
    one = opened(file)
    assert one.names() == ["a.ecd"]
    state = one.state(0, 3)
    assert state["facts"]["lossless"]
    assert (state["next"], state["frames"], state["complete"]) == (14, 14, True)
    assert not state["compared"]
    frame = unpack_frame(one.frame(0, 1, 6, "whole"))
    np.testing.assert_array_equal(frame, CINE.voxels[1, 6])


def test_nothing_is_opened_after_the_end(file):
    one = Library(file)
    one.close()
    with pytest.raises(FrameError, match="has ended"):
        one.state(0, 0)


@pytest.mark.parametrize(
    ("place", "what", "message"),
    [
        ((1, 0, 0), "whole", "no stream 1"),
        ((0, 0, 0), "../a.ecd", "unknown layer"),
        ((0, 0, 0), "original", "there is no original"),
        ((0, 9, 0), "whole", "not in the stream"),
    ],
)
def test_what_is_not_there(opened, file, place, what, message):
    one = opened(file)
    one.state(0, 0)
    with pytest.raises(FrameError, match=message):
        one.frame(*place, what)


def test_a_folder_gives_new_streams_new_numbers(opened, file, no_wait):
    folder = opened(file.parent)
    assert folder.names() == ["a.ecd"]
    (file.parent / "0first").mkdir()
    (file.parent / "0first" / "0000.ecd").write_bytes(DATA)
    (file.parent / "0first" / "notes.txt").write_text("no stream")
    (file.parent / "0first" / "folder.ecd").mkdir()
    assert folder.names() == ["a.ecd", "0first/0000.ecd"]
    assert folder.state(1, 0)["frames"] == 14


def test_only_so_many_streams_are_listed_and_open(opened, file, no_wait, monkeypatch):
    monkeypatch.setattr(library, "MAX_STREAMS", 4)
    monkeypatch.setattr(library, "MAX_OPEN", 2)
    for name in "bcdef":
        (file.parent / f"{name}.ecd").write_bytes(DATA)
    folder = opened(file.parent)
    assert len(folder.names()) == 4
    for number in (0, 1, 2, 3, 0):
        assert folder.state(number, 0)["frames"] == 14
    assert len(folder._open) == 2


def test_a_damaged_header_is_an_error_of_that_stream_only(opened, file, no_wait):
    (file.parent / "b.ecd").write_bytes(b"nothing")
    folder = opened(file.parent)
    assert len(folder.names()) == 2
    with pytest.raises(BitstreamError):
        folder.state(1, 0)
    assert folder.state(0, 0)["frames"] == 14


def test_the_original(opened, file):
    np.save(file.parent / "source.npy", CINE.voxels)
    one = opened(file, file.parent / "source.npy")
    assert one.state(0, 0)["compared"]
    frame = unpack_frame(one.frame(0, 1, 2, "original"))
    np.testing.assert_array_equal(frame, CINE.voxels[1, 2])
    with pytest.raises(SourceError, match="has no slice 0, phase 7"):
        one.frame(0, 0, 7, "original")


def test_the_original_of_another_stream_is_refused(file):
    np.save(file.parent / "source.npy", CINE.voxels[:, :5])
    with pytest.raises(SourceError, match=r"\(2, 5, 24, 20\) and the stream \(2, 7, 24, 20\)"):
        Library(file, file.parent / "source.npy")


def test_an_original_that_is_too_large_is_refused(file, monkeypatch):
    monkeypatch.setattr(original, "MAX_ORIGINAL_BYTES", 1000)
    np.save(file.parent / "source.npy", CINE.voxels)
    with pytest.raises(SourceError, match="can be compared"):
        Library(file, file.parent / "source.npy")


def test_what_cannot_be_viewed(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        Library(tmp_path / "none.ecd")
    with pytest.raises(SourceError, match="belongs to one stream"):
        Library(tmp_path, tmp_path / "source.npy")

"""The index of a folder: what is read again, and when, and that damage costs only time."""

import os
from pathlib import Path

import numpy as np
import pytest
from retrieval_samples import make_exam, search_model

from edge_codec.errors import BitstreamError, SourceError
from edge_codec.retrieval import stream_index
from edge_codec.retrieval.stream_index import INDEX_NAME, index_folder

MODEL = search_model()
LONG_AGO = 1_000_000_000


def no_bar(items, total, what):
    return items


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three streams, of which one is none; a stream is its seed in digits."""
    reads = []

    def read(file):
        name = Path(file.name).name
        reads.append(name)
        text = file.read()
        if not text.isdigit():
            raise BitstreamError("no stream")
        return make_exam(int(text))

    monkeypatch.setattr(stream_index, "read_exam", read)
    (tmp_path / "deep").mkdir()
    for name, text in (("a.ecd", "1"), ("deep/b.ecd", "2"), ("c.ecd", "x"), ("d.txt", "4")):
        write(tmp_path / name, text)
    return tmp_path, reads


def write(path, text, time=LONG_AGO):
    path.write_text(text)
    os.utime(path, (time, time))


def look(folder, model=MODEL, keep=True):
    path, reads = folder
    reads.clear()
    return index_folder(path, model, no_bar, keep=keep)


def test_streams_are_read_once(folder):
    first = look(folder)
    assert sorted(folder[1]) == ["a.ecd", "b.ecd", "c.ecd"]
    assert list(first.entries) == ["a.ecd", "c.ecd", "deep/b.ecd"]
    assert first.read == 3
    assert first.entries["c.ecd"].exam is None
    assert first.entries["c.ecd"].problem == "no stream"
    again = look(folder)
    assert folder[1] == []
    assert again.read == 0
    for name, entry in first.entries.items():
        assert again.entries[name].state == entry.state
        assert again.entries[name].group == entry.group
        if entry.exam is not None:
            np.testing.assert_array_equal(again.entries[name].exam.frames, entry.exam.frames)


def test_a_changed_stream_is_read_again_and_a_touched_one_is_not(folder):
    before = look(folder).entries
    write(folder[0] / "a.ecd", "7", LONG_AGO + 50)
    write(folder[0] / "deep/b.ecd", "2", LONG_AGO + 50)
    after = look(folder)
    assert folder[1] == ["a.ecd"]
    assert (after.entries["a.ecd"].exam.frames != before["a.ecd"].exam.frames).any()
    assert look(folder).read == 0


def test_a_change_that_keeps_size_and_time_is_found_while_it_is_young(folder):
    look(folder)
    written = (folder[0] / INDEX_NAME).stat().st_mtime
    write(folder[0] / "a.ecd", "5", written)
    look(folder)
    write(folder[0] / "a.ecd", "6", written)
    look(folder)
    assert folder[1] == ["a.ecd"]


def test_a_stream_that_is_gone_leaves_the_index(folder):
    look(folder)
    (folder[0] / "a.ecd").unlink()
    assert list(look(folder).entries) == ["c.ecd", "deep/b.ecd"]
    write(folder[0] / "a.ecd", "1")
    assert look(folder).read == 1


def test_other_weights_make_the_index_stale(folder):
    look(folder)
    assert look(folder, search_model("other weights")).read == 3
    assert look(folder, search_model("other weights")).read == 0


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_index_is_built_again(folder, damage, caplog):
    look(folder)
    path = folder[0] / INDEX_NAME
    data = path.read_bytes()
    path.write_bytes(data[:-40] if damage is None else damage)
    assert look(folder).read == 3
    assert "is built again" in caplog.text
    assert path.read_bytes() == data


def test_no_index_is_kept_where_none_is_wanted(folder):
    look(folder, keep=False)
    assert not (folder[0] / INDEX_NAME).exists()
    look(folder)
    assert look(folder, keep=False).read == 3


def test_a_folder_that_takes_no_index_is_searched_all_the_same(folder, caplog):
    (folder[0] / INDEX_NAME).mkdir()
    assert look(folder).read == 3
    assert "is not kept" in caplog.text


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no folder"):
        index_folder(tmp_path / "none", MODEL, no_bar)

import pytest

from edge_codec.errors import SourceError
from edge_codec.io.atomic import AtomicFile, AtomicFolder, atomic_file


def names(folder):
    return [path.name for path in folder.iterdir()]


def anything(path):
    del path
    return True


def nothing(path):
    del path
    return False


def test_file_appears_at_the_end(tmp_path):
    target = tmp_path / "a.bin"
    with atomic_file(target, force=False) as file:
        file.write(b"heart")
        assert not target.exists()
    assert target.read_bytes() == b"heart"
    assert names(tmp_path) == ["a.bin"]


def fail_while_writing(target):
    with atomic_file(target, force=True) as file:
        file.write(b"new")
        raise KeyError


def test_file_vanishes_on_an_exception(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyError):
        fail_while_writing(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_existing_file_needs_force(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(SourceError, match="--force"):
        AtomicFile(target, force=False)
    with atomic_file(target, force=True) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


def test_file_that_appeared_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a.bin"
    with pytest.raises(SourceError, match="--force"), atomic_file(target, force=False):
        target.write_bytes(b"other")
    assert target.read_bytes() == b"other"
    assert names(tmp_path) == ["a.bin"]


def test_file_obeys_the_umask(tmp_path):
    with atomic_file(tmp_path / "a", force=False):
        pass
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("name", ["missing/a.bin", ""])
def test_impossible_targets(tmp_path, name):
    with pytest.raises(SourceError):
        AtomicFile(tmp_path / name, force=True)


def test_folder_replaces_only_what_may_go(tmp_path):
    target = tmp_path / "series"
    target.mkdir()
    AtomicFolder(target, force=False, replaceable=nothing).abort()  # empty: may go
    (target / "old").write_bytes(b"")
    with pytest.raises(SourceError, match="--force"):
        AtomicFolder(target, force=False, replaceable=anything)
    with pytest.raises(SourceError, match="'old'"):
        AtomicFolder(target, force=True, replaceable=nothing)
    folder = AtomicFolder(target, force=True, replaceable=anything)
    (folder.part / "new").write_bytes(b"")
    folder.commit()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["series"]


def test_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(SourceError, match="not a folder"):
        AtomicFolder(tmp_path / "a", force=True, replaceable=anything)


def test_folder_abort_leaves_nothing(tmp_path):
    folder = AtomicFolder(tmp_path / "a", force=False, replaceable=anything)
    (folder.part / "x").write_bytes(b"1")
    folder.abort()
    assert names(tmp_path) == []

"""Files and folders that appear under their name only when they are whole.

They are written beside the target, under a hidden name that ends in `.part`, then renamed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_codec.errors import SourceError


class AtomicFile:
    """A file under construction.

    Parameters
    ----------
    path : Path
        Target; its folder must exist.
    force : bool
        Whether an existing file may be replaced.

    Attributes
    ----------
    file : BinaryIO
        Open for reading, writing and seeking.

    Raises
    ------
    SourceError
        If the target exists and `force` is not set, or cannot be created.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        if path.is_dir():
            raise SourceError(f"{path} is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            raise SourceError(f"{path} is a device or a pipe; give the name of a file")
        path = path.resolve()  # what a link points to is replaced, not the link
        self._path = path
        self._force = force
        self._part = _part_name(path)
        _refuse_existing(path, force=force)
        try:
            self.file: BinaryIO = self._part.open("xb+")
        except OSError as error:
            raise SourceError(f"{path} cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        """Give the file its name, after its bytes have reached the disk.

        Raises
        ------
        SourceError
            If the target appeared meanwhile and `force` is not set, or the disk is full.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            _refuse_existing(self._path, force=self._force)
            self._part.replace(self._path)
        except OSError as error:
            self.abort()
            raise SourceError(f"{self._path} cannot be written: {error.strerror}") from error
        except SourceError:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        try:
            self.file.close()
        except OSError:  # a full disk is found when the buffer is flushed: the file goes anyway
            pass
        finally:
            self._part.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Give a file to write to that becomes `path` at the end, or vanishes on any exception.

    Raises
    ------
    SourceError
        As `AtomicFile`.
    """
    target = AtomicFile(path, force=force)
    try:
        yield target.file
    except BaseException:
        target.abort()
        raise
    target.commit()


class AtomicFolder:
    """A folder under construction.

    Parameters
    ----------
    path : Path
        Target; its parent must exist. An empty folder is always replaced.
    force : bool
        Whether a folder may be replaced of which every entry passes `replaceable`.
    replaceable : callable
        Path of an entry -> whether it may be deleted; keeps `force` from emptying a wrong folder.

    Attributes
    ----------
    part : Path
        Folder to write into.

    Raises
    ------
    SourceError
        If the target may not be replaced or cannot be created.
    """

    def __init__(self, path: Path, *, force: bool, replaceable: Callable[[Path], bool]) -> None:
        self._path = path
        self._force = force
        self._replaceable = replaceable
        self.part = _part_name(path)
        self._check()
        try:
            self.part.mkdir()
        except OSError as error:
            raise SourceError(f"{path} cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        """Give the folder its name and delete the one it replaces.

        Raises
        ------
        SourceError
            If the target changed meanwhile and may not be replaced.
        """
        try:
            self._check()
            if self._path.is_dir():
                old = _part_name(self._path)
                self._path.rename(old)
                try:
                    self.part.rename(self._path)
                except OSError:
                    old.rename(self._path)
                    raise
                shutil.rmtree(old)
            else:
                self.part.rename(self._path)
        except OSError as error:
            self.abort()
            raise SourceError(f"{self._path} cannot be written: {error.strerror}") from error
        except SourceError:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        shutil.rmtree(self.part, ignore_errors=True)

    def _check(self) -> None:
        if not self._path.is_dir():
            if self._path.exists() or self._path.is_symlink():
                raise SourceError(f"{self._path} is not a folder; choose another name")
            return
        entries = list(self._path.iterdir())
        if entries and not self._force:
            raise SourceError(f"{self._path} exists and is not empty; use --force to replace it")
        for entry in entries:
            if not self._replaceable(entry):
                raise SourceError(
                    f"{self._path} holds '{entry.name}', which --force does not delete; "
                    "choose another folder or remove it yourself"
                )


def _part_name(path: Path) -> Path:
    # Long names leave room for what is added; the random part is what matters.
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise SourceError(f"{path} exists; use --force to overwrite it")

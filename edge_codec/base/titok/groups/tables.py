"""The fitted tables of a grouping: what each code paints, and around what."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.groups.waves import CYCLE_WAVES, SLICE_WAVES
from edge_codec.base.titok.token_prior import CODES, GRID, LOAD_ERRORS, MAX_FILE
from edge_codec.errors import EngineError
from edge_codec.spec import TokensPer

AROUND = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))
"""Stretches that a token paints, from its own: (rows, columns) of the grid."""

IMAGES = {TokensPer.CINE: CYCLE_WAVES, TokensPer.EXAM: SLICE_WAVES * CYCLE_WAVES}
MOST_CODE = 64
MOST_SIDE = 128

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class GroupTables:
    """What is fitted of a grouping; stored in half precision as `cine_codes`, `exam_codes`, ...

    Attributes
    ----------
    codes : ndarray, shape (4096, d), float32
        A vector for each token.
    paint : ndarray, shape (9, d, images, h, w), float32
        What a number of such a vector adds to the stretch at each of `AROUND`; 8 h by 4 w pixels
        are an image.
    mean : ndarray, shape (images, 8 h, 4 w), float32
        What is there without any token; 0 to 1 is the window.
    """

    codes: Floats
    paint: Floats
    mean: Floats

    @property
    def side(self) -> int:
        """Rows and columns of an image."""
        return len(self.mean[0])

    def images_of(self, tokens: NDArray[np.uint16]) -> Floats:
        """Paint the images of a group, shape (images, side, side).

        Parameters
        ----------
        tokens : ndarray, shape (32,), uint16, below 4096
        """
        rows, columns = GRID
        vectors = self.codes[tokens]
        _, d, images, h, w = self.paint.shape
        padded = np.zeros((rows + 2, columns + 2, images * h * w), np.float32)
        for (down, right), part in zip(AROUND, self.paint, strict=True):
            added = (vectors @ part.reshape(d, -1)).reshape(rows, columns, -1)
            padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns] += added
        return self.mean + joined(padded[1:-1, 1:-1], (images, h, w))


def joined(stretches: Floats, shape: tuple[int, int, int]) -> Floats:
    """Put stretches (8, 4, images * h * w) together to images (images, 8 h, 4 w)."""
    (rows, columns), (images, h, w) = GRID, shape
    apart = stretches.reshape(rows, columns, images, h, w)
    return apart.transpose(2, 0, 3, 1, 4).reshape(images, rows * h, columns * w)


def cut(images: Floats) -> Floats:
    """Cut images (..., images, 8 h, 4 w) into stretches (..., 8, 4, images * h * w)."""
    rows, columns = GRID
    *many, count, height, width = images.shape
    apart = images.reshape(*many, count, rows, height // rows, columns, width // columns)
    moved = np.moveaxis(apart, (-4, -2), (-5, -4))
    return np.ascontiguousarray(moved).reshape(*many, rows, columns, -1)


def load_group_tables(data: bytes) -> dict[TokensPer, GroupTables]:
    """Read tables of both groupings from the bytes of `groups.npz`.

    Raises
    ------
    EngineError
        If an array is missing, or they do not fit each other.
    """
    if len(data) > MAX_FILE:
        raise EngineError(f"groups.npz of {len(data)} bytes, at most {MAX_FILE} are believed")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {per: _read(arrays, per) for per in IMAGES}
    except LOAD_ERRORS as error:
        raise EngineError(f"groups.npz is malformed ({error}); reinstall") from error
    for per, tables in found.items():
        _check(per, tables)
    return found


def store_group_tables(found: Mapping[TokensPer, GroupTables]) -> bytes:
    """Return the bytes of `groups.npz`."""
    arrays = {
        f"{per.label}_{field.name}": getattr(tables, field.name).astype(np.float16)
        for per, tables in found.items()
        for field in fields(GroupTables)
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _read(arrays: Mapping[str, NDArray[np.float16]], per: TokensPer) -> GroupTables:
    names = (field.name for field in fields(GroupTables))
    return GroupTables(
        **{name: np.ascontiguousarray(arrays[f"{per.label}_{name}"], np.float32) for name in names}
    )


def _check(per: TokensPer, tables: GroupTables) -> None:
    """Refuse tables that do not fit together."""
    images, side = IMAGES[per], tables.mean.shape[-1] if tables.mean.ndim == 3 else 0
    d = tables.codes.shape[1] if tables.codes.ndim == 2 else 0
    rows, columns = GRID
    expected = {
        "codes": (CODES, d),
        "paint": (len(AROUND), d, images, side // rows, side // columns),
        "mean": (images, side, side),
    }
    for name, shape in expected.items():
        table = getattr(tables, name)
        if table.shape != shape or not np.isfinite(table).all():
            raise EngineError(
                f"groups.npz: {per.label}_{name} is {table.shape}, expected finite {shape}; "
                "reinstall"
            )
    if not (1 <= d <= MOST_CODE and 0 < side <= MOST_SIDE and MOST_SIDE % side == 0):
        raise EngineError(f"groups.npz: codes of {d} numbers and images of side {side}; reinstall")

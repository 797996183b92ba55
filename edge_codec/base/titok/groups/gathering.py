"""Frames of a file into its groups' images, and those into tokens, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.canvas import SIDE, canvas_of
from edge_codec.base.titok.groups.data import GroupData, check_groups
from edge_codec.base.titok.groups.search import TokenSearch
from edge_codec.base.titok.groups.tables import GroupTables
from edge_codec.base.titok.groups.waves import CYCLE_WAVES, SLICE_WAVES, cycle_wave, slice_wave
from edge_codec.errors import FrameError
from edge_codec.spec import WINDOW_ONE, StreamSpec, TokensPer
from edge_codec.window import Window

Floats = NDArray[np.float32]


class Gatherer:
    """Adds up the images of a stream's groups.

    Parameters
    ----------
    spec : StreamSpec
        Gives size, number of phases, and window; its model data are not looked at.
    per : TokensPer
    side : int
        Of the images.

    Raises
    ------
    SpecError
        If a header has no place for so many slices or phases.
    """

    def __init__(self, spec: StreamSpec, per: TokensPer, side: int) -> None:
        info = spec.info
        self._n_groups = info.n_slices if per is TokensPer.CINE else 1
        check_groups(per, info.n_phases, self._n_groups)
        self._spec = spec
        self._per = per
        self._factor = SIDE // side
        self._window = Window(spec)
        self._canvas = canvas_of(*info.frame_shape)
        self._seen = 0
        waves = CYCLE_WAVES if per is TokensPer.CINE else SLICE_WAVES * CYCLE_WAVES
        self._sums = np.zeros((self._n_groups, waves, side, side), np.float32)

    def add(self, samples: NDArray[np.uint32], slice_index: int, phase_index: int) -> None:
        """Add a frame.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            Stored values minus the stream's lower bound.
        slice_index, phase_index : int
        """
        values = self._window.normalize(samples).astype(np.float32) / np.float32(WINDOW_ONE)
        image = shrunk(self._canvas.fit(values), self._factor)
        group = slice_index if self._per is TokensPer.CINE else 0
        self._sums[group] += self._wave(slice_index, phase_index)[:, None, None] * image
        self._seen += 1

    def images(self) -> Floats:
        """Return the groups' images, shape (groups, images, side, side).

        Raises
        ------
        FrameError
            If there were not as many frames as the stream shall have.
        """
        total = self._spec.info.n_slices * self._spec.info.n_phases
        if self._seen != total:
            raise FrameError(f"source gave {self._seen} frames, its header says {total}")
        return self._sums * np.float32(self._n_groups / total)

    def weight(self) -> Floats:
        """Return what each pixel of the images counts, shape (images, side, side)."""
        info = self._spec.info
        inside = shrunk(self._canvas.inside, self._factor)
        places = product(range(info.n_slices), range(min(info.n_phases, CYCLE_WAVES)))
        known = np.any([self._wave(*place) != 0 for place in places], axis=0)
        weight: Floats = known[:, None, None] * inside
        return weight

    def _wave(self, slice_index: int, phase_index: int) -> Floats:
        info = self._spec.info
        wave = cycle_wave(phase_index, info.n_phases)
        if self._per is TokensPer.CINE:
            return wave
        return np.outer(slice_wave(slice_index, info.n_slices), wave).ravel()


def find_groups(
    gatherer: Gatherer, spec: StreamSpec, per: TokensPer, tables: Mapping[TokensPer, GroupTables]
) -> GroupData:
    """Return the tokens of all groups."""
    search = TokenSearch(tables[per], gatherer.weight())
    tokens = np.stack([search.tokens(images) for images in gatherer.images()])
    return GroupData(per, spec.info.n_phases, tokens)


def shrunk(image: Floats, factor: int) -> Floats:
    """Return the means of squares of factor x factor pixels."""
    side = len(image) // factor
    means: Floats = image.reshape(side, factor, side, factor).mean(axis=(1, 3))
    return means

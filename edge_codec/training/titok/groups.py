"""Fits the tables of whole cines and exams in 32 tokens, in closed form and on a CPU.

    python -m edge_codec.training.titok.groups --data shards scd.zip --out run/groups.npz

The images of all groups are cut into stretches, moved and mirrored copies of them too. The first
principal components of a stretch are what k-means finds the codes from; what a code paints on its
own stretch and the eight around it is the solution of least squares. Groups of patients that are
held out (`--held-out`) are then coded, and what is left of them is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_codec.base.titok.canvas import SIDE
from edge_codec.base.titok.groups.gathering import shrunk
from edge_codec.base.titok.groups.search import TokenSearch
from edge_codec.base.titok.groups.tables import (
    AROUND,
    IMAGES,
    GroupTables,
    cut,
    store_group_tables,
)
from edge_codec.base.titok.groups.waves import CYCLE_WAVES, SLICE_WAVES, cycle_wave, slice_wave
from edge_codec.base.titok.token_prior import CODES, GRID, TOKENS
from edge_codec.errors import SpecError
from edge_codec.spec import WINDOW_ONE, TokensPer
from edge_codec.training.titok.cines import Library, open_cines

RIDGE = 1e-3
ROWS_AT_ONCE = 2048
GAINS = (0.85, 1.15)
"""Brightness of copies."""

Floats = NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit.

    Attributes
    ----------
    dim : int
        Numbers of a code.
    copies : int
        How often each group is taken, moved and mirrored.
    iterations : int
        Of k-means.
    seed : int
    """

    dim: int = 16
    copies: int = 8
    iterations: int = 5
    seed: int = 0


USUAL = FitOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Images of groups to fit to, or to judge by.

    Attributes
    ----------
    images : ndarray, shape (n, images, side, side), float32
    weights : ndarray, same shape, float32
        1 where the frame is shown, in images that the group has.
    """

    images: Floats
    weights: Floats


def cine_groups(library: Library, side: int) -> tuple[Groups, list[str]]:
    """Return the images of all cines of a library, and whose they are."""
    images, weights, patients = [], [], []
    for number in tqdm(range(len(library)), unit="cine"):
        cine = library[number]
        waves = np.stack([cycle_wave(p, len(cine.codes)) for p in range(len(cine.codes))])
        values = cine.codes.astype(np.float32) / np.float32(WINDOW_ONE)
        sums = np.tensordot(waves.T, values, 1) / np.float32(len(values))
        images.append(np.stack([shrunk(each, SIDE // side) for each in sums]))
        known = np.abs(waves).max(axis=0) > 0
        weights.append(known[:, None, None] * shrunk(cine.inside, SIDE // side))
        patients.append(cine.patient)
    return Groups(np.stack(images), np.stack(weights).astype(np.float32)), patients


def exam_groups(cines: Groups, patients: Sequence[str]) -> Groups:
    """Put the cines of each patient, from the first slice to the last, together to an exam."""
    images, weights = [], []
    for patient in dict.fromkeys(patients):
        places = [at for at, other in enumerate(patients) if other == patient]
        waves = np.stack([slice_wave(at, len(places)) for at in range(len(places))])
        mixed = np.tensordot(waves.T, cines.images[places], 1) / np.float32(len(places))
        known = np.abs(waves).max(axis=0) > 0
        weight = known[:, None, None, None] * cines.weights[places[0]]
        shape = (SLICE_WAVES * CYCLE_WAVES, *cines.images.shape[2:])
        images.append(mixed.reshape(shape))
        weights.append(weight.reshape(shape))
    return Groups(np.stack(images).astype(np.float32), np.stack(weights).astype(np.float32))


def fit_tables(images: Floats, options: FitOptions) -> GroupTables:
    """Fit the tables of a grouping.

    Parameters
    ----------
    images : ndarray, shape (n, images, side, side), float32
        Of training groups.
    options : FitOptions

    Raises
    ------
    SpecError
        If there are fewer stretches than codes.
    """
    if len(images) * options.copies * TOKENS < CODES:
        raise SpecError(
            f"{len(images)} groups x {options.copies} copies have fewer stretches than the "
            f"{CODES} codes; take more of one"
        )
    mean = images.mean(axis=0)
    components = _components(_copies(images, mean, options), options)
    latents = [rows @ components for rows in _copies(images, mean, options)]
    codes = k_means(np.concatenate(latents).reshape(-1, options.dim), options)
    tokens = [nearest(each.reshape(-1, options.dim), codes) for each in latents]
    paint = _paint(_copies(images, mean, options), tokens, codes, options)
    d, (_, count, side, _) = options.dim, images.shape
    shape = (len(AROUND), d, count, side // GRID[0], side // GRID[1])
    return GroupTables(codes, paint.reshape(shape).astype(np.float32), mean)


def _copies(images: Floats, mean: Floats, options: FitOptions) -> Iterator[Floats]:
    """Yield the stretches of moved and mirrored groups without their mean, (n, 32, pixels)."""
    rng = np.random.default_rng(options.seed)
    side = images.shape[-1]
    bar = tqdm(range(options.copies), unit="copy")
    for copy in bar:
        moved = images
        if copy:
            moved = images * np.float32(rng.uniform(*GAINS))
            for axis in (2, 3):
                if rng.random() < 0.5:
                    moved = np.flip(moved, axis)
                step = rng.integers(-side // 16, side // 16 + 1)
                moved = moved.take(np.clip(np.arange(side) + step, 0, side - 1), axis)
            if images.shape[1] > CYCLE_WAVES and rng.random() < 0.5:
                moved = moved * _upside_down()
        yield cut(moved - mean).reshape(len(images), TOKENS, -1)


def _upside_down() -> Floats:
    """Signs of an exam's images when its slices are counted from the other end."""
    signs = np.repeat((-1.0) ** np.arange(SLICE_WAVES), CYCLE_WAVES)
    return signs.astype(np.float32)[:, None, None]


def _components(copies: Iterator[Floats], options: FitOptions) -> Floats:
    """Return the first principal components of stretches, shape (pixels, dim)."""
    products: Floats | float = 0.0
    for copy in copies:
        rows = copy.reshape(-1, copy.shape[-1])
        products = products + rows.T @ rows
    _, vectors = np.linalg.eigh(products)
    return np.ascontiguousarray(vectors[:, ::-1][:, : options.dim], np.float32)


def k_means(rows: Floats, options: FitOptions) -> Floats:
    """Return the codes that rows gather around, shape (4096, dim)."""
    rng = np.random.default_rng(options.seed)
    codes = rows[rng.permutation(len(rows))[:CODES]].copy()
    for _ in tqdm(range(options.iterations), unit="iteration"):
        found = nearest(rows, codes)
        counts = np.bincount(found, minlength=CODES)
        sums = np.stack(
            [np.bincount(found, column, CODES) for column in rows.T.astype(np.float64)], 1
        )
        used = counts > 0
        codes[used] = sums[used] / counts[used, None]
        codes[~used] = rows[rng.permutation(len(rows))[: np.count_nonzero(~used)]]
    return codes


def nearest(rows: Floats, codes: Floats) -> NDArray[np.uint16]:
    """Return the nearest code of each row, shape (n,)."""
    half = (codes * codes).sum(axis=1) / 2
    parts = (rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE))
    return np.concatenate([(half - part @ codes.T).argmin(axis=1) for part in parts]).astype(
        np.uint16
    )


def _paint(
    copies: Iterator[Floats],
    tokens: Sequence[NDArray[np.uint16]],
    codes: Floats,
    options: FitOptions,
) -> NDArray[np.float64]:
    """Return by least squares what the tokens around a stretch paint on it, (9 dim, pixels)."""
    normal: NDArray[np.float64] | float = 0.0
    products: NDArray[np.float64] | float = 0.0
    for rows, found in zip(copies, tokens, strict=True):
        inputs = _around(codes[found].reshape(len(rows), *GRID, -1))
        inputs = inputs.reshape(-1, inputs.shape[-1])
        normal = normal + (inputs.T @ inputs).astype(np.float64)
        products = products + (inputs.T @ rows.reshape(len(inputs), -1)).astype(np.float64)
    size = len(AROUND) * options.dim
    ridge = RIDGE * np.trace(normal) / size * np.eye(size)
    solution: NDArray[np.float64] = np.linalg.solve(normal + ridge, products)
    return solution


def _around(vectors: Floats) -> Floats:
    """Return the vectors of the tokens that paint each stretch, (n, 8, 4, 9 dim)."""
    rows, columns = GRID
    padded = np.pad(vectors, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.concatenate(
        [
            padded[:, 1 - down : 1 - down + rows, 1 - right : 1 - right + columns]
            for down, right in AROUND
        ],
        axis=-1,
    )


def judge(tables: GroupTables, groups: Groups) -> dict[str, float]:
    """Code groups and return what is left.

    Returns
    -------
    dict
        `error`: mean squared error of the images, in squared windows of a frame's pixel; `motion`:
        energy of the decoded images but the mean ones over that of the originals.
    """
    error = shown = moved = original = 0.0
    for images, weight in zip(tqdm(groups.images, unit="group"), groups.weights, strict=True):
        tokens = TokenSearch(tables, weight).tokens(images)
        decoded = tables.images_of(tokens)
        error += float((weight * (decoded - images) ** 2).sum())
        shown += float(weight[0].sum())
        waves = np.arange(len(images)) % CYCLE_WAVES > 0
        moved += float((weight * decoded**2)[waves].sum())
        original += float((weight * images**2)[waves].sum())
    return {"error": error / shown, "motion": moved / max(original, 1e-12)}


def main(argv: list[str] | None = None) -> None:
    """Parse options, fit, judge, write."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.titok.groups")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="shards or packs")
    parser.add_argument("--out", type=Path, required=True, help="groups.npz to write")
    parser.add_argument("--held-out", nargs="*", default=[], help="patients to judge by")
    parser.add_argument("--side", type=int, default=64, help="pixels along an image")
    parser.add_argument("--dim", type=int, default=USUAL.dim, help="numbers of a code")
    parser.add_argument("--copies", type=int, nargs=2, default=(8, 32), help="of cines, exams")
    parser.add_argument("--iterations", type=int, default=USUAL.iterations)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training, held_out = open_cines(options.data, options.held_out)
    groups = _both(training, options.side)
    found = {}
    for per, copies in zip(IMAGES, options.copies, strict=True):
        fit = FitOptions(options.dim, copies, options.iterations, options.seed)
        found[per] = fit_tables(groups[per].images, fit)
    if len(held_out):
        for per, unseen in _both(held_out, options.side).items():
            log.info("%s", json.dumps({"per": per.label, **judge(found[per], unseen)}))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(store_group_tables(found))


def _both(library: Library, side: int) -> dict[TokensPer, Groups]:
    cines, patients = cine_groups(library, side)
    return {TokensPer.CINE: cines, TokensPer.EXAM: exam_groups(cines, patients)}


if __name__ == "__main__":
    main()

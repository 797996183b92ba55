"""Cines beside what `titok` makes of them: what `edge_codec.nn.cine_refiner` learns from.

`python -m edge_codec.training.titok.refiner_pairs --data SHARDS --out PAIRS` codes every cine with
the shipped networks, as the codec codes a file, `--rounds` times: once as it is, then changed as in
the training of the tokenizer. Each cine becomes a file of its own, so that a run that was stopped
goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_codec.base.titok.model import TitokModel
from edge_codec.errors import SourceError
from edge_codec.runtime.models import load_model
from edge_codec.spec import WINDOW_ONE, CineInfo, ModelId, StreamSpec
from edge_codec.training.titok.cines import FittedCine, Library, open_cines
from edge_codec.training.titok.config import StreamOptions, read_config
from edge_codec.training.titok.streams import Life, draw_life

NAMES = ("train", "held_out")
"""Folders of the pairs."""

KEY_INTERVAL = 32
SCALE = 16
"""Samples of a window code: the coder gets integers, and shall lose nothing by that."""

SHORTEST, SHORTENED = 0.6, 0.3
"""Cines may lack the end of the cycle: at least how much is left, and how many do."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One cine, before and after.

    Attributes
    ----------
    original, decoded : ndarray, shape (phases, 128, 128), uint8
        Window codes on the canvas.
    heart : ndarray, shape (phases, 128, 128), bool
    inside : ndarray, shape (128, 128), bool
    peak : float
        See `FittedCine`.
    """

    original: NDArray[np.uint8]
    decoded: NDArray[np.uint8]
    heart: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    peak: float

    @property
    def ages(self) -> NDArray[np.int64]:
        """Frames since the key frame, shape (phases,)."""
        return np.arange(len(self.original)) % KEY_INTERVAL


def write_pair(path: Path, pair: Pair) -> None:
    """Write a pair; a crash leaves no half of one."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez(
            file, original=pair.original, decoded=pair.decoded, heart=np.packbits(pair.heart),
            inside=pair.inside, peak=pair.peak,
        )  # fmt: skip
    part.replace(path)


def read_pair(path: Path) -> Pair:
    """Read a pair.

    Raises
    ------
    SourceError
        If it is none.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            original = content["original"]
            bits = np.unpackbits(content["heart"], count=original.size)
            heart = bits.reshape(original.shape).astype(bool)
            return Pair(
                original, content["decoded"], heart, content["inside"], float(content["peak"])
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} holds no pair ({error}); make it again") from error


def code_pair(model: TitokModel, frames: NDArray[np.float32], life: Life, peak: float) -> Pair:
    """Code frames (phases, 128, 128), of which 1 is the window, as a file's slice."""
    inside = life.inside.numpy() > 0
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    samples = np.clip(np.rint(frames[box] * WINDOW_ONE * SCALE), 0, 255 * SCALE).astype(np.uint32)
    phases, height, width = samples.shape
    info = CineInfo(1, phases, height, width, np.dtype(np.uint16))
    spec = StreamSpec(
        info, 0, 255 * SCALE, ModelId.TITOK, max_error=None, key_interval=KEY_INTERVAL,
        window_low=0, window_high=WINDOW_ONE * SCALE, model_data=life.facts.pack(),
    )  # fmt: skip
    coder = model.coder(spec)
    shown = [coder.encode(f, n, n % KEY_INTERVAL == 0)[1] for n, f in enumerate(samples)]
    around = ((rows[0], 127 - rows[-1]), (columns[0], 127 - columns[-1]))
    decoded = np.stack([np.pad(frame, around, mode="edge") for frame in shown])
    order = life.order[: len(frames)]
    return Pair(
        np.clip(np.rint(frames * WINDOW_ONE), 0, 255).astype(np.uint8),
        np.rint(decoded / SCALE).astype(np.uint8),
        life.heart[order].numpy() > 0.5,
        inside,
        peak,
    )


def life_of(cine: FittedCine, options: StreamOptions, seed: Sequence[int]) -> Life:
    """Draw a change of a cine and a way around its cycle; the last of the seed is 0 for none."""
    rng = np.random.default_rng(seed)
    if seed[-1] > 0 or len(cine.codes) == 1:
        return draw_life(Library([lambda: cine]), options, rng)
    frames = torch.from_numpy(cine.codes).float() / WINDOW_ONE
    heart = torch.zeros_like(frames) if cine.heart is None else torch.from_numpy(cine.heart).float()
    inside, phases = torch.from_numpy(cine.inside), np.arange(len(frames))
    return Life(frames, heart, inside, phases, phases.astype(np.float64), cine.facts)


@lru_cache(maxsize=1)
def _model() -> TitokModel:
    torch.set_num_threads(1)
    model = load_model(ModelId.TITOK, threads=1)
    if not isinstance(model, TitokModel):
        raise SourceError("the zoo's titok is none; reinstall")
    return model


def _work(job: tuple[FittedCine, StreamOptions, tuple[int, int], Path]) -> None:
    cine, options, seed, path = job
    life = life_of(cine, options, seed)
    phases = len(life.frames)
    rng = np.random.default_rng([*seed, 1])
    if seed[1] > 0 and rng.random() < SHORTENED:
        phases = int(rng.integers(int(SHORTEST * phases), phases + 1))
    frames = life.frames[life.order[:phases]].numpy()
    write_pair(path, code_pair(_model(), frames, life, cine.peak))


def main(argv: list[str] | None = None) -> None:
    """Parse options, code, write."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.titok.refiner_pairs")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the tokenizer")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="shards or packs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pairs")
    parser.add_argument("--rounds", type=int, default=3, help="of all cines, the first unchanged")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(argv)
    config = read_config(options.config)
    libraries = open_cines(options.data, config.held_out)
    # The way is longer than any cycle, so that one cycle can be cut from its beginning.
    streams = StreamOptions(
        1, (64, 64), 1, config.streams.change_chance, config.streams.reverse_chance,
        config.streams.mirror_chance, config.streams.shift, config.streams.limits,
    )  # fmt: skip
    jobs = []
    for name, library, rounds in zip(NAMES, libraries, (options.rounds, 1), strict=True):
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for turn in range(rounds):
            for number in range(len(library)):
                path = folder / f"{turn}-{number:05d}.npz"
                if not path.exists():
                    jobs.append((library, number, streams, (number, turn), path))
    # A fork would take along the locks of threads that it does not have.
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        work = ((library[number], *rest) for library, number, *rest in jobs)
        list(tqdm(pool.map(_work, work), total=len(jobs), unit="cine"))


if __name__ == "__main__":
    main()

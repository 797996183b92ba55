"""The linear codec that training begins with: shortcuts and codebook fitted in closed form.

`python -m edge_codec.training.titok.linear --config C --data D --out O` writes O/averaged.pt, which
`--start` of the training takes.

Each stage of a group in turn: what the decoded frame before leaves open is cut into the stretches
that latents start from; their first principal components are what the encoder's shortcut measures;
k-means of these latents and those of the stages before gives the codes; the pixels that go best
with the codes, by least squares, are what the decoder's shortcut paints. Then the frame is painted,
and the next stage sees what it leaves.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor
from tqdm import tqdm

from edge_codec.errors import SpecError
from edge_codec.nn.titok import GRAY, TiTok
from edge_codec.nn.titok_parts import STAGES, stretches
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.checkpoints import write_state
from edge_codec.training.titok.cines import Library, open_cines
from edge_codec.training.titok.config import read_config
from edge_codec.training.titok.judge import BRIGHTEST

GAIN = 1.5
"""Root mean square of the components against the constant last one: how far latents spread."""

RIDGE = 1e-3
ROWS_A_STAGE = 12_000
ROWS = 60_000
"""Latents of a stage that k-means remembers, and those that it takes at a time."""

ITERATIONS = (5, 8)
"""Of k-means, for each stage and for the codebook in the end."""

CINES_AT_ONCE = 64


@torch.no_grad()
def fit_linear(model: TiTok, cines: Tensor, seed: int) -> list[float]:
    """Fit shortcuts and codebook of a fresh network.

    Parameters
    ----------
    model : TiTok
        Changed in place.
    cines : Tensor, shape (n, STAGES, side, side), uint8
        Window codes of the first frames of groups.
    seed : int
        Of the choice of latents for k-means.

    Returns
    -------
    list of float
        Mean squared error after each stage, in units of the window.

    Raises
    ------
    SpecError
        If the cines are too few for the codebook.
    """
    config = model.config
    if len(cines) * config.tokens < config.codes:
        raise SpecError(
            f"{len(cines)} cines give {len(cines) * config.tokens} latents a stage, fewer than the "
            f"codebook's {config.codes} codes; take more cines"
        )
    torch.manual_seed(seed)
    shown = torch.full((len(cines), 1, *cines.shape[2:]), GRAY)
    remembered: list[Tensor] = []
    errors = []
    for stage in range(STAGES):
        frame = cines[:, stage, None].float() / WINDOW_ONE
        latents = _fit_encoder(model, frame - shown, stage)
        remembered.append(_some(latents, ROWS_A_STAGE))
        model.codebook.initialize(_some(torch.cat(remembered), ROWS), ITERATIONS[0])
        codes = _quantize(model, latents)
        _fit_decoder(model, codes, frame - shown, stage)
        shown = (shown + _paint(model, codes, stage)).clamp(0.0, BRIGHTEST)
        errors.append(float((frame - shown).square().mean()))
    model.codebook.initialize(_some(torch.cat(remembered), 2 * ROWS), ITERATIONS[1])
    return errors


def first_frames(library: Library) -> Tensor:
    """Return the first `STAGES` frames of every cine, (n, STAGES, side, side) uint8.

    A cine that is shorter goes round.
    """
    found = []
    for number in tqdm(range(len(library)), unit="cine"):
        codes = torch.from_numpy(library[number].codes)
        found.append(codes[torch.arange(STAGES) % len(codes)])
    return torch.stack(found)


def _fit_encoder(model: TiTok, residual: Tensor, stage: int) -> Tensor:
    """Set a stage's transform to the first principal components; return latents of length 1."""
    shortcut = model.encoder.shortcut
    rows = stretches(residual, shortcut.columns).flatten(0, 1)
    _, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    first = vectors.flip(1)[:, : model.config.code_dim - 1]
    spread = (rows @ first).square().sum(1).mean().sqrt().clamp_min(1e-6)
    shortcut.weight[stage] = 0
    shortcut.weight[stage, :, :-1] = first * (GAIN / spread)
    return F.normalize(shortcut(residual, _ages(residual, stage)), dim=2)


def _fit_decoder(model: TiTok, codes: Tensor, residual: Tensor, stage: int) -> None:
    """Set a stage's pixels to those of the least squared error."""
    shortcut = model.decoder.shortcut
    target = stretches(residual, shortcut.columns).flatten(0, 1)
    inputs = codes.flatten(0, 1)
    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    normal = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(normal, inputs.T @ target)
    shortcut.weight[stage], shortcut.bias[stage] = solution[:-1], solution[-1]


def _quantize(model: TiTok, latents: Tensor) -> Tensor:
    codebook = model.codebook
    parts = torch.split(latents, CINES_AT_ONCE)
    return torch.cat([codebook.lookup(codebook.nearest(part)) for part in parts])


def _paint(model: TiTok, codes: Tensor, stage: int) -> Tensor:
    shortcut = model.decoder.shortcut
    parts = torch.split(codes, CINES_AT_ONCE)
    return torch.cat([shortcut(part, _ages(part, stage)) for part in parts])


def _ages(rows: Tensor, stage: int) -> Tensor:
    return torch.full((len(rows),), stage)


def _some(latents: Tensor, count: int) -> Tensor:
    """Draw rows from (..., dim)."""
    rows = latents.reshape(-1, latents.shape[-1])
    return rows[torch.randperm(len(rows))[:count]]


def main(argv: list[str] | None = None) -> None:
    """Parse options, fit, write."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.titok.linear")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the training")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="shards or packs")
    parser.add_argument("--out", type=Path, required=True, help="folder for averaged.pt")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config = read_config(options.config)
    library, _ = open_cines(options.data, config.held_out)
    torch.manual_seed(config.train.seed)
    model = TiTok(config.network)
    errors = fit_linear(model, first_frames(library), config.train.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = dataclasses.asdict(config.network)
    write_state(
        options.out / "averaged.pt", {"config": sizes, "state": model.state_dict(), "step": 0}
    )
    print(f"mean squared error of the window: {errors[0]:.5f} to {errors[-1]:.5f}")


if __name__ == "__main__":
    main()

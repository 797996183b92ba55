"""Train one stage: `python -m edge_codec.training.titok --config C --data D --out O`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.segmentation import load_network
from edge_codec.training.titok.checkpoint import read_start
from edge_codec.training.titok.cines import open_cines
from edge_codec.training.titok.config import network_of, read_config
from edge_codec.training.titok.judge import Judge
from edge_codec.training.titok.trainer import Trainer, train


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    found = argparse.ArgumentParser(prog="edge_codec.training.titok", description=__doc__)
    found.add_argument("--config", type=Path, required=True, help="YAML, see training/configs")
    found.add_argument(
        "--data", type=Path, required=True, nargs="+",
        help="folders of shards (edge-codec data convert), files of edge_codec.training.pack",
    )  # fmt: skip
    found.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    found.add_argument(
        "--start", type=Path,
        help="averaged.pt of the stage before, or a public TiTok checkpoint (.safetensors)",
    )  # fmt: skip
    found.add_argument("--resume", action="store_true", help="continue OUT/checkpoint.pt if any")
    found.add_argument(
        "--segmenter", type=Path, help="averaged.pt of edge_codec.training.segmentation"
    )
    found.add_argument(
        "--size", help="instead of the configuration's, where nothing is started from"
    )
    found.add_argument("--steps", type=int, help="end of the schedule, likewise")
    found.add_argument("--threads", type=int, default=2, help="torch threads")
    return found


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    options = parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    config = read_config(options.config)
    if options.size:
        config = dataclasses.replace(config, network=network_of(options.size, {}))
    if options.steps:
        schedule = dataclasses.replace(config.train, steps=options.steps)
        config = dataclasses.replace(config, train=schedule)
    library, held_out = open_cines(options.data, config.held_out)
    judge = Judge(load_network(options.segmenter)) if options.segmenter else None
    start = read_start(options.start, config.network) if options.start else None
    if start is not None:
        print(f"starting from {start.note}")
    options.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = None if start is None else start.model
    trainer = Trainer(config, options.out, library, model, judge, device)
    if options.resume and (options.out / "checkpoint.pt").exists():
        trainer.resume()
    train(trainer, held_out)


if __name__ == "__main__":
    main()

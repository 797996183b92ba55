"""Which parts of TiTok-MRI's training pay: short trainings with one part left out each.

    python -m benchmarks.titok_ablation --config edge_codec/training/configs/titok_whole.yaml \
        --data SHARDS --start averaged.pt --segmenter averaged.pt --steps 200 --out FOLDER \
        --json benchmarks/results/titok_ablation.jsonl

The figures are of training patients that are held out. Differences of a few hundred steps tell the
direction of an effect, not its size at the end of a training; --seeds repeats each with another
order of the data, which shows how much is chance.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from benchmarks.markdown import table
from benchmarks.record import append_record, describe_machine
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.segmentation import load_network
from edge_codec.training.titok.ablation import MEASURES, VARIANTS, ablate
from edge_codec.training.titok.cines import open_cines
from edge_codec.training.titok.config import read_config
from edge_codec.training.titok.judge import Judge


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Train and measure, print the table, append the records."""
    parser = argparse.ArgumentParser(prog="benchmarks.titok_ablation", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML with all parts")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="shards or packs")
    parser.add_argument("--start", type=Path, required=True, help="averaged.pt that all begin with")
    parser.add_argument("--segmenter", type=Path, required=True, help="its averaged.pt")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--json", type=Path, help="file to append the records to")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config = read_config(options.config)
    data = open_cines(options.data, config.held_out)
    judge = Judge(load_network(options.segmenter))
    rows = []
    for seed in options.seeds:
        schedule = dataclasses.replace(config.train, steps=options.steps, seed=seed)
        short = dataclasses.replace(config, train=schedule)
        out = options.out / f"seed{seed}"
        for row in ablate(short, options.start, data, judge, out, options.variants):
            rows.append({"seed": seed, **row})
            if options.json:
                machine = describe_machine(["torch"])
                append_record(options.json, "titok_ablation", rows[-1], machine)
    names = ("variant", "seed", "steps", *MEASURES)
    print(table(names, ([str(row[name]) for name in names] for row in rows)))


if __name__ == "__main__":
    main()

"""What the stages of TiTok-MRI's training left: held-out patients by checkpoint after checkpoint.

    python -m benchmarks.titok_stages --config edge_codec/training/configs/titok_s.yaml \
        --data SHARDS --segmenter averaged.pt run/start/averaged.pt run/s/averaged.pt \
        --json benchmarks/results/titok_stages.jsonl

Tokens are the nearest codes, whatever they cost, and frames are as they were painted. Each
checkpoint is measured twice: told nothing but the frame, and told all that the configuration tells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.markdown import table
from benchmarks.record import append_record, describe_machine
from edge_codec.training.denormals import flushed_denormals
from edge_codec.training.segmentation import load_network
from edge_codec.training.titok.ablation import MEASURES
from edge_codec.training.titok.checkpoint import load_titok
from edge_codec.training.titok.cines import open_cines
from edge_codec.training.titok.config import ToldOptions, read_config
from edge_codec.training.titok.judge import Judge
from edge_codec.training.titok.validation import validate


@flushed_denormals()
def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, append the records."""
    parser = argparse.ArgumentParser(prog="benchmarks.titok_stages", description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="averaged.pt, in their order")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the training")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="shards or packs")
    parser.add_argument("--segmenter", type=Path, required=True, help="its averaged.pt")
    parser.add_argument("--frames", type=int, default=24, help="of each cine, at most")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--json", type=Path, help="file to append the records to")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config = read_config(options.config)
    _, held_out = open_cines(options.data, config.held_out)
    judge = Judge(load_network(options.segmenter))
    rows = []
    for path in options.checkpoints:
        model = load_titok(path).eval()
        for name, told in (("nothing", ToldOptions()), ("all", config.told)):
            found = validate(model, held_out, judge, options.frames, told)
            about = {"stage": path.resolve().parent.name, "told": name, "frames": options.frames}
            rows.append({**about, **found})
            if options.json:
                append_record(options.json, "titok_stages", rows[-1], describe_machine(["torch"]))
    names = ("stage", "told", *MEASURES)
    print(table(names, ([str(row[name]) for name in names] for row in rows)))


if __name__ == "__main__":
    main()

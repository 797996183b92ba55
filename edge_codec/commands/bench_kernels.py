"""`edge-codec bench kernels`: our GPU kernels, checked and timed against PyTorch's."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.report import progress
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console

HEAD = ("kernel", "shape", "dtype", "agreement", "warm ms", "cold ms", "of floor", "against")


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kernels", metavar="A,B,...", help="only these")
    parser.add_argument(
        "--interpret",
        action="store_true",
        help="no GPU: check small shapes on the CPU in Triton's interpreter, time nothing",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this file")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Check every kernel, time it where there is a GPU, and print a line for each shape."""
    if options.interpret:
        # Read by Triton when a kernel's module is imported, which happens below.
        os.environ["TRITON_INTERPRET"] = "1"
    from edge_codec.bench.kernels.gpu import require_gpu

    if not options.interpret:
        require_gpu()
    if not options.json:
        print("\t".join(HEAD), file=console.out)
    for row in _rows(options, progress(options, console, "shape")):
        line = json.dumps(row)
        print(line if options.json else _line(row), file=console.out, flush=True)
        if options.out is not None:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    return ExitStatus.OK


def _rows(options: argparse.Namespace, wrap: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows, each with what it depends on."""
    import torch

    from edge_codec.bench.kernels import catalog
    from edge_codec.bench.kernels.measure import check_case, measure_case
    from edge_codec.bench.machine import describe_machine

    names = catalog.KERNELS if options.kernels is None else tuple(options.kernels.split(","))
    machine = describe_machine(("torch", "triton"))
    if options.interpret:
        for case in wrap(catalog.cases(torch.device("cpu"), True, names), None, "check"):
            yield {**check_case(case), **machine}
        return
    from edge_codec.bench.kernels.gpu import describe_gpu
    from edge_codec.bench.kernels.timing import measure_ceilings

    machine |= describe_gpu()
    ceilings = measure_ceilings()
    machine["copy_bytes_per_s"] = ceilings.bytes_per_s
    machine["matrix_operations_per_s"] = ceilings.operations_per_s
    for case in wrap(catalog.cases(torch.device("cuda"), False, names), None, "measure"):
        yield {**measure_case(case, ceilings), **machine}


def _line(row: dict[str, Any]) -> str:
    words = [str(row[name]) for name in ("kernel", "shape", "dtype", "agreement")]
    if "warm_ms" in row:
        words += [f"{row[name]['p50']:.4g}" for name in ("warm_ms", "cold_ms")]
        words.append(f"{100 * row['of_floor']:.0f} %")
        words += [f"{name} x{found['warm_ratio']:.2f}" for name, found in row["baselines"].items()]
    return "\t".join(words)

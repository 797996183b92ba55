"""`edge-codec bench`: measurements that a user can repeat.

Each benchmark is a module of its own with `register` and `run`, imported when chosen.
"""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.exit_status import ExitStatus

BENCHMARKS = {
    "rd": "rate-distortion of this codec and its peers on any volumes",
    "kernels": "our GPU kernels, checked and timed against those of PyTorch",
    "latency": "from a frame's acquisition to its packet, paced as a scanner does",
}


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmarks."""
    benchmarks = parser.add_subparsers(metavar="benchmark", required=True)
    for name, summary in BENCHMARKS.items():
        benchmark = benchmarks.add_parser(name, help=summary, description=summary)
        # As of the command itself, so that it may stand behind the benchmark's name, too.
        benchmark.add_argument(
            "--verbose", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        module = importlib.import_module(f"edge_codec.commands.bench_{name}")
        module.register(benchmark)
        benchmark.set_defaults(benchmark=module)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Run the chosen benchmark."""
    status: ExitStatus = options.benchmark.run(options, console)
    return status

"""`edge-codec bench latency`: how long a frame takes from its acquisition to the last sink."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from edge_codec.commands.coding_options import MODELS, positive
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.bench.latency.plan import Plan
    from edge_codec.cli import Console

STDOUT = "-"


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", type=Path, metavar="INPUT",
        help="exam to loop over: .nii, .nii.gz, .npy, .dcm or a DICOM folder",
    )  # fmt: skip
    _add_coding(parser)
    _add_load(parser)
    _add_output(parser)


def _add_coding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is done with each frame")
    promise = group.add_mutually_exclusive_group()
    promise.add_argument("--lossless", action="store_true", help="the default without --model")
    promise.add_argument("--max-error", type=int, metavar="N", help="as of compress")
    group.add_argument("--model", default="none", metavar=MODELS, help="base layer")
    group.add_argument("--effort", default="default", metavar="fast|default|best")
    group.add_argument("--backend", default="auto", metavar="NAME", help="as of compress")
    group.add_argument("--threads", type=positive, metavar="N", help="threads for one frame")
    group.add_argument(
        "--workers", type=positive, metavar="N",
        help="frames of different streams coded at once; one for each stream by default, as far "
        "as there are processors",
    )  # fmt: skip
    group.add_argument("--policy", default="adaptive",
                       metavar="none|strict-lossless|adaptive|drop-oldest",
                       help="what is done when time is short")  # fmt: skip
    group.add_argument("--budget-ms", type=float, default=10.0, metavar="MS",
                       help="what the policy keeps to: 10; 0 for no limit")  # fmt: skip
    group.add_argument("--sink", default="file", metavar="file|memory|null",
                       help="who takes the packets: a file in a temporary folder, not forced onto "
                       "the disk, by default")  # fmt: skip


def _add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, default=30.0, metavar="FPS",
                      help="frames per second of each stream, on a fixed schedule: 30")  # fmt: skip
    pace.add_argument("--closed-loop", action="store_true",
                      help="each frame when the one before is done")  # fmt: skip
    count = group.add_mutually_exclusive_group()
    count.add_argument("--frames", type=positive, default=900, metavar="N",
                       help="frames of each stream that count: 900")  # fmt: skip
    count.add_argument("--soak", type=positive, metavar="N", help="the same, for long runs")
    group.add_argument("--warmup", type=int, default=60, metavar="N",
                       help="frames before them that do not: 60")  # fmt: skip
    group.add_argument("--streams", type=positive, default=1, metavar="N", help="streams at once")
    group.add_argument("--deadline-ms", type=float, default=16.7, metavar="MS",
                       help="later than this is a miss: 16.7")  # fmt: skip
    group.add_argument("--realtime", action="store_true",
                       help="SCHED_FIFO, memory locked, no garbage collections, where the system "
                       "allows it")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--decode", action="store_true",
                       help="decode every packet afterwards, at the same pace, timed")  # fmt: skip
    group.add_argument("--verify", action="store_true",
                       help="compare every packet with the exam, not a sample")  # fmt: skip
    group.add_argument("--out", type=Path, metavar="DIR", help="write report.json there")
    group.add_argument("--plots", action="store_true", help="and pictures: latency.svg, ...")
    group.add_argument("--force", action="store_true", help="overwrite files in DIR")
    group.add_argument("--results", type=Path, metavar="FILE",
                       help="append the record to a file of JSON lines")  # fmt: skip
    group.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE",
                       help="write the record there; without FILE, or with -, it is the last line "
                       "on stdout")  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Measure, check, report."""
    plan = _plan(options)
    from edge_codec.bench.latency.folder import ReportFolder
    from edge_codec.bench.latency.report import make_record, text_lines
    from edge_codec.bench.latency.run import run as measure

    folder = None
    if options.out is not None:
        folder = ReportFolder(options.out, plots=options.plots, force=options.force)
    with _bar(plan, options, console) as bar:
        found = measure(
            plan, bar.update, lambda text: print(f"edge-codec: {text}", file=console.err)
        )
    record = make_record(found)
    if folder is not None:
        folder.write(found, record)
    if options.results is not None:
        _append(options.results, record)
    if options.json != STDOUT:
        print("\n".join(text_lines(record)), file=console.out)
    _print_json(options.json, record, console)
    return _judge(record, console)


def _judge(record: dict[str, Any], console: Console) -> ExitStatus:
    """Say what makes the figures worthless, if anything does."""
    checked, strays = record["verified"], record["strays"]
    for failure in checked["first_failures"]:
        print(f"edge-codec: {failure}", file=console.err)
    if strays:
        text = f"{strays} reports of frames that were never pushed; the figures are worth nothing"
        print(f"edge-codec: {text}", file=console.err)
    wrong = checked["failures"] or record["lost"] or strays or not checked["frames"]
    return ExitStatus.UNVERIFIED if wrong else ExitStatus.OK


def _bar(plan: Plan, options: argparse.Namespace, console: Console) -> tqdm[Any]:
    """Return the progress bar; it is moved by a thread that does nothing else."""
    return tqdm(
        total=plan.streams * (plan.frames + plan.warmup),
        desc="frames",
        unit="frame",
        file=console.err,
        disable=options.quiet or not console.err.isatty(),
        mininterval=0.5,
    )


def _plan(options: argparse.Namespace) -> Plan:
    import os

    from edge_codec.bench.latency.plan import Plan
    from edge_codec.runtime.live_options import parse_policy
    from edge_codec.runtime.options import parse_effort, parse_model

    model = parse_model(options.model)
    max_error = options.max_error
    if options.lossless or (max_error is None and model.name == "NONE"):
        max_error = 0
    return Plan(
        source=options.source,
        model=model,
        max_error=max_error,
        effort=parse_effort(options.effort),
        backend=options.backend,
        threads=options.threads,
        policy=parse_policy(options.policy),
        budget_ms=options.budget_ms,
        rate=0.0 if options.closed_loop else options.rate,
        frames=options.soak or options.frames,
        warmup=options.warmup,
        streams=options.streams,
        workers=options.workers or min(options.streams, os.cpu_count() or 1),
        deadline_ms=options.deadline_ms,
        sink=options.sink,
        verify_all=options.verify,
        decode=options.decode,
        realtime=options.realtime,
    )


def _append(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"benchmark": "latency", **record}) + "\n")


def _print_json(target: str | None, record: dict[str, Any], console: Console) -> None:
    if target == STDOUT:
        print(json.dumps(record), file=console.out, flush=True)
    elif target is not None:
        Path(target).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

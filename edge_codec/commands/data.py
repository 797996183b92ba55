"""`edge-codec data`: patient folders into shards to train from, and what is in such shards."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.coding_options import positive
from edge_codec.commands.report import add_output_options, progress, show
from edge_codec.errors import SourceError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.training.shards.index import Index, Plan

STEPS = {
    "convert": "an ACDC folder into webdataset shards",
    "check": "every byte of a folder of shards against its index",
    "list": "the patients of a folder of shards",
}

COLUMNS = ("patient", "group", "slices", "phases", "rows", "columns", "labeled_phases", "shard")


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the steps and their options."""
    steps = parser.add_subparsers(metavar="step", required=True)
    for name, summary in STEPS.items():
        step = steps.add_parser(name, help=summary, description=summary)
        # As of the command itself, so that it may stand behind the step's name, too.
        step.add_argument(
            "--verbose", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        if name == "convert":
            _add_convert(step)
        else:
            step.add_argument("folder", type=Path, metavar="SHARDS", help="folder of shards")
        add_output_options(step)
        step.set_defaults(step={"convert": _convert, "check": _check, "list": _list}[name])


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="folder that holds patientNNN/")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of shards to write")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--split",
        metavar="FILE.json:NAME",
        help="those of the source that a list in a JSON file names; all by default",
    )
    chosen.add_argument("--patients", metavar="A,B,...", help="these patients")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="take patients that lack Info.cfg, ED, ES, labels or the 4D file",
    )
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out patients that cannot be converted"
    )
    parser.add_argument(
        "--dataset", default="acdc", metavar="NAME", help="begins the names of shards, acdc"
    )
    parser.add_argument("--license", metavar="TEXT", help="of the images, kept in every sample")
    parser.add_argument(
        "--patients-per-shard", type=positive, default=8, metavar="N", help="8 unless given"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes; as many as there are processors by default. The shards are the same",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a run was stopped")
    again.add_argument("--force", action="store_true", help="replace shards that are there")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Run the chosen step."""
    status: ExitStatus = options.step(options, console)
    return status


def _convert(options: argparse.Namespace, console: Console) -> ExitStatus:
    from edge_codec.training.shards.convert import Conversion, convert, find_patients
    from edge_codec.training.shards.twins import find_twins

    plan, absent = _plan(options)
    conversion = Conversion(
        source=options.source,
        out=options.out,
        workers=options.workers,
        resume=options.resume,
        force=options.force,
        skip_broken=options.skip_broken,
    )
    start = time.perf_counter()
    converted = convert(plan, conversion, progress(options, console, "shard"))
    index = converted.index
    for skipped in index.skipped:
        print(f"edge-codec: left out {skipped.reason}", file=console.err)
    twins = find_twins(index, options.source, find_patients(options.source))
    for names in twins:
        found = " and ".join(names)
        print(f"edge-codec: {found} are the same cine; keep them in one split", file=console.err)
    fields = {
        **_summary(index),
        "not_in_source": absent,
        "same_cines": [" and ".join(names) for names in twins],
        "kept_shards": converted.reused,
        "workers": options.workers,
        "seconds": round(time.perf_counter() - start, 3),
    }
    show(fields, options, console)
    return ExitStatus.OK


def _plan(options: argparse.Namespace) -> tuple[Plan, int]:
    """Return the plan, and how many patients of the split the source does not have."""
    from edge_codec.training.shards.convert import LICENSES, NO_LICENSE, find_patients, read_split
    from edge_codec.training.shards.index import Plan

    patients, split, absent = find_patients(options.source), None, 0
    if options.split:
        split, wanted = read_split(options.split)
        absent = len(set(wanted) - set(patients))
        patients = tuple(name for name in patients if name in wanted)
        if not patients:
            raise SourceError(f"{options.source} has no patient of --split {options.split}")
    elif options.patients:
        chosen = sorted({name.strip() for name in options.patients.split(",") if name.strip()})
        missing = [name for name in chosen if name not in patients]
        if missing:
            raise SourceError(f"{options.source} has no patient {', '.join(missing)}")
        patients = tuple(chosen)
    plan = Plan(
        dataset=options.dataset,
        patients=patients,
        patients_per_shard=options.patients_per_shard,
        partial=options.partial,
        split=split,
        license=options.license or LICENSES.get(options.dataset, NO_LICENSE),
    )
    return plan, absent


def _check(options: argparse.Namespace, console: Console) -> ExitStatus:
    from edge_codec.training.shards.check import check_folder

    index, problems = check_folder(options.folder, progress(options, console, "shard"))
    if options.json:
        print(json.dumps({**_summary(index), "problems": problems}, indent=1), file=console.out)
    else:
        for problem in problems:
            print(problem, file=console.out)
        verdict = f"{len(problems)} problems" if problems else "all as the index says"
        print(f"{len(index.shards)} shards, {index.n_samples} samples: {verdict}", file=console.out)
    return ExitStatus.DAMAGED if problems else ExitStatus.OK


def _list(options: argparse.Namespace, console: Console) -> ExitStatus:
    from edge_codec.training.shards.index import read_index

    index = read_index(options.folder)
    rows = [
        dict(
            zip(
                COLUMNS,
                (
                    patient.name,
                    patient.group,
                    *patient.shape,
                    len(patient.label_phases),
                    shard.name,
                ),
                strict=True,
            )
        )
        for shard in index.shards
        for patient in shard.patients
    ]
    if options.json:
        print(json.dumps({**_summary(index), "rows": rows}, indent=1), file=console.out)
        return ExitStatus.OK
    for line in _table(rows):
        print(line, file=console.out)
    print(file=console.out)
    show(_summary(index), options, console)
    return ExitStatus.OK


def _summary(index: Index) -> dict[str, Any]:
    patients = list(index.patients)
    groups = Counter(patient.group or "unknown" for patient in patients)
    return {
        "dataset": index.plan.dataset,
        "split": index.plan.split,
        "complete": index.complete,
        "patients": len(patients),
        "groups": ", ".join(f"{name} {count}" for name, count in sorted(groups.items())),
        "samples": index.n_samples,
        "labeled_samples": sum(one.shape[0] for one in patients if one.label_phases),
        "frames": sum(one.shape[0] * one.shape[1] for one in patients),
        "shards": len(index.shards),
        "bytes": index.size,
        "left_out": len(index.skipped),
        "license": index.plan.license,
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay out rows in columns, numbers to the right."""
    cells = [[name.replace("_", " ") for name in COLUMNS]]
    cells += [["-" if row[name] is None else str(row[name]) for name in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if cell.isdigit() else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]

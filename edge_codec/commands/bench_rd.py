"""`edge-codec bench rd`: rate-distortion of this codec and its peers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.compress import positive
from edge_codec.commands.report import progress
from edge_codec.errors import SpecError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.bench.rd.case import Case
    from edge_codec.bench.rd.folder import ResultFolder
    from edge_codec.bench.rd.measure import Result
    from edge_codec.bench.rd.run import Plan
    from edge_codec.cli import Console

TIERS = ("lossless", "bounded", "lossy", "all")


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "volumes", type=Path, nargs="*", help=".nii, .nii.gz, .npy, .dcm or a DICOM folder"
    )
    parser.add_argument("--list", action="store_true", help="name the codecs and stop")
    parser.add_argument(
        "--codecs", metavar="A,B,...", help="only these, for example edge-codec,jpeg-ls"
    )
    parser.add_argument(
        "--tier", choices=TIERS, default="all", help="only settings with this promise"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N",
        help="threads for each codec that can use several, ours included; one by default",
    )  # fmt: skip
    parser.add_argument(
        "--phases", type=positive, metavar="N", help="quick look: the first N phases only"
    )
    parser.add_argument(
        "--slices", type=positive, default=1, metavar="K", help="quick look: every K-th slice only"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write records, tables and pictures there"
    )
    parser.add_argument(
        "--anchor", metavar="CODEC", help="whose curve bd_rate.md compares with: x265-low-delay"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files in DIR")
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines, each as soon as it is measured"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Measure and report."""
    if options.list:
        return _list(options, console)
    from edge_codec.bench.rd.measure import FAILED
    from edge_codec.bench.rd.run import machine_record, run

    plan = _plan(options)
    anchor = _anchor(options, plan)
    report = _Report(options, console, _folder(options, plan), anchor)
    report.keep("run", machine_record(plan))
    status = ExitStatus.OK
    for case, results in run(plan, progress(options, console, "trial")):
        found = report.case(case, results)
        if any(result.status == FAILED for result in found):
            status = ExitStatus.UNVERIFIED
    return status


class _Report:
    """Shows results, each as soon as it is known, and fills the folder after each case."""

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        folder: ResultFolder | None,
        anchor: str,
    ) -> None:
        self._json = options.json
        self._out = console.out
        self._folder = folder
        self._anchor = anchor
        self._records: list[dict[str, Any]] = []
        self._measured: list[tuple[Case, list[Result]]] = []

    def keep(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Keep a record, and print it where JSON lines are wanted."""
        self._records.append({"record": kind, **fields})
        if self._json:
            print(json.dumps(self._records[-1]), file=self._out, flush=True)

    def case(self, case: Case, results: Iterable[Result]) -> list[Result]:
        """Show the results of a case as they come, and return them."""
        from edge_codec.bench.rd.table import case_line, text_table

        self.keep("case", case.describe())
        found = []
        for result in results:
            self.keep("result", result.record())
            found.append(result)
        self._measured.append((case, found))
        if not self._json:
            print(case_line(case), text_table(found), sep="\n\n", end="\n\n", file=self._out)
        if self._folder is not None:
            self._fill(self._folder, case, found)
        return found

    def _fill(self, folder: ResultFolder, case: Case, found: list[Result]) -> None:
        from edge_codec.bench.rd.difference import differences, record

        for codec, item in differences(found, self._anchor).items():
            self.keep("difference", record(case.name, codec, self._anchor, item))
        folder.write_pictures(case, found)
        folder.write_records(self._records)
        folder.write_tables(self._measured, self._records[0])
        folder.write_differences(self._measured, self._anchor)


def _plan(options: argparse.Namespace) -> Plan:
    from edge_codec.bench.rd.codecs import choose
    from edge_codec.bench.rd.run import Plan
    from edge_codec.bench.rd.trial import Tier
    from edge_codec.io import open_source

    if not options.volumes:
        raise SpecError("no volume is given; for example: edge-codec bench rd heart.nii.gz")
    for path in options.volumes:
        open_source(path)  # a wrong name is better found before the first hour than after
    names = None
    if options.codecs is not None:
        names = [name.strip() for name in options.codecs.split(",")]
    tiers = tuple(Tier) if options.tier == "all" else (Tier(options.tier),)
    return Plan(
        tuple(options.volumes),
        tuple(choose(names)),
        tiers,
        options.threads,
        options.phases,
        options.slices,
    )


def _anchor(options: argparse.Namespace, plan: Plan) -> str:
    from edge_codec.bench.rd.codecs import ANCHOR

    chosen: str = options.anchor or ANCHOR
    if options.anchor and chosen not in {codec.name for codec in plan.codecs}:
        raise SpecError(f"anchor '{chosen}' is not among the codecs that are measured")
    return chosen


def _folder(options: argparse.Namespace, plan: Plan) -> ResultFolder | None:
    if options.out is None:
        return None
    from edge_codec.bench.extra import require
    from edge_codec.bench.rd.folder import ResultFolder

    require(("matplotlib", "scipy"), "bench rd --out")
    return ResultFolder(options.out, plan.names(), force=options.force)


def _list(options: argparse.Namespace, console: Console) -> ExitStatus:
    from edge_codec.bench.extra import installed
    from edge_codec.bench.rd.codecs import all_codecs

    for codec in all_codecs().values():
        missing = [name for name in codec.modules if not installed(name)]
        fields = {"codec": codec.name, "summary": codec.summary, "missing": missing}
        if options.json:
            print(json.dumps(fields), file=console.out)
            continue
        advice = "; missing, pip install 'edge-codec[bench]'" if missing else ""
        print(f"{codec.name:<24}{codec.summary}{advice}", file=console.out)
    return ExitStatus.OK

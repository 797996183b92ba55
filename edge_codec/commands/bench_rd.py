"""`edge-codec bench rd`: rate-distortion of this codec and its peers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.bench.extra import installed
from edge_codec.commands.coding_options import positive
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
        "--crop", choices=("heart",),
        help="code the box around the heart only, the same one in every slice and for every codec",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write records, tables and pictures there"
    )
    parser.add_argument(
        "--anchor", metavar="CODEC", help="whose curve bd_rate.md compares with: x265-low-delay"
    )
    parser.add_argument(
        "--ranges", type=ranges, metavar="A-B,...", default=None,
        help="ranges of PSNR in dB to compare over, besides all of it: 34-42,42-50",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite files in DIR")
    parser.add_argument(
        "--resume", action="store_true",
        help="keep what DIR holds and measure only what it lacks",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines, each as soon as it is measured"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def ranges(text: str) -> tuple[tuple[float, float], ...]:
    """Read ranges such as '34-42,42-50'.

    Raises
    ------
    ValueError
        If it names none, or one that does not rise.
    """
    found = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found.append((float(low), float(high)))
        if found[-1][0] >= found[-1][1]:
            raise ValueError(f"{part} does not rise")
    return tuple(found)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Measure and report."""
    if options.list:
        return list_codecs(options, console)
    from edge_codec.bench.rd.measure import FAILED
    from edge_codec.bench.rd.run import machine_record, run

    plan = _plan(options)
    anchor = _anchor(options, plan)
    report = _Report(options, console, _folder(options, plan), anchor)
    report.start(machine_record(plan))
    status = ExitStatus.OK
    for case, results in run(plan, progress(options, console, "trial"), report.records):
        found = report.case(case, results)
        if any(result.status == FAILED for result in found):
            status = ExitStatus.UNVERIFIED
    return status


class _Report:
    """Shows results, each as soon as it is known, and fills the folder."""

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        folder: ResultFolder | None,
        anchor: str,
    ) -> None:
        from edge_codec.bench.rd.difference import RANGES
        from edge_codec.bench.rd.records import Records

        self._json = options.json
        self._out = console.out
        self._folder = folder
        self._anchor = anchor
        self._ranges = options.ranges or RANGES
        self.records = Records() if folder is None else folder.records

    def start(self, machine: Mapping[str, Any]) -> None:
        """Note what all results of this run depend on."""
        self.records.start(machine)
        self._show("run", machine)

    def case(self, case: Case, results: Iterable[Result]) -> list[Result]:
        """Show the results of a case as they come, and return them with those known before."""
        from edge_codec.bench.rd.table import case_line, text_table

        fields = case.describe()
        self.records.add_case(fields)
        self._show("case", fields)
        for result in results:
            self._show("result", self.records.add_result(result))
            if self._folder is not None:
                self._folder.write_records()  # a run that is killed goes on from here
        found = self.records.results(case.name)
        if not self._json:
            print(case_line(fields), text_table(found), sep="\n\n", end="\n\n", file=self._out)
        self._compare(fields, found)
        return found

    def _compare(self, case: Mapping[str, Any], results: list[Result]) -> None:
        """Show the differences of a case, and bring the folder up to date."""
        if not installed("scipy"):
            return
        from edge_codec.bench.rd.difference import differences, markdown

        found = differences(results, self._anchor, self._ranges)
        for item in found:
            self._show("difference", item.record(case["case"], self._anchor))
        if found and not self._json:
            heading = f"BD-rate against {self._anchor}"
            print(heading, markdown(found, self._anchor), sep="\n\n", end="\n\n", file=self._out)
        if self._folder is not None:
            self._folder.write_pictures(case, self._anchor)
            self._folder.write_tables()
            self._folder.write_differences(self._anchor, self._ranges)
            self._folder.write_records()

    def _show(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a record where JSON lines are wanted."""
        if self._json:
            print(json.dumps({"record": kind, **fields}), file=self._out, flush=True)


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
        options.crop is not None,
    )


def _anchor(options: argparse.Namespace, plan: Plan) -> str:
    from edge_codec.bench.rd.codecs import ANCHOR

    chosen: str = options.anchor or ANCHOR
    if options.anchor and chosen not in {codec.name for codec in plan.codecs}:
        raise SpecError(f"anchor '{chosen}' is not among the codecs that are measured")
    return chosen


def _folder(options: argparse.Namespace, plan: Plan) -> ResultFolder | None:
    if options.out is None:
        if options.resume:
            raise SpecError("--resume goes on with a folder; name it with --out")
        return None
    from edge_codec.bench.extra import require
    from edge_codec.bench.rd.folder import ResultFolder

    require(("matplotlib", "scipy"), "bench rd --out")
    return ResultFolder(options.out, plan.names(), force=options.force, resume=options.resume)


def list_codecs(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Name the codecs, and what their libraries lack."""
    from edge_codec.bench.rd.codecs import all_codecs

    codecs = all_codecs()
    width = max(map(len, codecs)) + 2
    for codec in codecs.values():
        missing = [name for name in codec.modules if not installed(name)]
        fields = {"codec": codec.name, "summary": codec.summary, "missing": missing}
        if options.json:
            print(json.dumps(fields), file=console.out)
            continue
        advice = "; missing, pip install 'edge-codec[bench]'" if missing else ""
        print(f"{codec.name:<{width}}{codec.summary}{advice}", file=console.out)
    return ExitStatus.OK

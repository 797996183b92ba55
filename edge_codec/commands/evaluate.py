"""`edge-codec evaluate`: clinical measures of decoded against original frames."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.bench.extra import installed
from edge_codec.commands.coding_options import MODELS, positive
from edge_codec.commands.report import progress
from edge_codec.errors import EngineError, SpecError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.bench.evaluate.exam import Exam
    from edge_codec.bench.evaluate.folder import EvaluationFolder
    from edge_codec.bench.evaluate.judge import Judgement
    from edge_codec.bench.evaluate.run import Plan
    from edge_codec.bench.rd.trial import Codec
    from edge_codec.cli import Console


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "volumes", type=Path, nargs="*", help=".nii, .nii.gz, .npy, .dcm or a DICOM folder"
    )
    parser.add_argument("--list", action="store_true", help="name the codecs and stop")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--codecs", metavar="A,B,...", help="for example edge-codec-dwt-cal,x265-low-delay"
    )
    what.add_argument("--model", metavar=MODELS, help="our codec with this base layer")
    what.add_argument(
        "--decoded", type=Path, action="append", metavar="FILE",
        help="a volume that was decoded elsewhere, instead of a codec; once for each volume",
    )  # fmt: skip
    parser.add_argument(
        "--ratio", type=numbers, default=(), metavar="R,...",
        help="the settings whose compression ratios to 16 bit are nearest to these: 100,500",
    )  # fmt: skip
    parser.add_argument(
        "--settings", metavar="A,B,...", help="settings by name: 'quality 30,crf 24'"
    )
    parser.add_argument(
        "--quality", type=integers, default=(), metavar="Q,...", help="qualities of our codecs"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N",
        help="threads for the network, and for each codec that can use several; one by default",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write records, tables, pictures, a report there"
    )
    parser.add_argument("--no-plots", action="store_true", help="no pictures, no Matplotlib")
    parser.add_argument("--force", action="store_true", help="overwrite files in DIR")
    parser.add_argument(
        "--resume", action="store_true", help="keep what DIR holds and measure what it lacks"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines, each as soon as it is measured"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas, for argparse."""
    return tuple(float(part) for part in text.split(","))


def integers(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas, for argparse."""
    return tuple(int(part) for part in text.split(","))


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Evaluate and report."""
    if options.list:
        from edge_codec.commands.bench_rd import list_codecs

        return list_codecs(options, console)
    from edge_codec.bench.evaluate import network
    from edge_codec.bench.evaluate.run import run, run_record
    from edge_codec.bench.rd.measure import FAILED

    plan = _plan(options)
    report = _Report(options, console, _folder(options))
    segmenting = network.load_network(options.threads)
    report.start(run_record(plan, segmenting))
    status = ExitStatus.OK
    for exam, judgements in run(plan, segmenting, progress(options, console, "trial"),
                                report.records):  # fmt: skip
        if any(found["status"] == FAILED for found in report.case(exam, judgements)):
            status = ExitStatus.UNVERIFIED
    report.end()
    return status


class _Report:
    """Shows results, each as soon as it is known, and fills the folder."""

    def __init__(
        self, options: argparse.Namespace, console: Console, folder: EvaluationFolder | None
    ) -> None:
        from edge_codec.bench.evaluate.records import Records

        self._json = options.json
        self._out = console.out
        self._folder = folder
        self.records = Records() if folder is None else folder.records

    def start(self, fields: Mapping[str, Any]) -> None:
        """Note what all results of this run depend on."""
        self.records.start(fields)
        self._show("run", fields)

    def case(self, exam: Exam, judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
        """Show the results of an exam as they come, and return them with those known before."""
        from edge_codec.bench.evaluate.table import case_table, exam_line, function_table
        from edge_codec.bench.rd.table import case_line

        fields = exam.record()
        self.records.add_case(fields)
        self._show("case", fields)
        for judgement in judgements:
            self._show("result", self.records.add_result(judgement.record))
            if self._folder is not None:
                self._folder.write_errors(exam, judgement)
                self._folder.write_records()
        found = self.records.results(exam.case.name)
        if not self._json:
            tables = (case_table(found).text(), function_table(fields, found).text())
            print(case_line(fields), exam_line(fields), *tables, sep="\n\n", end="\n\n",
                  file=self._out)  # fmt: skip
        return found

    def end(self) -> None:
        """Show what all exams together say, and bring the folder up to date."""
        from edge_codec.bench.evaluate.pages import NOTICE
        from edge_codec.bench.evaluate.run import DEFINITIONS
        from edge_codec.bench.evaluate.table import agreement_table, mean_table

        for row in self.records.gathered():
            self._show(row["record"], {name: row[name] for name in row if name != "record"})
        if self._folder is not None:
            self._folder.write_records()
            self._folder.write_summary()
        if not self._json:
            cases, results = self.records.cases, self.records.results()
            tables = (mean_table(results).text(), agreement_table(cases, results).text())
            print(*tables, DEFINITIONS, NOTICE, sep="\n\n", file=self._out)

    def _show(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a record where JSON lines are wanted."""
        if self._json:
            print(json.dumps({"record": kind, **fields}), file=self._out, flush=True)


def _plan(options: argparse.Namespace) -> Plan:
    from edge_codec.bench.evaluate.choice import Wanted, choices
    from edge_codec.bench.evaluate.run import Plan
    from edge_codec.io import open_source

    if not options.volumes:
        raise SpecError(
            "no volume is given; for example: edge-codec evaluate heart.nii.gz --model dwt-cal "
            "--ratio 100,500"
        )
    files = tuple(options.decoded or ())
    if files and len(files) != len(options.volumes):
        raise SpecError(
            f"{len(files)} decoded volumes for {len(options.volumes)} originals; give --decoded "
            "once for each, in the same order"
        )
    settings = tuple(name.strip() for name in (options.settings or "").split(",") if name.strip())
    if files and (settings or options.ratio or options.quality):
        raise SpecError(
            "a decoded volume has no settings; leave out --ratio, --settings, --quality"
        )
    for path in (*options.volumes, *files):
        open_source(path)  # a wrong name is better found before the first hour than after
    wanted = Wanted(tuple(options.ratio), settings, tuple(options.quality))
    chosen = () if files else tuple(choices(_codecs(options), wanted, options.threads))
    return Plan(tuple(options.volumes), chosen, files, options.threads)


def _codecs(options: argparse.Namespace) -> list[Codec]:
    from edge_codec.bench.rd.codecs import choose
    from edge_codec.bench.rd.ours import NAME
    from edge_codec.runtime.options import parse_model
    from edge_codec.spec import ModelId

    if options.model is not None:
        model = parse_model(options.model)
        return choose([NAME if model is ModelId.NONE else f"{NAME}-{model.label}"])
    if options.codecs is None:
        raise SpecError(
            "no codec is given; use --codecs A,B,..., --model or --decoded ('edge-codec evaluate "
            "--list' names the codecs)"
        )
    return choose([name.strip() for name in options.codecs.split(",")])


def _folder(options: argparse.Namespace) -> EvaluationFolder | None:
    if options.out is None:
        if options.resume:
            raise SpecError("--resume goes on with a folder; name it with --out")
        return None
    from edge_codec.bench.evaluate.folder import EvaluationFolder

    if not options.no_plots and not installed("matplotlib"):
        raise EngineError(
            "pictures need matplotlib: pip install 'edge-codec[plot]', or leave them out with "
            "--no-plots"
        )
    return EvaluationFolder(
        options.out, pictures=not options.no_plots, force=options.force, resume=options.resume
    )

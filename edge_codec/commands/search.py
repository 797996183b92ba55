"""`edge-codec search`: the frames, slices or exams of a folder that are most like a given one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.report import add_output_options, progress
from edge_codec.errors import SourceError, SpecError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.retrieval.descriptor import ExamDescriptors
    from edge_codec.retrieval.disease_head import GroupGuess
    from edge_codec.retrieval.index_file import Entry
    from edge_codec.retrieval.ranking import Match
    from edge_codec.retrieval.stream_index import FolderIndex
    from edge_codec.retrieval.weights import SearchModel

NOTICE = "research only, not a diagnosis"


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What was found for one query."""

    query: Path
    group: GroupGuess
    matches: list[Match]


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "queries", type=Path, nargs="+", metavar="QUERY", help="titok streams to find the like of"
    )
    parser.add_argument(
        "folder", type=Path, help="folder of titok streams to search, with all below it"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--exam", action="store_true", help="find exams like the query (the default)")
    what.add_argument(
        "--slice", type=int, metavar="S", help="find slices like slice S of the query, from 0"
    )
    what.add_argument(
        "--frame", metavar="S,P",
        help="find frames like slice S, phase P of the query, from 0: the best of each slice",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=int, default=10, metavar="K", help="how many to show (default 10)"
    )
    parser.add_argument(
        "--group", action="store_true",
        help=f"also name the disease group that exams are most like ({NOTICE})",
    )  # fmt: skip
    parser.add_argument(
        "--no-index", action="store_true",
        help="read every stream again and keep no index in the folder",
    )  # fmt: skip
    add_output_options(parser)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Describe the folder and the queries, rank, and print."""
    from edge_codec.retrieval.stream_index import index_folder
    from edge_codec.retrieval.weights import load_search_model

    if options.top < 1:
        raise SpecError(f"--top is {options.top}; use 1 or more")
    place = _frame_place(options.frame)
    model = load_search_model()
    wrap = progress(options, console, "stream")
    index = index_folder(options.folder, model, wrap, keep=not options.no_index)
    if all(entry.exam is None for entry in index.entries.values()):
        first = "".join(f"; {name}: {why}" for name, why in _skipped(index.entries)[:1])
        raise SourceError(
            f"{options.folder} holds no stream that can be searched ({len(index.entries)} .ecd "
            f"files{first}); make some with 'edge-codec compress --model titok'"
        )
    answers = [_answer(query, place, options, index, model) for query in options.queries]
    if options.json:
        print(json.dumps(_fields(answers, options, index), indent=1), file=console.out)
    else:
        _print(answers, options, index, console)
    return ExitStatus.OK


def _frame_place(text: str | None) -> tuple[int, int] | None:
    """Read 'slice,phase'."""
    if text is None:
        return None
    try:
        slice_index, phase_index = map(int, text.split(","))
    except ValueError as error:
        raise SpecError(
            f"--frame is '{text}'; give slice and phase, counted from 0, like 3,0"
        ) from error
    return slice_index, phase_index


def _answer(
    query: Path,
    place: tuple[int, int] | None,
    options: argparse.Namespace,
    index: FolderIndex,
    model: SearchModel,
) -> _Answer:
    """Find what is most like a query; its own stream is left out."""
    from edge_codec.retrieval.exam_tokens import read_exam
    from edge_codec.retrieval.ranking import (
        exams_like,
        frame_of,
        frames_like,
        slice_of,
        slices_like,
    )

    with query.open("rb") as file:
        exam = read_exam(file)
    known = model.listener.listen(exam)
    described = model.describer.describe(known)
    gallery = _others(query, options.folder, index)
    if place is not None:
        matches = frames_like(frame_of(described, *place), gallery, options.top)
    elif options.slice is not None:
        matches = slices_like(slice_of(described, options.slice), gallery, options.top)
    else:
        matches = exams_like(described, gallery, options.top)
    return _Answer(query, model.head.guess(exam, known), matches)


def _others(query: Path, folder: Path, index: FolderIndex) -> dict[str, ExamDescriptors]:
    """Return the streams to search: all but the query itself."""
    itself = query.resolve()
    return {
        name: entry.exam
        for name, entry in index.entries.items()
        if entry.exam is not None and (folder / name).resolve() != itself
    }


def _fields(
    answers: list[_Answer], options: argparse.Namespace, index: FolderIndex
) -> dict[str, Any]:
    """Return all that was found, for JSON."""
    return {
        "folder": str(options.folder),
        "streams": sum(entry.exam is not None for entry in index.entries.values()),
        "streams_read": index.read,
        "skipped": [{"stream": name, "why": why} for name, why in _skipped(index.entries)],
        "queries": [
            {
                "query": str(answer.query),
                **({"group": _group_fields(answer.group)} if options.group else {}),
                "matches": [_match_fields(match, options, index) for match in answer.matches],
            }
            for answer in answers
        ],
    }


def _group_fields(guess: GroupGuess) -> dict[str, Any]:
    from edge_codec.retrieval.disease_head import GROUPS

    named = not guess.unusual
    return {
        "group": guess.group if named else None,
        "confidence": guess.confidence if named else None,
        "probabilities": dict(zip(GROUPS, guess.probabilities, strict=True)),
        "unusual": guess.unusual,
        "told_group": guess.told_group or None,
        "note": NOTICE,
    }


def _match_fields(match: Match, options: argparse.Namespace, index: FolderIndex) -> dict[str, Any]:
    fields: dict[str, Any] = {"stream": match.stream, "similarity": match.similarity}
    if match.slice_index is not None:
        fields["slice"] = match.slice_index
    if match.phase_index is not None:
        fields["phase"] = match.phase_index
    group = index.entries[match.stream].group
    if options.group and group is not None:
        fields["group"] = _group_fields(group)
    return fields


def _skipped(entries: Mapping[str, Entry]) -> list[tuple[str, str]]:
    return [(name, entry.problem) for name, entry in entries.items() if entry.exam is None]


def _print(
    answers: list[_Answer], options: argparse.Namespace, index: FolderIndex, console: Console
) -> None:
    """Print a table for each query, and what was skipped."""
    for answer in answers:
        place = ""
        if options.slice is not None:
            place = f", slice {options.slice}"
        elif options.frame is not None:
            place = ", slice {}, phase {}".format(*options.frame.split(","))
        print(f"like {answer.query}{place}", file=console.out)
        if options.group:
            print(f"  group: {_group_text(answer.group)}; {NOTICE}", file=console.out)
        for line in _table(answer.matches, options, index):
            print(f"  {line}", file=console.out)
    for name, why in _skipped(index.entries):
        print(f"edge-codec: skipped {name}: {' '.join(why.split())}", file=console.err)


def _table(matches: list[Match], options: argparse.Namespace, index: FolderIndex) -> list[str]:
    """Return the lines of a table."""
    head = ["rank", "similarity", "slice", "phase", "group", "stream"]
    rows = [head]
    for rank, match in enumerate(matches, 1):
        group = index.entries[match.stream].group
        rows.append([
            str(rank), f"{match.similarity:.3f}",
            "" if match.slice_index is None else str(match.slice_index),
            "" if match.phase_index is None else str(match.phase_index),
            _short_group(group) if options.group and group is not None else "",
            match.stream,
        ])  # fmt: skip
    shown = [n for n in range(len(head)) if len(rows) == 1 or any(row[n] for row in rows[1:])]
    widths = {n: max(len(row[n]) for row in rows) for n in shown}
    return ["  ".join(row[n].ljust(widths[n]) for n in shown).rstrip() for row in rows]


def _group_text(guess: GroupGuess) -> str:
    """Say a guess in words."""
    from edge_codec.retrieval.disease_head import GROUPS

    if guess.unusual:
        return "none named: the exam is unlike all that the head was trained on"
    ranked = sorted(zip(guess.probabilities, GROUPS, strict=True), key=lambda pair: -pair[0])
    text = ", ".join(f"{name} {100 * probability:.0f} %" for probability, name in ranked)
    if guess.told_group:
        text += f" (not independent: the encoder was told {guess.told_group})"
    return text


def _short_group(guess: GroupGuess) -> str:
    return "unusual" if guess.unusual else f"{guess.group} {100 * guess.confidence:.0f} %"

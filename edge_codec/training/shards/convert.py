"""A folder of patients into a folder of shards: in parallel, and going on after a stop.

After every shard the index is written anew, marked as incomplete until the last. A run that was
killed leaves whole shards and that index; the next one, told to resume, keeps a shard if its bytes
and those of its sources have the check sums that the index states, and makes the others. The
result does not depend on the number of processes, nor on how often the conversion was stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_codec.errors import SourceError
from edge_codec.training.shards.build import (
    ShardOutcome,
    ShardTask,
    build_shard,
    leave_interrupts_to_parent,
)
from edge_codec.training.shards.index import (
    FILE_NAME,
    Index,
    Plan,
    Skipped,
    read_index,
    write_index,
)

LICENSES = {
    "acdc": "CC BY-NC-SA 4.0, non-commercial research; cite Bernard et al., IEEE TMI 2018",
    "sunnybrook": "CC0; cite Radau et al., MIDAS Journal 2009",
}
NO_LICENSE = "not stated: ask where the images come from"

DATASET = re.compile(r"[a-z0-9_]{1,40}")
_LISTED = 10  # broken patients that an error names


@dataclass(frozen=True, slots=True)
class Conversion:
    """How to convert.

    Attributes
    ----------
    source, out : Path
    workers : int
        Processes.
    resume : bool
        Whether to go on where an earlier run with the same plan stopped.
    force : bool
        Whether shards that are there may be replaced.
    skip_broken : bool
        Whether patients that cannot be read are left out and reported.
    """

    source: Path
    out: Path
    workers: int = 1
    resume: bool = False
    force: bool = False
    skip_broken: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """What was made.

    Attributes
    ----------
    index : Index
    reused : int
        Shards of an earlier run among them.
    """

    index: Index
    reused: int


def find_patients(source: Path) -> tuple[str, ...]:
    """Return the names of all folders of a source, in order.

    Raises
    ------
    SourceError
        If there is none that looks like a patient's.
    """
    if not source.is_dir():
        raise SourceError(f"{source} is no folder; give the folder that holds patientNNN/")
    folders = sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != ".")
    if any(_holds_patient(folder) for folder in folders):
        return tuple(folder.name for folder in folders)
    deeper = [
        folder
        for folder in folders
        if any(_holds_patient(path) for path in folder.iterdir() if path.is_dir())
    ]
    hint = f"did you mean {' or '.join(map(str, deeper))}?" if deeper else "is it an ACDC folder?"
    raise SourceError(f"{source} holds no patientNNN/ with NIfTI files; {hint}")


def read_split(argument: str) -> tuple[str, tuple[str, ...]]:
    """Return name and patients of a split, given as `FILE.json:NAME`.

    Raises
    ------
    SourceError
        If the file has no such list.
    """
    path, separator, name = argument.rpartition(":")
    if not separator or not path:
        raise SourceError(f"--split {argument} names no list; expected FILE.json:NAME")
    try:
        splits = json.loads(Path(path).read_text(encoding="utf-8"))
        patients = splits[name]
        if not patients or any(not isinstance(patient, str) for patient in patients):
            raise TypeError("expected a list of names")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(
            f"--split {argument} cannot be read ({type(error).__name__}: {error}); expected a JSON "
            'file such as {"train": ["patient001"]}'
        ) from error
    return name, tuple(sorted(set(patients)))


def convert(
    plan: Plan, conversion: Conversion, progress: Callable[..., Iterable[Any]]
) -> Converted:
    """Make shards.

    Parameters
    ----------
    plan : Plan
    conversion : Conversion
    progress : callable
        Wraps an iterable, given it, its length and a name.

    Raises
    ------
    SourceError
        If the plan is impossible, the target is in the way, or patients are broken and not to be
        skipped; whole shards stay then, for `resume`.
    """
    _check_plan(plan)
    tasks = _prepare(plan, conversion)
    # What is known stays in the index until it is looked at, should this run be stopped, too.
    outcomes = {task.number: ShardOutcome(task.number, task.known) for task in tasks}
    steps = _build(tasks, min(conversion.workers, len(tasks)))
    for outcome in progress(steps, len(tasks), "convert"):
        outcomes[outcome.number] = outcome
        write_index(conversion.out, _index(plan, outcomes, complete=False))
    index = _index(plan, outcomes, complete=True)
    if not index.shards:
        (conversion.out / FILE_NAME).unlink()  # nothing to go on with
    if not index.shards or (index.skipped and not conversion.skip_broken):
        raise SourceError(_broken(index.skipped, len(plan.patients)))
    write_index(conversion.out, index)
    return Converted(index, sum(outcome.reused for outcome in outcomes.values()))


def _check_plan(plan: Plan) -> None:
    if not DATASET.fullmatch(plan.dataset):
        raise SourceError(f"'{plan.dataset}' cannot begin file names; use a-z, 0-9 and _")
    if not plan.patients:
        raise SourceError("no patient is chosen; check the source, the split and the list")


def _prepare(plan: Plan, conversion: Conversion) -> list[ShardTask]:
    """Clear or keep what is in the target, and say what is to be done."""
    out = conversion.out
    known = {}
    if out.exists() and not out.is_dir():
        raise SourceError(f"{out} is no folder; give another name")
    if out.is_dir() and any(out.iterdir()):
        if conversion.resume:
            known = _known_shards(plan, out)
        elif not conversion.force:
            raise SourceError(
                f"{out} exists and is not empty; use --resume to go on or --force to start again"
            )
        _clear(out, keep={shard.name for shard in known.values()})
    out.mkdir(parents=True, exist_ok=True)
    # Before the first shard, so that a run killed now can be told from a foreign folder.
    first = Index(plan, False, tuple(known[number] for number in sorted(known)), ())
    write_index(out, first)
    return [
        ShardTask(
            plan, number, conversion.source, out, conversion.skip_broken, known.get(number)
        )
        for number in range(plan.n_shards)
    ]  # fmt: skip


def _known_shards(plan: Plan, out: Path) -> dict[int, Any]:
    index = read_index(out)
    if index.plan != plan:
        before, now = asdict(index.plan), asdict(plan)
        changed = [name.replace("_", " ") for name in now if before[name] != now[name]]
        raise SourceError(
            f"{out} was begun with other {', '.join(changed)}; give the same options, "
            "or start again with --force"
        )
    numbers = {plan.shard_name(number): number for number in range(plan.n_shards)}
    return {numbers[shard.name]: shard for shard in index.shards if shard.name in numbers}


def _clear(out: Path, keep: set[str]) -> None:
    """Delete what conversions leave, but nothing else."""
    ours = re.compile(r"[a-z0-9_]+-\d{6}\.tar|index\.json")
    part = re.compile(rf"\.({ours.pattern})\.[0-9a-f]+\.part")
    entries = list(out.iterdir())
    if not (out / FILE_NAME).is_file():  # it is there before the first shard, and stays
        raise SourceError(
            f"{out} has no {FILE_NAME}, so that what it holds is of no conversion; choose another "
            "folder or empty it yourself"
        )
    for entry in entries:
        if not (ours.fullmatch(entry.name) or part.fullmatch(entry.name)):
            raise SourceError(
                f"{out} holds '{entry.name}', which is no shard; choose another folder or remove "
                "it yourself"
            )
    for entry in entries:
        if entry.name not in {*keep, FILE_NAME}:
            entry.unlink()


def _build(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardOutcome]:
    """Yield outcomes as they come."""
    if workers == 1:
        yield from map(build_shard, tasks)
        return
    # Forks of a process that has threads may hang, so that processes start from nothing.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), leave_interrupts_to_parent
    )
    try:
        for future in as_completed([pool.submit(build_shard, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise SourceError(
            "a worker was ended from outside, perhaps for want of memory; go on with --resume and "
            "fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _index(plan: Plan, outcomes: dict[int, ShardOutcome], *, complete: bool) -> Index:
    shards = tuple(one.record for one in outcomes.values() if one.record is not None)
    skipped = tuple(skipped for one in outcomes.values() for skipped in one.skipped)
    return Index(plan, complete, shards, skipped)


def _broken(skipped: Sequence[Skipped], total: int) -> str:
    reasons = [one.reason for one in skipped[:_LISTED]]
    if len(skipped) > _LISTED:
        reasons.append(f"and {len(skipped) - _LISTED} more")
    return (
        f"{len(skipped)} of {total} patients cannot be converted: {'; '.join(reasons)}. Correct "
        "them and go on with --resume, or leave them out with --resume --skip-broken"
    )


def _holds_patient(folder: Path) -> bool:
    return any(folder.glob(f"{folder.name}_*.nii*")) or (folder / "Info.cfg").is_file()

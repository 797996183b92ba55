"""Every codec on every exam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_codec.bench.evaluate.choice import Choice, file_choice
from edge_codec.bench.evaluate.exam import Exam, load_exam
from edge_codec.bench.evaluate.judge import Judgement, judge
from edge_codec.bench.evaluate.network import Network
from edge_codec.bench.evaluate.records import Records
from edge_codec.bench.machine import describe_machine
from edge_codec.bench.rd.case import case_name
from edge_codec.bench.rd.codecs import PACKAGES, library_versions

# Wraps an iterable: (items, number, what is done) -> the same items.
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate.

    Attributes
    ----------
    paths : tuple of Path
        The exams.
    choices : tuple of Choice
        Codecs and settings.
    files : tuple of Path
        Volumes that were decoded elsewhere, one for each exam; or none.
    threads : int
        Threads for each codec that can use several.
    """

    paths: tuple[Path, ...]
    choices: tuple[Choice, ...]
    files: tuple[Path, ...] = ()
    threads: int = 1

    def names(self) -> list[str]:
        """Return a name for each exam; equal ones get numbers."""
        plain = [case_name(path) for path in self.paths]
        return [
            name if plain.count(name) == 1 else f"{name}-{plain[: place + 1].count(name)}"
            for place, name in enumerate(plain)
        ]

    def choices_of(self, place: int) -> list[Choice]:
        """Return what to try on an exam."""
        files = [file_choice(self.files[place])] if self.files else []
        return [*self.choices, *files]


def run(
    plan: Plan, network: Network, progress: Progress, records: Records
) -> Iterator[tuple[Exam, Iterator[Judgement]]]:
    """Read one exam after the other, and give its judgements as they are made.

    Parameters
    ----------
    plan : Plan
    network : Network
    progress : callable
        Wraps what is to be tried on each exam.
    records : Records
        What these hold is not measured again; an exam without anything to do is left out.

    Raises
    ------
    SourceError
        If an exam or its labels cannot be read or give no figures.
    """
    for place, (name, path) in enumerate(zip(plan.names(), plan.paths, strict=True)):
        todo = [
            choice
            for choice in plan.choices_of(place)
            if not records.has(name, choice.codec.name, choice.selection, plan.threads)
        ]
        if not todo:
            continue
        exam = load_exam(path, name, network.segment)
        wrapped = progress(todo, len(todo), name)
        yield exam, (judge(exam, choice, network.segment, plan.threads) for choice in wrapped)


def run_record(plan: Plan, network: Network) -> dict[str, Any]:
    """Return what all results of a run depend on."""
    return {
        "threads": plan.threads,
        "network": network.name,
        "network_sha256": network.sha256,
        **describe_machine(PACKAGES),
        "libraries": library_versions(),
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "definitions": DEFINITIONS,
    }


DEFINITIONS = (
    "Original and decoded frames are labeled by the same network, each exam with its own window; "
    "phases of end-diastole and end-systole are the same for both. Dice: network on decoded "
    "against network on original frames, each structure in 3-D, mean over all phases. HD95: 95th "
    "percentile of surface distances in 3-D in mm, mean of both phases. Drop: points (0.01) of "
    "Dice against the expert that decoding costs the network, mean of both phases; positive is "
    "worse. EF diff (points) and EDV diff (ml): left ventricle, network on decoded minus network "
    "on original. LV kept: 1 - sum |v' - v| / sum v of the left ventricle's volume over the "
    "phases. Motion: mean temporal standard deviation of decoded over that of original voxels, "
    "everywhere and in the heart's region. Ratio: 16 bits a voxel over every bit that the decoder "
    "gets. PSNR: peak = maximum of the exam, over all voxels, and in the heart's region. "
    "Agreement: bias, 1.96 SD limits and 95 % confidence intervals (Bland and Altman 1999)."
)

"""Every codec on every case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_codec.bench.machine import describe_machine
from edge_codec.bench.rd.case import CROP_MARK, Case, case_name, load_case
from edge_codec.bench.rd.codecs import PACKAGES, library_versions, trials
from edge_codec.bench.rd.measure import Result, measure
from edge_codec.bench.rd.records import Records
from edge_codec.bench.rd.trial import Codec, Tier

# Wraps an iterable: (items, number, what is done) -> the same items.
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes
    ----------
    paths : tuple of Path
        The exams.
    codecs : tuple of Codec
        Who is measured.
    tiers : tuple of Tier
        Which settings.
    threads : int
        Threads for each codec that can use several.
    phases : int or None
        Code the first so many phases only.
    slice_step : int
        Code every so many slices only.
    crop : bool
        Code the box around the heart only.
    """

    paths: tuple[Path, ...]
    codecs: tuple[Codec, ...]
    tiers: tuple[Tier, ...]
    threads: int = 1
    phases: int | None = None
    slice_step: int = 1
    crop: bool = False

    def names(self) -> list[str]:
        """Return a name for each exam; equal ones get numbers."""
        plain = [case_name(path) + (CROP_MARK if self.crop else "") for path in self.paths]
        return [
            name if plain.count(name) == 1 else f"{name}-{plain[: place + 1].count(name)}"
            for place, name in enumerate(plain)
        ]


def run(
    plan: Plan, progress: Progress, records: Records | None = None
) -> Iterator[tuple[Case, Iterator[Result]]]:
    """Read one exam after the other, and give its results as they are measured.

    Parameters
    ----------
    plan : Plan
    progress : callable
        Wraps what is to be measured of each exam.
    records : Records, optional
        What these hold is not measured again.

    Raises
    ------
    SourceError
        If an exam cannot be read or gives no figures (`load_case`).
    """
    for name, path in zip(plan.names(), plan.paths, strict=True):
        case = load_case(
            path, name=name, phases=plan.phases, slice_step=plan.slice_step, crop=plan.crop
        )
        known = Records() if records is None else records
        todo = [
            (codec, trial)
            for codec, trial in trials(plan.codecs, plan.tiers, plan.threads)
            if not known.has(name, codec.name, trial.setting, trial.threads)
        ]
        wrapped = progress(todo, len(todo), name)
        yield case, (measure(case, codec, trial) for codec, trial in wrapped)


def machine_record(plan: Plan) -> dict[str, Any]:
    """Return what all results of a run depend on."""
    return {
        "threads": plan.threads,
        "tiers": [tier.value for tier in plan.tiers],
        **describe_machine(PACKAGES),
        "libraries": library_versions(),
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "definitions": DEFINITIONS,
    }


DEFINITIONS = (
    "bpp: every byte that the decoder gets, over the voxels; ours with the source's headers, peers "
    "without any. PSNR: peak = maximum of the exam, mean squared error over all voxels; p99.5: "
    "peak = 99.5th percentile; moving: over the 10 % of each slice's pixels with the largest "
    "standard deviation over the phases; heart: over the expert's labels and 3 pixels around, or "
    "without labels over the connected part that moves most. SSIM: per frame, 7x7, range = maximum "
    "of the exam, averaged. ms: median per frame of the codec call alone; other_work: processors "
    "that were busy with something else meanwhile. Each row was decoded and verified in this run."
)

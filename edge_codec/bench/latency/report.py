"""The record of a run: every figure, and everything it depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edge_codec.bench.latency.figures import (
    latency_figures,
    lateness_us,
    percentiles_ms,
    percentiles_within,
    size_figures,
    step_figures,
    timeline,
)
from edge_codec.bench.latency.log import STEPS
from edge_codec.bench.latency.run import Run
from edge_codec.bench.machine import describe_machine
from edge_codec.manifest import load_manifest
from edge_codec.runtime.models import load_model
from edge_codec.spec import ModelId

PACKAGES = ("nibabel", "nvidia-ml-py", "tensorrt", "torch", "triton")

DEFINITIONS = (
    "Latency: from the instant a frame was due to the instant the last sink had taken its packet; "
    "with a rate, instants are fixed before the first frame (open loop), so that a stall counts in "
    "every frame that waited for it. Percentiles: nearest rank, of the frames that were sent, the "
    "warm-up left out, all streams together; of steps from histograms, to 0.1 %. Jitter: standard "
    "deviation of the time between departures of a stream. Misses: sent later than the deadline. "
    "Copies to and from a device are within the step that needs them. Memory: of the whole "
    "process, the exam and the benchmark's own arrays included. Stolen: time for which cores of a "
    "virtual machine had work and the hypervisor did not run them, all cores together, in percent "
    "of all they have; clean seconds: those of the run without any."
)


def make_record(run: Run) -> dict[str, Any]:
    """Return the figures of a run, what was asked for, and the machine; without the timeline."""
    plan, info = run.plan, run.info
    voxels = info.rows * info.columns
    figures = latency_figures(run.logs, round(plan.deadline_ms * 1e6))
    sent = figures["sent"]
    return {
        **figures,
        "strays": run.strays,
        "steps_ms": step_figures(run.logs),
        "pacing_error": lateness_us(run.logs) if plan.rate else {},
        "cold_start_ms": _cold_start(run),
        "frames_per_s": sent / run.seconds if run.seconds else None,
        "memory": run.memory,
        "stolen": stolen_figures(run, make_timeline(run)),
        **size_figures(run.logs, voxels, voxels * info.dtype.itemsize),
        "energy_j_per_frame": {
            name: joules / sent for name, joules in run.energy_j.items() if sent
        },
        "verified": _verified(run),
        **({"decode": _decode_figures(run)} if plan.decode else {}),
        **_plan_fields(run),
        **_engines(run),
        "scheduling": run.scheduling,
        "not_allowed": run.refused,
        "sensors": run.sensors,
        **describe_machine(PACKAGES),
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "definitions": DEFINITIONS,
    }


def make_timeline(run: Run) -> list[dict[str, Any]]:
    """Return the course of a run, second by second, with the memory of the process."""
    rows = timeline(run.logs, round(run.plan.deadline_ms * 1e6))
    for row in rows:  # a second without frames has no row, but was looked at
        if row["second"] < len(run.memory_mib):
            row["memory_mib"] = run.memory_mib[row["second"]]
        stolen_s = _stolen_in(run, row["second"])
        if stolen_s is not None:
            row["stolen_ms"] = 1000 * stolen_s
    return rows


def _stolen_in(run: Run, second: int) -> float | None:
    """Return what was taken from the virtual machine in a second of the run."""
    if second + 1 >= len(run.stolen_s):
        return None
    return run.stolen_s[second + 1] - run.stolen_s[second]


def stolen_figures(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a hypervisor took, and how many frames were late where it took nothing.

    `rows` are those of `make_timeline`. A stall's backlog may last into clean seconds.
    """
    if not run.stolen_s or not run.seconds:
        return {}
    clean = [row for row in rows if row.get("stolen_ms") == 0]
    return {
        "seconds": run.stolen_s[-1],
        "percent": 100 * run.stolen_s[-1] / (run.seconds * (os.cpu_count() or 1)),
        "clean_seconds": len(clean),
        "frames_in_clean_seconds": sum(row["frames"] for row in clean),
        "misses_in_clean_seconds": sum(row["misses"] for row in clean),
        "latency_in_clean_seconds": percentiles_within(run.logs, (row["second"] for row in clean)),
    }


def _cold_start(run: Run) -> dict[str, float]:
    """Return how long the first packet took, from the process' beginning and from the opening.

    With the reading of the exam, and with the time that passes until the first frame is due.
    """
    found = {}
    if run.first_sent_ns and run.started_ns is not None:
        found["process_to_first_packet"] = (run.first_sent_ns - run.started_ns) / 1e6
    if run.first_sent_ns:
        found["open_to_first_packet"] = (run.first_sent_ns - run.opened_ns) / 1e6
    return found


def _verified(run: Run) -> dict[str, Any]:
    check = run.check
    return {
        "frames": check.frames,
        "of": sum(int(np.count_nonzero(log.phases >= 0)) for log in run.logs),
        "largest_error": None if run.plan.max_error is None else check.largest_error,
        "failures": check.n_failures,
        "first_failures": check.failures,
    }


def _decode_figures(run: Run) -> dict[str, Any]:
    durations = np.array(run.check.decode_ns, np.int64)
    misses = int(np.count_nonzero(durations > run.plan.deadline_ms * 1e6))
    return {"frames": len(durations), **percentiles_ms(durations), "misses": misses}


def _plan_fields(run: Run) -> dict[str, Any]:
    plan, info = run.plan, run.info
    return {
        "loop": "open" if plan.rate else "closed",
        "rate": plan.rate or None,
        "streams": plan.streams,
        "frames_per_stream": plan.frames,
        "warmup_frames": plan.warmup,
        "deadline_ms": plan.deadline_ms,
        "budget_ms": plan.budget_ms,
        "policy": plan.policy.name.lower().replace("_", "-"),
        "model": plan.model.name.lower(),
        "max_error": plan.max_error,
        "effort": plan.effort.name.lower(),
        "backend_asked": plan.backend,
        "threads": plan.threads,
        "workers": plan.workers,
        "sink": plan.sink,
        "realtime": plan.realtime,
        "sharp_timers": run.sharp_timers,
        "source": plan.source.name,
        "shape_slice_phase_row_column": [info.n_slices, info.n_phases, *info.frame_shape],
        "dtype": str(info.dtype),
        "seconds": run.seconds,
    }


def _engines(run: Run) -> dict[str, Any]:
    """Return on what the networks ran, with their precision, and the hashes of their files."""
    plan = run.plan
    if plan.model is not ModelId.VQVAE:  # no network
        return {"engines": {}, "model_hashes": {}}
    model = load_model(plan.model, backend=plan.backend, threads=plan.threads)
    engines = {}
    if model is not None:
        for name in ("encoder", "decoder"):
            engine = getattr(model, name)
            if engine is not None:
                engines[name] = engine.name
    return {"engines": engines, "model_hashes": load_manifest(plan.model).hashes}


def text_lines(record: dict[str, Any]) -> list[str]:
    """Return the figures for people."""
    lines = [f"{name:<12}{_text(record[f'{name}_ms'])} ms" for name in
             ("p50", "p90", "p99", "p99_9", "max", "mean", "jitter")]  # fmt: skip
    counts = ("frames", "misses", "dropped", "refused", "failed", "lost", "strays", "fast_frames")
    lines += [f"{name:<12}{record[name]}" for name in counts]
    lines.append(f"{'bits/voxel':<12}{_text(record['bits_per_voxel'])}")
    growth = record["memory"].get("growth_percent")
    lines.append(f"{'memory':<12}{_text(record['memory'].get('peak_mib'))} MiB at most"
                 + ("" if growth is None else f", {growth:+.2f} % since 1000 frames"))  # fmt: skip
    stolen = record["stolen"]
    if stolen.get("seconds"):
        lines.append(f"{'stolen':<12}{stolen['percent']:.2f} % of the cores' time, by the "
                     f"hypervisor; {stolen['misses_in_clean_seconds']} misses in "
                     f"{stolen['clean_seconds']} seconds without")  # fmt: skip
    for name in sorted(record["steps_ms"], key=_step_order):
        step = record["steps_ms"][name]
        values = "  ".join(f"{key} {_text(step[key])}" for key in ("p50", "p99", "p99_9", "max"))
        lines.append(f"{name:<12}{values} ms")
    checked = record["verified"]
    lines.append(f"{'verified':<12}{checked['frames']} of {checked['of']} packets, "
                 f"{checked['failures']} failures")  # fmt: skip
    return lines


def _step_order(name: str) -> int:
    return STEPS.index(name) if name in STEPS else len(STEPS)


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"

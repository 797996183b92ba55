"""From logs to figures: percentiles, misses, jitter, the split by steps, the course over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.latency.log import FrameLog, Outcome
from edge_codec.runtime.telemetry.histogram import merged, nearest_rank

PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p99_9_ms": 99.9, "max_ms": 100.0}


def percentiles_ms(durations_ns: NDArray[np.int64]) -> dict[str, float | None]:
    """Return exact percentiles, maximum and mean in ms; None of nothing.

    A percentile is one of the durations: the smallest that so many percent do not exceed.
    """
    if not len(durations_ns):
        return dict.fromkeys((*PERCENTILES, "mean_ms"))
    values = nearest(durations_ns, PERCENTILES.values())
    found: dict[str, float | None] = {
        name: value / 1e6 for name, value in zip(PERCENTILES, values, strict=True)
    }
    return {**found, "mean_ms": float(durations_ns.mean()) / 1e6}


def nearest(values: NDArray[np.int64], percents: Iterable[float]) -> list[float]:
    """Return percentiles that are among the values, of which there must be one."""
    ordered = np.sort(values)
    return [float(ordered[nearest_rank(percent, len(ordered)) - 1]) for percent in percents]


def latency_figures(logs: Sequence[FrameLog], deadline_ns: int) -> dict[str, Any]:
    """Return the figures of all streams together.

    Parameters
    ----------
    logs : sequence of FrameLog
        One for each stream.
    deadline_ns : int
        A frame that was sent, but later than this after it was due, is a miss.

    Returns
    -------
    dict
        `frames` (that count, whatever became of them), latencies, `jitter_ms` (standard deviation
        of the time from one departure of a stream to the next), `misses`, `dropped`, `refused`,
        `failed`, `lost` (nothing was heard of them), `fast_frames`, `fast_bands`, `bands`.
    """
    latency = np.concatenate([log.latency_ns() for log in logs])
    gaps = np.concatenate([np.diff(np.sort(log.finished_ns[log.sent()])) for log in logs])
    outcomes = np.concatenate([log.outcome[log.counted] for log in logs])

    def count(outcome: Outcome) -> int:
        return int(np.count_nonzero(outcomes == outcome))

    return {
        "frames": len(outcomes),
        **percentiles_ms(latency),
        "jitter_ms": float(gaps.std()) / 1e6 if len(gaps) else None,
        "misses": int(np.count_nonzero(latency > deadline_ns)),
        "sent": count(Outcome.SENT),
        "dropped": count(Outcome.DROPPED),
        "refused": count(Outcome.REFUSED),
        "failed": count(Outcome.FAILED),
        "lost": count(Outcome.NONE),
        "fast_frames": sum(int(np.count_nonzero(log.fast[log.sent()])) for log in logs),
        "fast_bands": sum(log.fast_bands for log in logs),
        "bands": sum(log.bands for log in logs),
    }


def step_figures(logs: Sequence[FrameLog]) -> dict[str, dict[str, float]]:
    """Return `p50`, `p99`, `p99_9`, `max` and `mean` in ms of each step that took any time."""
    names = list(dict.fromkeys(step for log in logs for step in log.steps))
    found = {}
    for name in names:
        summary = merged(log.steps[name] for log in logs if name in log.steps).summary_ms()
        if summary["n"]:
            found[name] = {key: summary[key] for key in ("p50", "p99", "p99_9", "max", "mean")}
    return found


def size_figures(logs: Iterable[FrameLog], voxels: int, frame_bytes: int) -> dict[str, Any]:
    """Return bytes of the packets that count, bits per voxel, and the ratio to the voxels."""
    sizes = np.concatenate([log.packet_bytes[log.sent()] for log in logs])
    total = int(sizes.sum(dtype=np.int64))
    return {
        "bytes": total,
        "bits_per_voxel": 8 * total / (voxels * len(sizes)) if len(sizes) else None,
        "ratio": frame_bytes * len(sizes) / total if total else None,
        "frame_bytes": frame_bytes,
    }


def lateness_us(logs: Iterable[FrameLog]) -> dict[str, float]:
    """Return by how many us pushes began after their frames were due: the error of the pacing.

    It is part of every latency; where the stream held a push back, it holds that, too.
    """
    late = np.concatenate([(log.pushed_ns - log.due_ns)[log.counted] for log in logs])
    if not len(late):
        return {}
    names = {"p50_us": 50.0, "p99_us": 99.0, "p99_9_us": 99.9, "max_us": 100.0}
    found = nearest(late, names.values())
    return {name: value / 1e3 for name, value in zip(names, found, strict=True)}


def timeline(logs: Sequence[FrameLog], deadline_ns: int) -> list[dict[str, Any]]:
    """Return one row for each second since the first frame that counts, by when frames were due.

    A row holds `second`, `frames`, `p50_ms`, `p99_ms`, `max_ms` and `misses` of the frames that
    were sent; a second without any is left out.
    """
    seconds, latency = _by_second(logs)
    starts = np.flatnonzero(np.diff(seconds, prepend=-1))
    rows = []
    for start, stop in zip(starts, [*starts, len(seconds)][1:], strict=True):
        part = latency[start:stop]
        found = percentiles_ms(part)
        rows.append(
            {
                "second": int(seconds[start]),
                "frames": len(part),
                **{name: found[name] for name in ("p50_ms", "p99_ms", "max_ms")},
                "misses": int(np.count_nonzero(part > deadline_ns)),
            }
        )
    return rows


def percentiles_within(logs: Sequence[FrameLog], seconds: Iterable[int]) -> dict[str, float | None]:
    """Return percentiles in ms over the frames that were due in some of `timeline`'s seconds."""
    when, latency = _by_second(logs)
    return percentiles_ms(latency[np.isin(when, list(seconds))])


def _by_second(logs: Sequence[FrameLog]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return in which second each sent frame was due, in order, and its latency in ns."""
    due = np.concatenate([log.due_ns[log.sent()] for log in logs])
    latency = np.concatenate([log.latency_ns() for log in logs])
    order = np.argsort(due, kind="stable")
    due, latency = due[order], latency[order]
    return (due - due[:1]) // 1_000_000_000, latency

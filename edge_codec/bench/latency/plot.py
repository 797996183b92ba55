"""Pictures of a run: how latencies are spread, how they went over time, where the time goes.

Drawn without pyplot, so that no state of the process changes; equal results give equal files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_codec.bench.latency.log import FrameLog

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "edge-codec",
    "font.size": 10.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
}
STRONG, MUTED, LIMIT = "#c1121f", "#5f7f9e", "#8a8378"
LINES = (("p50", MUTED, "-"), ("p99", LIMIT, "-"), ("p99_9", STRONG, ":"), ("max", STRONG, "-"))
BINS = 120


def draw_latency(logs: Sequence[FrameLog], record: dict[str, Any]) -> bytes:
    """Draw how many frames had which latency, numbers on a logarithmic axis; return an SVG."""
    latency_ms = np.concatenate([log.latency_ns() for log in logs]) / 1e6
    figure, axes = _figure(record)
    if len(latency_ms):
        top = 1.02 * max(float(latency_ms.max()), 1e-3)
        axes.hist(latency_ms, bins=np.linspace(0, top, BINS).tolist(), color=MUTED, log=True)
    for name, color, dashes in LINES:
        value = record[f"{name}_ms"]
        if value is not None:
            axes.axvline(value, color=color, linestyle=dashes, linewidth=1.2,
                         label=f"{name} {value:.2f} ms")  # fmt: skip
    axes.set_xlabel("ms from the instant a frame was due to its packet in the last sink")
    axes.set_ylabel("frames")
    if len(latency_ms):
        axes.legend(loc="upper left", frameon=False)
    return _saved(figure)


def draw_timeline(rows: Sequence[dict[str, Any]], record: dict[str, Any]) -> bytes:
    """Draw median, 99th percentile and maximum of each second, and the memory; return an SVG."""
    figure, axes = _figure(record)
    seconds = [row["second"] for row in rows]
    marker = "." if len(rows) < 60 else None
    for name, color in (("max_ms", STRONG), ("p99_ms", LIMIT), ("p50_ms", MUTED)):
        axes.plot(seconds, [row[name] for row in rows], color=color, linewidth=1.0,
                  marker=marker, label=name.replace("_", " in "))  # fmt: skip
    axes.axhline(record["deadline_ms"], color="black", linestyle="--", linewidth=0.8,
                 label="deadline")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("ms, of the frames due in each second")
    with_memory = [row for row in rows if "memory_mib" in row]
    if with_memory:
        right = axes.twinx()
        right.plot([row["second"] for row in with_memory],
                   [row["memory_mib"] for row in with_memory],
                   color="#6f9a80", linewidth=1.0, linestyle=":")  # fmt: skip
        right.set_ylim(0, 1.25 * max(row["memory_mib"] for row in with_memory))
        right.set_ylabel("MiB of memory, dotted")
    if rows:
        axes.legend(loc="upper right", frameon=False)
    return _saved(figure)


def draw_steps(record: dict[str, Any]) -> bytes:
    """Draw how long each step takes: median, 99.9th percentile and maximum; return an SVG."""
    figure, axes = _figure(record)
    steps = record["steps_ms"]
    places = np.arange(len(steps))
    for number, (name, color) in enumerate((("p50", MUTED), ("p99_9", LIMIT), ("max", STRONG))):
        widths = [step[name] for step in steps.values()]
        bars = axes.barh(places + 0.27 * (number - 1), widths, height=0.25, color=color, label=name)
        axes.bar_label(bars, [f"{width:.3f}" for width in widths], padding=3, fontsize=8)
    axes.set_yticks(places, [name.replace("_", " ") for name in steps])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("ms")
    if steps:
        axes.legend(loc="lower right", frameon=False)
    return _saved(figure)


def _figure(record: dict[str, Any]) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(10, 5), layout="constrained")
        axes = figure.subplots()
        axes.set_title(_title(record), fontsize=10, loc="left")
    return figure, axes


def _title(record: dict[str, Any]) -> str:
    rows, columns = record["shape_slice_phase_row_column"][2:]
    pace = f"at {record['rate']:g} frames/s" if record["rate"] else "one after the other"
    promise = {None: "base layer alone", 0: "lossless"}.get(
        record["max_error"], f"max error {record['max_error']}"
    )
    streams = "1 stream" if record["streams"] == 1 else f"{record['streams']} streams"
    return (
        f"{record['frames']} frames of {rows}x{columns} {record['dtype']} {pace}, {streams}, "
        f"{promise}, model {record['model']}, effort {record['effort']}\n"
        f"{record['device']}, {record['cpus']} processors"
    )


def _saved(figure: Any) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()

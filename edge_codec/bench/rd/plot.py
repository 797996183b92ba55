"""Pictures of a case: rate-distortion curves, and the lossless codecs by rate and time.

Drawn without pyplot, so that no state of the process changes; equal results give equal files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from edge_codec.bench.rd.difference import Curve, curves, differences, overall
from edge_codec.bench.rd.measure import OK, Figures, Result
from edge_codec.bench.rd.ours import HYBRID, NAME
from edge_codec.bench.rd.trial import Tier
from edge_codec.metrics.rate import front

FORMATS = ("svg", "png")
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": NAME,
    "font.size": 10.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
}
# Ours are strong; peers are muted, one hue for each encoder, dashed where it looks ahead.
OURS = {
    NAME: "#c1121f",
    f"{NAME}-fast": "#f08030",
    f"{NAME}-best": "#6a040f",
    HYBRID: "#c81d7c",
    f"{HYBRID}-fast": "#ef6fb0",
    f"{HYBRID}-best": "#7b1fa2",
    f"{HYBRID}-archive": "#3d1a78",
    f"{NAME}-video": "#b5651d",
}
OUR_OTHER = "#9d0208"
PEERS = {
    "jpeg-ls": ("#8a8378", "-", "s"),
    "jpeg-2000": ("#a08c5b", "-", "^"),
    "htj2k": ("#b79a6d", "--", "v"),
    "jpeg-xl": ("#8f7fa8", "-", "D"),
    "x265-low-delay": ("#5f7f9e", "-", "o"),
    "x265-low-delay-untuned": ("#5f7f9e", ":", "o"),
    "x265-low-delay-fast": ("#5f7f9e", "-.", "o"),
    "x265-random-access": ("#5f7f9e", "--", "o"),
    "svt-av1-low-delay": ("#6f9a80", "-", "P"),
    "svt-av1-random-access": ("#6f9a80", "--", "P"),
}
PEER_OTHER = ("#8c8c8c", "-", ".")
LABEL_GAP = 0.045  # of the axis' height, between the middles of two labels


def draw_rate_distortion(
    title: str, results: Sequence[Result], anchor: str = ""
) -> dict[str, bytes]:
    """Draw PSNR against bits per voxel, one curve per codec.

    Parameters
    ----------
    title : str
        What the case is.
    results : sequence of Result
        Of one case; results without loss lie on no curve.
    anchor : str
        A codec; the labels of the others say their BD-rate against it.

    Returns
    -------
    dict of str to bytes
        Contents of a file for each of `FORMATS`; empty where no codec has a point.
    """
    found = {name: front(points) for name, points in curves(results).items()}
    if not found:
        return {}
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(10, 6.2))
        axes = figure.add_axes((0.07, 0.1, 0.62, 0.78))
        for name, points in found.items():
            _draw_curve(axes, name, points)
        _log_axis(axes)
        axes.set_xlabel("bits per voxel")
        axes.set_ylabel("PSNR in dB, peak = maximum of the exam")
        axes.grid(which="major", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        _label_curves(axes, found, _labels(found, results, anchor))
        figure.text(0.07, 0.94, _wrapped(title), fontsize=10, va="center")
        return _saved(figure)


def draw_lossless(title: str, results: Sequence[Result]) -> dict[str, bytes]:
    """Draw the lossless results: bits per voxel as sorted bars, and against encoding time.

    Parameters
    ----------
    title : str
        What the case is.
    results : sequence of Result
        Of one case; results with loss are left out.

    Returns
    -------
    dict of str to bytes
        Contents of a file for each of `FORMATS`; empty where there is no lossless result.
    """
    rows = [
        (result, result.figures)
        for result in results
        if result.status == OK and result.tier == Tier.LOSSLESS.value and result.figures
    ]
    if not rows:
        return {}
    rows.sort(key=lambda row: row[1].bpp)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(13, 1.6 + 0.27 * len(rows)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_bars(left, rows)
        _draw_times(right, rows)
        figure.suptitle(_wrapped(title), fontsize=10, x=0.01, ha="left")
        return _saved(figure)


def _draw_curve(axes: Any, name: str, points: Curve) -> None:
    rates, qualities = zip(*points, strict=True)
    if name.startswith(NAME):
        marker, size = ("*", 15) if len(points) == 1 else ("o", 6)
        axes.plot(rates, qualities, color=_color(name), linewidth=2.6, marker=marker,
                  markersize=size, zorder=3)  # fmt: skip
    else:
        color, dashes, marker = PEERS.get(name, PEER_OTHER)
        axes.plot(rates, qualities, color=color, linestyle=dashes, linewidth=1.3, marker=marker,
                  markersize=4, zorder=2)  # fmt: skip


def _labels(found: dict[str, Curve], results: Sequence[Result], anchor: str) -> dict[str, str]:
    """Return what is written beside each curve: its name, and how far it is from the anchor."""
    saved = overall(differences(results, anchor))
    notes = {name: f" {percent:+.0f} %" for name, percent in saved.items()}
    if saved:
        notes[anchor] = ", for BD-rate"
    return {name: name + notes.get(name, "") for name in found}


def _label_curves(axes: Any, found: dict[str, Curve], labels: dict[str, str]) -> None:
    """Write each curve's name at the right, joined with the curve's last point."""
    low, high = axes.get_ylim()
    ends = {name: points[-1] for name, points in found.items() if len(points) > 1}
    heights = spread([(quality - low) / (high - low) for _, quality in ends.values()], LABEL_GAP)
    for (name, end), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            labels[name], end, xytext=(1.03, height), textcoords="axes fraction", va="center",
            color=_color(name), weight="bold" if name.startswith(NAME) else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": _color(name),
                        "linewidth": 0.7, "alpha": 0.6},
        )  # fmt: skip
    for name, points in found.items():
        if len(points) == 1:
            axes.annotate(
                name, points[0], xytext=(10, -4), textcoords="offset points", weight="bold",
                color=_color(name), zorder=4,
                bbox={"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.75},
            )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart until neighbors are at least `gap` from each other, in the same order.

    All stay half a gap inside 0 to 1 as long as there is room for them.

    >>> [round(height, 2) for height in spread([0.5, 0.5, 0.9], 0.1)]
    [0.55, 0.45, 0.9]
    """
    # Labels that would touch form a block, centered on the mean of what they belong to.
    order = sorted(range(len(heights)), key=lambda index: (-heights[index], index))
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and _bottom(blocks[-2], heights, gap) < _top(
            blocks[-1], heights, gap
        ):
            last = blocks.pop()
            blocks[-1] += last
    moved = [0.0] * len(heights)
    for block in blocks:
        top = _top(block, heights, gap) - gap / 2
        for place, index in enumerate(block):
            moved[index] = top - place * gap
    return moved


def _top(block: Sequence[int], heights: Sequence[float], gap: float) -> float:
    size = gap * len(block)
    centered = sum(heights[index] for index in block) / len(block) + size / 2
    return min(1.0, max(size, centered))


def _bottom(block: Sequence[int], heights: Sequence[float], gap: float) -> float:
    return _top(block, heights, gap) - gap * len(block)


def _draw_bars(axes: Any, rows: Sequence[tuple[Result, Figures]]) -> None:
    places = range(len(rows))
    names = [f"{result.codec}, {result.setting}" for result, _ in rows]
    bars = axes.barh(places, [figures.bpp for _, figures in rows],
                     color=[_color(result.codec) for result, _ in rows], height=0.72)  # fmt: skip
    axes.bar_label(bars, [f"{figures.bpp:.3f}" for _, figures in rows], padding=4)
    axes.set_yticks(places, [f"{name}  [{place + 1}]" for place, name in enumerate(names)])
    for label, (result, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_weight("bold" if result.codec.startswith(NAME) else "normal")
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("bits per voxel, lossless")


def _draw_times(axes: Any, rows: Sequence[tuple[Result, Figures]]) -> None:
    for place, (result, figures) in enumerate(rows, start=1):
        strong = result.codec.startswith(NAME)
        point = (figures.encode_ms, figures.bpp)
        axes.scatter(*point, s=70 if strong else 28, color=_color(result.codec), zorder=2 + strong)
        axes.annotate(str(place), point, xytext=(5, 4), textcoords="offset points",
                      weight="bold" if strong else "normal", zorder=4)  # fmt: skip
    _log_axis(axes)
    axes.grid(which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("ms per frame to encode, median")
    axes.set_ylabel("bits per voxel; numbers as at the left")


def _log_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _color(name: str) -> str:
    if name.startswith(NAME):
        return OURS.get(name, OUR_OTHER)
    return PEERS.get(name.removesuffix("-difference"), PEER_OTHER)[0]


def _wrapped(title: str) -> str:
    name, _, rest = title.partition(": ")
    return f"{name}\n{rest}" if rest else name


def _saved(figure: Any) -> dict[str, bytes]:
    files = {}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is laid out now, for every format
    for form in FORMATS:
        buffer = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None  # a date would change every file
        figure.savefig(buffer, format=form, dpi=110, metadata=metadata)
        files[form] = buffer.getvalue()
    return files

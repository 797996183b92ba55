"""Pictures: agreement over exams, volume over the cycle, Dice against ratio, errors of frames.

Drawn without pyplot, so that no state of the process changes; equal results give equal files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.evaluate.summary import EXPERT, MEASURES, NETWORK, groups, pairs
from edge_codec.bench.rd.measure import OK
from edge_codec.metrics.clinical import LV, STRUCTURES, bland_altman

if TYPE_CHECKING:
    from edge_codec.bench.evaluate.exam import Exam
    from edge_codec.bench.evaluate.expert import Labels

Row = Mapping[str, Any]

PLOTTED = ("lv_ef_percent", "lv_edv_ml", "rv_ef_percent", "mass_g")
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "edge-codec",
    "font.size": 9.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
}
COLORS = ("#c1121f", "#3a6ea5", "#7b1fa2", "#2a7f62", "#b5651d", "#ef6fb0", "#5f5f5f", "#a08c00")
# The left ventricle last, over the inner edge of its muscle.
CONTOURS = {
    STRUCTURES["myocardium"]: "#46c37b",
    STRUCTURES["rv"]: "#4aa8ff",
    LV: "#ff5a5f",
}
DPI = 110


def draw_agreement(cases: Sequence[Row], results: Sequence[Row], measure: str) -> bytes | None:
    """Draw Bland and Altman's plots of a measure: a column per codec and selection.

    Above against the network's labels of the original frames, below against the expert's.

    Returns
    -------
    bytes or None
        An SVG file; None where nothing was measured.
    """
    columns = [
        (key, [pairs(cases, found, measure, reference) for reference in (NETWORK, EXPERT)])
        for key, found in groups(results).items()
    ]
    references = [place for place in (0, 1) if any(matched[place] for _, matched in columns)]
    if not references:
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        size = (max(4.2, 3.1 * len(columns)), 0.4 + 2.9 * len(references))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(references), len(columns), squeeze=False, sharey="row")
        for line, place in enumerate(references):
            for column, ((codec, selection), matched) in enumerate(columns):
                panel = axes[line][column]
                _draw_bland_altman(panel, matched[place], COLORS[column % len(COLORS)])
                panel.set_title(f"{codec}\n{selection}", fontsize=8)
            against = ("network on original", "expert")[place]
            axes[line][0].set_ylabel(f"decoded - {against}")
        figure.supxlabel(f"mean of both, {MEASURES[measure]}", fontsize=9)
        return _svg(figure)


def _draw_bland_altman(axes: Any, matched: Sequence[tuple[str, float, float]], color: str) -> None:
    """One panel: differences against means, bias and limits with their intervals."""
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    if not matched:
        axes.text(0.5, 0.5, "no pairs", transform=axes.transAxes, ha="center")
        return
    _, measured, expected = (np.array(part) for part in zip(*matched, strict=True))
    axes.scatter((measured + expected) / 2, measured - expected, s=18, color=color, zorder=3)
    found = bland_altman(measured.tolist(), expected.tolist())
    axes.axhline(found.bias, color=color, linewidth=1.4)
    if found.limits and found.bias_interval and found.lower_interval and found.upper_interval:
        axes.axhspan(*found.bias_interval, color=color, alpha=0.16, linewidth=0)
        for limit, bounds in zip(
            found.limits, (found.lower_interval, found.upper_interval), strict=True
        ):
            axes.axhline(limit, color=color, linewidth=1, linestyle="--")
            axes.axhspan(*bounds, color=color, alpha=0.08, linewidth=0)


def draw_curves(case: Row, results: Sequence[Row]) -> bytes:
    """Draw the left ventricle's volume over the phases of an exam, original and decoded; an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(case["lv_curve"], color="black", linewidth=2, label="original, network")
        shown = [row for row in results if row["status"] == OK]
        for place, row in enumerate(shown):
            axes.plot(
                row["lv_curve"], color=COLORS[place % len(COLORS)], linewidth=1.1,
                label=f"{row['codec']}, {row['selection']}",
            )  # fmt: skip
        expert, phases = case["function"]["expert"], case["phases"]
        if expert is not None and expert["lv_edv_ml"] is not None:
            axes.scatter([phases["ed"], phases["es"]], [expert["lv_edv_ml"], expert["lv_esv_ml"]],
                         marker="D", color="black", zorder=4, label="expert")  # fmt: skip
        known = all(step > 0 for step in case["spacing_mm"])
        axes.set_xlabel("phase")
        axes.set_ylabel(f"left ventricle in {'ml' if known else 'voxels'}")
        axes.set_title(case["case"], fontsize=9)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure)


def draw_dice(cases: Sequence[Row], results: Sequence[Row]) -> bytes | None:
    """Draw mean Dice against the compression ratio; an SVG, or None where no ratio is known.

    Left against the network's labels of the original frames (all phases), right against the
    expert's (end-diastole and end-systole), the network on original frames as a dashed line.
    """
    found = {
        key: [row for row in rows if row["ratio_to_16_bit"] is not None]
        for key, rows in groups(results).items()
    }
    if not any(found.values()):
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = list(dict.fromkeys(codec for codec, _ in found))
        for place, name in enumerate(names):
            rows = [row for (codec, _), part in found.items() if codec == name for row in part]
            color = COLORS[place % len(COLORS)]
            _scatter(left, rows, [row["against_network"]["all"]["dice"]["mean"] for row in rows],
                     color, name)  # fmt: skip
            _scatter(
                right, rows, [_expert_dice(row["against_expert"]) for row in rows], color, name
            )
        values = [_expert_dice(case["network_against_expert"]) for case in cases]
        known = [value for value in values if value is not None]
        if known:
            right.axhline(np.mean(known), color="black", linestyle="--", linewidth=1)
        titles = {
            left: "network on decoded against network on original, all phases",
            right: "network on decoded against expert; dashed: on original",
        }
        for axes, title in titles.items():
            axes.set_title(title, fontsize=8)
            axes.set_xlabel("compression ratio to 16 bit")
            axes.set_ylabel("Dice, mean of LV, myocardium, RV")
            _log_axis(axes)
            axes.grid(which="major", color="#e6e6e6", linewidth=0.8)
        left.legend(fontsize=7, frameon=False)
        return _svg(figure)


def _log_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _scatter(
    axes: Any, rows: Sequence[Row], values: Sequence[float | None], color: str, name: str
) -> None:
    points = [(row["ratio_to_16_bit"], value) for row, value in zip(rows, values, strict=True)
              if value is not None]  # fmt: skip
    if points:
        axes.scatter(*zip(*points, strict=True), s=16, color=color, label=name, alpha=0.85)


def _expert_dice(compared: Any) -> float | None:
    """Mean over both phases and all structures; None where one is missing."""
    if compared is None:
        return None
    values = [value for phase in compared.values() for value in phase["dice"].values()]
    return None if None in values else float(np.mean(values))


def draw_errors(exam: Exam, decoded: NDArray[Any], labels: Labels, title: str) -> bytes:
    """Draw a slice at end-diastole and at end-systole: original, decoded, difference; a PNG.

    The slice is that with the largest left ventricle at end-diastole. Contours are the network's,
    and on the original dotted the expert's.

    Parameters
    ----------
    exam : Exam
    decoded : ndarray, shape (slices, phases, rows, columns)
    labels : ndarray, the same shape, uint8
        The network's, of the decoded voxels.
    title : str
        What was decoded.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    areas = np.count_nonzero(exam.network[:, exam.phases.ed] == LV, axis=(1, 2))
    index = int(areas.argmax())
    named = exam.phases.named()
    differences = {
        phase: decoded[index, phase].astype(np.float64) - exam.case.voxels[index, phase]
        for phase in named.values()
    }
    bound = max(float(np.abs(part).max()) for part in differences.values()) or 1.0
    with rc_context(SETTINGS):
        figure = Figure(figsize=(10, 6.9))
        axes = figure.subplots(len(named), 3)
        figure.subplots_adjust(left=0.01, right=0.92, bottom=0.02, top=0.9, wspace=0.03)
        for line, (name, phase) in zip(axes, named.items(), strict=True):
            place = (index, phase)
            _draw_frames(line, exam, place, decoded[place], labels[place])
            image = line[2].imshow(differences[phase], cmap="RdBu_r", vmin=-bound, vmax=bound)
            _outline(line[2], exam.network[place], "solid")
            line[2].set_title("decoded - original, stored units", fontsize=8)
            line[0].set_title(f"{name.upper()}, phase {phase}: original", fontsize=8)
            for panel in line:
                panel.set_axis_off()
        figure.colorbar(image, cax=figure.add_axes((0.93, 0.12, 0.012, 0.66)))
        figure.suptitle(f"{title}; slice {index}", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def _draw_frames(
    axes: Any, exam: Exam, place: tuple[int, int], decoded: NDArray[Any], labels: Labels
) -> None:
    """Draw the original and the decoded frame in one gray scale, with their labels' outlines."""
    original = exam.case.voxels[place]
    low, high = min(0.0, float(original.min())), float(np.percentile(original, 99.5))
    frames = ((original, exam.network[place]), (decoded, labels))
    for panel, (frame, found) in zip(axes, frames, strict=False):
        panel.imshow(frame, cmap="gray", vmin=low, vmax=max(high, low + 1))
        _outline(panel, found, "solid")
    index, phase = place
    if phase in exam.expert:
        _outline(axes[0], exam.expert[phase][index], "dotted")
    axes[1].set_title("decoded", fontsize=8)


def _outline(axes: Any, labels: Labels, style: str) -> None:
    for label, color in CONTOURS.items():
        mask = labels == label
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=[color], linewidths=0.9, linestyles=style)


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # A date would change every file.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()

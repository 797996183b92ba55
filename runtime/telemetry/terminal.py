"""The figures in a terminal: a table that is drawn anew (package `rich`), or plain lines."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from edge_codec.runtime.telemetry.output import Snapshot

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

COLUMNS = ("stream", "frames", "fps", "p50 ms", "p99 ms", "max ms", "misses", "dropped", "failed",
           "fast %", "bits/voxel", "Mbit/s", "queue")  # fmt: skip


class TerminalView:
    """Shows every snapshot.

    On a terminal that can move its cursor, and with rich, a table; else one line for each
    snapshot, without escapes, fit for a log.

    Parameters
    ----------
    file : text file
        The terminal; stderr by default, as stdout may be data.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._live: Live | None = None

    def start(self, snapshot: Callable[..., Snapshot]) -> None:
        """Prepare the terminal."""
        del snapshot
        if not can_redraw(self._file):
            return
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=self._file), auto_refresh=False)
        self._live.start()

    def write(self, snapshot: Snapshot, *, last: bool) -> None:
        """Show a snapshot."""
        del last
        if self._live is None:
            print(plain_line(snapshot), file=self._file, flush=True)
        else:
            self._live.update(table_of(snapshot), refresh=True)

    def close(self) -> None:
        """Leave the last table where it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def can_redraw(file: TextIO) -> bool:
    """Whether a table can be drawn anew on this file, and rich is there to do it."""
    if importlib.util.find_spec("rich") is None:
        return False
    return file.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def cells(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """Return the texts of one row, in the order of `COLUMNS`.

    Latencies are those of the last interval where there are any, else of all frames.
    """
    latency = figures.get("recent_ms") or figures["latency_ms"]
    rates, bands, bits = figures["rates"], figures["bands"], figures["bits_per_voxel"]
    return (
        name,
        str(figures["sent"]),
        f"{rates.get('sent_per_s', 0):.1f}",
        *(f"{latency[key]:.2f}" for key in ("p50", "p99", "max")),
        str(figures["missed"]),
        str(figures["dropped"]),
        str(figures["refused"] + figures["failed"]),
        f"{100 * figures['fast_bands'] / bands:.1f}" if bands else "-",
        f"{bits:.3f}" if bits is not None else "-",
        f"{8e-6 * rates.get('packet_bytes_per_s', 0):.2f}",
        str(figures["depth"]),
    )


def rows(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """Return a row for each stream, and one for all where there are several."""
    found = [cells(name, figures) for name, figures in snapshot["streams"].items()]
    if len(found) != 1:
        found.append(cells("all", snapshot["total"]))
    return found


def plain_line(snapshot: Snapshot) -> str:
    """Return one line: the last of `rows`, and the machine."""
    pairs = zip(COLUMNS, rows(snapshot)[-1], strict=True)
    return "  ".join([*(f"{name} {text}" for name, text in pairs), *machine(snapshot)])


def machine(snapshot: Snapshot) -> list[str]:
    """Return the highest temperature, the fastest clock and the power, as far as they are known."""
    found = []
    for kind, unit in (("temperature_c", "C"), ("clock_mhz", "MHz"), ("power_w", "W")):
        values = snapshot["sensors"].get(kind)
        if values:
            found.append(f"{max(values.values()):.0f} {unit}")
    return found


def table_of(snapshot: Snapshot) -> Table:
    """Return the table of a snapshot."""
    from rich.table import Table

    table = Table(title=f"{snapshot['uptime_s']:.0f} s  " + "  ".join(machine(snapshot)))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "stream" else "right")
    for row in rows(snapshot):
        table.add_row(*row)
    return table

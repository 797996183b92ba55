"""What the notes of a live stream's packets add up to."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import numpy as np

from edge_codec.bitstream.live import LiveNote
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import RESIDUAL_CHECK
from edge_codec.errors import BitstreamError
from edge_codec.residual import count_fast

PERCENTILES = (50, 99, 100)


class LiveStatistics:
    """Sums up the notes of packets, in 8 bytes a frame.

    Parameters
    ----------
    rows : int
        Rows of the stream's frames.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._latency_us = array("Q")
        self._counts: Counter[str] = Counter()
        self._policies: set[str] = set()

    def add(self, packet: Packet) -> None:
        """Count a packet; one without a note counts nothing."""
        if LayerId.LIVE not in packet.layers:
            return
        self._add_bands(packet.layers.get(LayerId.RESIDUAL, b""))
        try:
            note = LiveNote.unpack(packet.layers[LayerId.LIVE])
        except BitstreamError:
            self._counts["unreadable"] += 1
            return
        self._policies.add(note.policy.name.lower().replace("_", "-"))
        self._latency_us.append(note.waited_us + note.coded_us)
        self._counts["dropped"] += note.dropped
        self._counts["late"] += note.late
        self._counts["clock_jumps"] += note.clock_jumped

    def fields(self) -> dict[str, Any]:
        """Return what `edge-codec info` shows: nothing where no packet had a note."""
        frames, counts = len(self._latency_us), self._counts
        if not frames and not counts["unreadable"]:
            return {}
        latency: list[float] = []
        if frames:
            measured = np.frombuffer(self._latency_us, np.uint64)
            latency = np.percentile(measured, PERCENTILES).tolist()
        return {
            "live_frames": frames,
            "live_policies": sorted(self._policies),
            "live_dropped": counts["dropped"],
            "live_late": counts["late"],
            "live_clock_jumps": counts["clock_jumps"],
            "live_latency_us_p50_p99_max": latency,
            "live_bands_as_fast_of_all": [counts["fast_bands"], counts["bands"]],
            "live_unreadable_notes": counts["unreadable"],
        }

    def _add_bands(self, layer: bytes) -> None:
        try:
            fast, bands = count_fast(layer[RESIDUAL_CHECK.size :], self._rows)
        except BitstreamError:  # no residual layer, or a hostile one: its decoder will say so
            return
        self._counts["fast_bands"] += fast
        self._counts["bands"] += bands

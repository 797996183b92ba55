"""What `jtop` (package `jetson-stats`) tells on a Jetson, where its service runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class JetsonStats:
    """Temperatures, rails and the power mode, as jtop's service tells them.

    Rails have the same names as sysfs has for them, and take their place.
    """

    def __init__(self) -> None:
        self._jtop: Any = None
        try:
            from jtop import jtop

            client = jtop()
            client.start()
        except Exception:  # no service, no rights, not a Jetson: jtop has errors of its own
            return
        self._jtop = client

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what the service told last."""
        if self._jtop is None:
            return {}
        try:
            return {
                "temperature_c": dict(_temperatures(self._jtop.temperature)),
                "power_w": dict(_powers(self._jtop.power)),
                "settings": {"power_mode": str(self._jtop.nvpmodel)},
            }
        except Exception:  # the service has gone: a reading is never worth an error
            return {}

    def energy_j(self) -> dict[str, float]:
        """Return nothing: a Jetson counts no energy."""
        return {}


def _temperatures(zones: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, zone in zones.items():
        if zone.get("online", True):
            yield name, float(zone["temp"])


def _powers(power: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield rails in W; jtop has mW."""
    for name, rail in power.get("rail", {}).items():
        yield name, float(rail["power"]) / 1e3
    total = power.get("tot")
    if total:
        yield "total", float(total["power"]) / 1e3

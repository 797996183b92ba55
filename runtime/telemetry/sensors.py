"""What the machine tells about itself: temperatures, power, clocks, energy.

Every reading is optional. A file that is missing, unreadable or nonsense, a library that is not
installed, a driver that fails: the reading is left out, and nothing else happens.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from edge_codec.runtime.telemetry.jetson import JetsonStats
from edge_codec.runtime.telemetry.nvidia import NvidiaGpus

ROOT = Path("/")
# Names of the rail or the zone that feeds everything else, by which energy is counted.
WHOLE = ("total", "VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "SYS_VIN_HV", "psys")

Reading = dict[str, dict[str, Any]]  # kind ("temperature_c", ...) -> name -> value


class Source(Protocol):
    """One way to ask a machine."""

    def read(self) -> Reading:
        """Return what can be read now; never raises."""

    def energy_j(self) -> dict[str, float]:
        """Return counters of energy in joules, from any beginning; never raises."""


class Sensors:
    """All that can be read on this machine.

    Parameters
    ----------
    root : Path
        Where `sys` and `proc` are.
    sources : iterable of Source, optional
        Further ones than sysfs; by default Jetson's `jtop` and NVIDIA's GPUs, where installed.
    """

    def __init__(self, root: Path = ROOT, sources: Iterable[Source] | None = None) -> None:
        if sources is None:
            sources = _installed_sources()
        self._sources: list[Source] = [Sysfs(root), *sources]

    def read(self) -> Reading:
        """Return what the machine tells now.

        Returns
        -------
        dict of str to dict
            Of `temperature_c`, `power_w`, `clock_mhz` (numbers by name) and `settings` (texts by
            name: governor, power mode), those that can be read.
        """
        whole: Reading = {}
        for source in self._sources:
            for kind, values in source.read().items():
                whole.setdefault(kind, {}).update(values)
        return {kind: values for kind, values in whole.items() if values}

    def energy_j(self) -> dict[str, float]:
        """Return counters of energy by name in joules; the difference of two calls is what counts.

        Counters that ran over in between are seen to, if they did so once.
        """
        whole: dict[str, float] = {}
        for source in self._sources:
            whole.update(source.energy_j())
        return whole

    def total_power_w(self) -> float | None:
        """Return the power of the whole machine or board; None where nothing tells."""
        power = self.read().get("power_w", {})
        return next((power[name] for name in WHOLE if name in power), None)


def _installed_sources() -> list[Source]:
    sources: list[Source] = []
    if importlib.util.find_spec("jtop") is not None:
        sources.append(JetsonStats())
    if importlib.util.find_spec("pynvml") is not None:
        sources.append(NvidiaGpus())
    return sources


class Sysfs:
    """What Linux shows as files.

    Parameters
    ----------
    root : Path
        Where `sys` and `proc` are.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._counters: dict[str, tuple[float, float]] = {}  # last reading, sum of overflows

    def read(self) -> Reading:
        """Return what can be read now."""
        monitors = list(self._monitors())
        return {
            "temperature_c": self._temperatures(monitors),
            "power_w": dict(_named_powers(monitors)),
            "clock_mhz": self._clocks(),
            "settings": self._settings(),
        }

    def _temperatures(self, monitors: Iterable[Path]) -> dict[str, float]:
        found: dict[str, float] = {}
        for zone in _glob(self._root, "sys/class/thermal/thermal_zone*"):
            _put(found, _text(zone / "type") or zone.name, _number(zone / "temp", 1e-3))
        for monitor in monitors:
            for file in _glob(monitor, "temp*_input"):
                label = _label(monitor, file.name.removesuffix("_input"))
                _put(found, label, _number(file, 1e-3))
        return found

    def _clocks(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for cpu in _glob(self._root, "sys/devices/system/cpu/cpu[0-9]*"):
            _put(found, cpu.name, _number(cpu / "cpufreq" / "scaling_cur_freq", 1e-3))
        if not found:
            # A virtual machine has no cpufreq, but says what its processors run at.
            lines = (_text(self._root / "proc/cpuinfo") or "").splitlines()
            texts = [line.partition(":")[2] for line in lines if line.startswith("cpu MHz")]
            for number, text in enumerate(texts):
                _put(found, f"cpu{number}", _parse(text))
        for device in _glob(self._root, "sys/class/devfreq/*"):
            _put(found, device.name, _number(device / "cur_freq", 1e-6))
        return found

    def _settings(self) -> dict[str, str]:
        cpus = _glob(self._root, "sys/devices/system/cpu/cpu[0-9]*")
        governors = {_text(cpu / "cpufreq" / "scaling_governor") for cpu in cpus} - {None}
        found = {}
        if governors:
            found["governor"] = ", ".join(sorted(name for name in governors if name))
        turbo = _text(self._root / "sys/devices/system/cpu/intel_pstate/no_turbo")
        if turbo is not None:
            found["turbo"] = "off" if turbo == "1" else "on"
        mode = _text(self._root / "var/lib/nvpmodel/status")  # Jetson, "pmode:0002"
        if mode is not None:
            found["power_mode"] = mode
        return found

    def energy_j(self) -> dict[str, float]:
        """Return the counters of powercap (RAPL): packages, and the platform where it has one."""
        found: dict[str, float] = {}
        for zone in _glob(self._root, "sys/class/powercap/*:*"):
            if zone.name.count(":") != 1:
                continue  # a part of a package
            value = _number(zone / "energy_uj", 1e-6)
            if value is not None:
                name = _text(zone / "name") or zone.name
                span = _number(zone / "max_energy_range_uj", 1e-6) or 0.0
                found[name] = self._unwrapped(zone.name, value, span)
        return found

    def _unwrapped(self, zone: str, value: float, span: float) -> float:
        before, overflows = self._counters.get(zone, (value, 0.0))
        if value < before:
            overflows += span
        self._counters[zone] = value, overflows
        return value + overflows

    def _monitors(self) -> Iterator[Path]:
        """Yield every hwmon device once; Jetson's rails are found below their bus as well."""
        seen = set()
        for pattern in ("sys/class/hwmon/hwmon*", "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"):
            for monitor in _glob(self._root, pattern):
                place = monitor.resolve()
                if place not in seen:
                    seen.add(place)
                    yield monitor


def _named_powers(monitors: Iterable[Path]) -> Iterator[tuple[str, float]]:
    """Yield name and watts of each rail: as it is told, or current times voltage."""
    for monitor in monitors:
        for kind in ("power*_input", "power*_average"):
            for file in _glob(monitor, kind):
                watts = _number(file, 1e-6)
                if watts is not None:
                    yield _label(monitor, file.name.partition("_")[0]), watts
        for file in _glob(monitor, "curr*_input"):
            number = file.name.removeprefix("curr").removesuffix("_input")
            amperes = _number(file, 1e-3)
            volts = _number(monitor / f"in{number}_input", 1e-3)
            if amperes is not None and volts is not None:
                yield _label(monitor, f"in{number}"), amperes * volts


def _label(monitor: Path, channel: str) -> str:
    """Return a channel's label, else one of the device's name and the channel's."""
    return _text(monitor / f"{channel}_label") or f"{_text(monitor / 'name')}-{channel}"


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:  # not there, not for us, or the driver has no value now
        return None


def _number(path: Path, unit: float) -> float | None:
    value = _parse(_text(path) or "")
    return None if value is None else value * unit


def _parse(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None  # JSON has neither NaN nor infinity


def _put(found: dict[str, float], name: str, value: float | None) -> None:
    """Add a reading; another of the same name gets a number."""
    if value is None:
        return
    unique, count = name, 1
    while unique in found:
        count += 1
        unique = f"{name}-{count}"
    found[unique] = value

"""What NVIDIA's management library tells of its GPUs (package `nvidia-ml-py`)."""

from __future__ import annotations

from typing import Any

# Kind of reading, suffix of its name, NVML's function and its arguments, unit.
READINGS: tuple[tuple[str, str, str, tuple[int, ...], float], ...] = (
    ("temperature_c", "", "nvmlDeviceGetTemperature", (0,), 1.0),
    ("power_w", "", "nvmlDeviceGetPowerUsage", (), 1e-3),
    ("clock_mhz", "-sm", "nvmlDeviceGetClockInfo", (1,), 1.0),
    ("clock_mhz", "-memory", "nvmlDeviceGetClockInfo", (2,), 1.0),
)


class NvidiaGpus:
    """All GPUs of this machine; nothing where there is no driver.

    A Jetson's GPU answers some questions only: each answer is optional.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._gpus: list[Any] = []
        try:
            import pynvml

            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
        except Exception:  # no library, no driver, no GPU: the library has errors of its own
            return
        self._nvml = pynvml

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what the GPUs tell now."""
        found: dict[str, dict[str, Any]] = {}
        for number, gpu in enumerate(self._gpus):
            for kind, suffix, question, arguments, unit in READINGS:
                value = self._ask(question, gpu, *arguments)
                if value is not None:
                    found.setdefault(kind, {})[f"gpu{number}{suffix}"] = value * unit
            found.setdefault("settings", {}).update(self._settings(f"gpu{number}", gpu))
        return found

    def _settings(self, name: str, gpu: Any) -> dict[str, str]:
        found = {}
        state = self._ask("nvmlDeviceGetPerformanceState", gpu)
        limit = self._ask("nvmlDeviceGetEnforcedPowerLimit", gpu)
        model = self._ask("nvmlDeviceGetName", gpu)
        if state is not None:
            found[f"{name}_performance_state"] = f"P{state}"
        if limit is not None:
            found[f"{name}_power_limit"] = f"{limit / 1e3:g} W"
        if model is not None:
            found[f"{name}_model"] = model.decode() if isinstance(model, bytes) else str(model)
        return found

    def energy_j(self) -> dict[str, float]:
        """Return the GPUs' counters of energy."""
        found = {}
        for number, gpu in enumerate(self._gpus):
            value = self._ask("nvmlDeviceGetTotalEnergyConsumption", gpu)
            if value is not None:
                found[f"gpu{number}"] = value * 1e-3
        return found

    def _ask(self, question: str, gpu: Any, *arguments: int) -> Any:
        """Return an answer; None where the GPU has none."""
        try:
            return getattr(self._nvml, question)(gpu, *arguments)
        except Exception:  # "not supported", "GPU is lost": a reading is never worth an error
            return None

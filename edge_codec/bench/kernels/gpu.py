"""Which GPU a measurement was taken on, and in what state."""

from __future__ import annotations

import subprocess
from typing import Any

from edge_codec.errors import EngineError

QUERY = {
    "gpu": "name",
    "driver": "driver_version",
    "sm_clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}


def require_gpu() -> None:
    """Refuse to go on without a GPU that PyTorch can use.

    Raises
    ------
    EngineError
        If there is none.
    """
    try:
        import torch
    except ImportError as error:
        raise EngineError("PyTorch is missing: pip install 'edge-codec[kernels]'") from error
    if not torch.cuda.is_available():
        raise EngineError(
            "no CUDA GPU that PyTorch can use, so nothing can be timed; --interpret checks the "
            "kernels on the CPU in Triton's interpreter"
        )


def describe_gpu() -> dict[str, Any]:
    """Return name, driver, clocks and power as `nvidia-smi` tells them, and versions.

    What it does not tell (a Jetson has no such tool) is None.
    """
    import torch
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        **dict(zip(QUERY, _query(), strict=True)),
        "gpu": properties.name,
        "capability": 10 * properties.major + properties.minor,
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def _query() -> list[str | None]:
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY.values())}", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        values = found.stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, IndexError):
        values = []
    return list(values) if len(values) == len(QUERY) else [None] * len(QUERY)

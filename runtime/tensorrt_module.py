"""TensorRT or TensorRT-RTX, whichever is there: the same code drives both.

Only what is the same on TensorRT 10.3, 10.16 and 11.4 and on TensorRT-RTX 1.7 is used: strongly
typed networks, engines as bytes, tensors by name and address. TensorRT proper tunes an engine on
the very GPU that will run it. TensorRT-RTX, for GeForce RTX and its relatives, compiles for a
GPU that is not there, and finishes the work where the engine is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edge_codec.errors import EngineError

FLAVORS = ("tensorrt", "tensorrt_rtx")
"""Names of the modules; the first that is installed is taken."""

MIN_VERSIONS = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 0)}
PACKAGES = {"tensorrt": "edge-codec[tensorrt]", "tensorrt_rtx": "tensorrt-rtx-cu13"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TensorRt:
    """An imported TensorRT.

    Attributes
    ----------
    module : module
    flavor : {'tensorrt', 'tensorrt_rtx'}
    version : str
    """

    module: ModuleType
    flavor: str
    version: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        return _release(self.version)

    @property
    def name(self) -> str:
        """For messages."""
        return f"{'TensorRT-RTX' if self.flavor == 'tensorrt_rtx' else 'TensorRT'} {self.version}"


def installed_flavors() -> tuple[str, ...]:
    """Return the modules that are installed, preferred first; none is imported."""
    return tuple(name for name in FLAVORS if importlib.util.find_spec(name) is not None)


def load_tensorrt(flavors: Sequence[str] = FLAVORS) -> TensorRt:
    """Import the first of some flavors that is installed.

    Raises
    ------
    EngineError
        If none is, or it is too old, or its libraries are missing.
    """
    installed = [name for name in installed_flavors() if name in flavors]
    if not installed:
        wanted = " or ".join(f"pip install '{PACKAGES[name]}'" for name in flavors)
        raise EngineError(f"TensorRT is not installed; {wanted}")
    flavor = installed[0]
    try:
        module = importlib.import_module(flavor)
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"{flavor} is installed and does not load ({error}); install the TensorRT libraries "
            "of the same version, or remove it"
        ) from error
    version = str(getattr(module, "__version__", ""))
    if not version or _release(version) < MIN_VERSIONS[flavor]:
        least = ".".join(map(str, MIN_VERSIONS[flavor]))
        raise EngineError(f"{flavor} is version {version or 'unknown'}; install {least} or newer")
    return TensorRt(module, flavor, version)


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


class TrtLog:
    """What TensorRT says: to Python's logging, and its errors kept for the next exception.

    Parameters
    ----------
    trt : TensorRt

    Attributes
    ----------
    sink : object
        The logger that TensorRT's own objects take.
    """

    def __init__(self, trt: TensorRt) -> None:
        interface: Any = trt.module.ILogger
        levels = {
            interface.Severity.INTERNAL_ERROR: logging.ERROR,
            interface.Severity.ERROR: logging.ERROR,
            interface.Severity.WARNING: logging.INFO,  # plenty, and none for the user of an engine
            interface.Severity.INFO: logging.DEBUG,
        }
        errors: list[str] = []

        def log(_: object, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.NOTSET)
            if level == logging.ERROR:
                errors.append(message)
            elif level:
                logger.log(level, "%s: %s", trt.name, message)

        # The base class comes with the module, so that the subclass is made at run time, too.
        def start(sink: Any) -> None:
            interface.__init__(sink)

        self.sink = type("Sink", (interface,), {"__init__": start, "log": log})()
        self._errors = errors

    def take_errors(self) -> str:
        """Return the errors since the last call, the first ones if there are many."""
        found, self._errors[:] = list(dict.fromkeys(self._errors)), []
        return "; ".join(message.strip() for message in found[:3]) or "it gave no reason"

"""Chooses an inference backend: by name, or the preferred one that is installed."""

from __future__ import annotations

import importlib.util
import logging
import os

from edge_codec.engine import Engine
from edge_codec.errors import EngineError

BACKENDS = ("openvino", "onnxruntime")  # preferred first: docs/decisions/0006
PACKAGES = {"openvino": "edge-codec[openvino]", "onnxruntime": "onnxruntime"}

logger = logging.getLogger(__name__)


def available() -> tuple[str, ...]:
    """Return the names of the installed backends, preferred first."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def default_threads() -> int:
    """Return how many threads a frame gets: the cores this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, cores or 1))


def load_engine(model: bytes, backend: str = "auto", threads: int | None = None) -> Engine:
    """Load a network on a backend.

    Parameters
    ----------
    model : bytes
        ONNX file.
    backend : {'auto', 'openvino', 'onnxruntime'}
        'auto' takes the first of `available()`.
    threads : int, optional
        Threads for one frame; by default `default_threads()`.

    Raises
    ------
    EngineError
        If the backend is unknown or not installed, or refuses the model.
    """
    installed = available()
    if backend == "auto":
        if not installed:
            raise EngineError("no inference backend is installed; pip install onnxruntime")
        backend = installed[0]
    if backend not in BACKENDS:
        raise EngineError(f"backend '{backend}' is unknown; use auto, {', '.join(BACKENDS)}")
    if backend not in installed:
        raise EngineError(f"backend '{backend}' is missing; pip install {PACKAGES[backend]}")
    count = default_threads() if threads is None else threads
    if count < 1:
        raise EngineError(f"threads is {count}; use 1 or more")
    logger.info("backend %s, %d threads", backend, count)
    if backend == "openvino":
        from edge_codec.runtime.openvino_backend import OpenVinoEngine

        return OpenVinoEngine(model, count)
    from edge_codec.runtime.ort_backend import OrtEngine

    return OrtEngine(model, count)

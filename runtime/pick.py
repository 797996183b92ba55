"""Chooses an inference backend: by name, or the preferred one that is there.

On the CPU, 'auto' takes the first of `available()` that runs the network: our own engine where the
processor has AVX-512 VNNI and no AMX, which is where it was measured to be faster than the others.
It takes a GPU only if an engine for this very network and this kind of GPU lies in the cache, which
it does after `edge-codec build`: nobody's compression shall start with minutes of compiling, look
for a driver in vain, or run on a GPU that others use, without being asked. Our own backend goes
before TensorRT, since it is exact by construction; ONNX Runtime's providers are taken by name only.
An engine that fails or gives other integers than the CPU is reported, and another does the work.

A backend that is named is used or an error; a missing engine is built first.
"""

from __future__ import annotations

import importlib.util
import logging
import os

from edge_codec.engine import Engine
from edge_codec.errors import EngineError

PACKAGED = ("openvino", "onnxruntime")  # preferred first: docs/decisions/0006
CPU_BACKENDS = ("native", *PACKAGED)
GPU_BACKENDS = ("triton", "tensorrt", "ort-cuda", "ort-tensorrt")
BACKENDS = (*CPU_BACKENDS, *GPU_BACKENDS)
PACKAGES = {
    "native": "onnxruntime",  # which it is compared with when it is loaded
    "openvino": "edge-codec[openvino]",
    "onnxruntime": "onnxruntime",
}

logger = logging.getLogger(__name__)


def available() -> tuple[str, ...]:
    """Return the names of the CPU backends that are there, preferred first."""
    from edge_codec.runtime.native_backend import is_fast

    ranked = CPU_BACKENDS if is_fast() else (*PACKAGED, "native")
    packages = {name: "onnxruntime" if name == "native" else name for name in ranked}
    return tuple(name for name in ranked if importlib.util.find_spec(packages[name]) is not None)


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
    backend : str
        'auto', for which see the module, or one of `BACKENDS`.
    threads : int, optional
        Threads for one frame on the CPU; by default `default_threads()`.

    Raises
    ------
    EngineError
        If the backend is unknown or not installed, there is no GPU for it, or it refuses the
        model.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise EngineError(f"backend '{backend}' is unknown; use auto, {', '.join(BACKENDS)}")
    count = default_threads() if threads is None else threads
    if count < 1:
        raise EngineError(f"threads is {count}; use 1 or more")
    if backend in GPU_BACKENDS:
        from edge_codec.runtime.gpu_pick import load_gpu_engine

        logger.info("backend %s", backend)
        return load_gpu_engine(model, backend)
    if backend == "auto":
        engine = _load_built(model)
        if engine is not None:
            return engine
    return _load_on_cpu(model, backend, count)


def _load_built(model: bytes) -> Engine | None:
    """Load the engine that was built for this network and GPU, if there is one."""
    from edge_codec.runtime.engine_cache import EngineCache, cache_folder, digest_of

    if not EngineCache(cache_folder()).has(digest_of(model)):
        return None
    from edge_codec.runtime.gpu_pick import built_backends, load_gpu_engine

    try:
        for backend in built_backends(model):
            engine = load_gpu_engine(model, backend, build=False)
            logger.info("backend %s: its engine is in the cache", backend)
            return engine
    except EngineError as error:
        logger.warning("%s; going on with the CPU", error)
    return None


def _load_on_cpu(model: bytes, backend: str, threads: int) -> Engine:
    installed = available()
    if backend == "auto" and not installed:
        raise EngineError("no inference backend is installed; pip install onnxruntime")
    if backend != "auto":
        if backend not in installed:
            raise EngineError(f"backend '{backend}' is missing; pip install {PACKAGES[backend]}")
        return _load_named(model, backend, threads)
    engines = (_try_named(model, name, threads) for name in installed[:-1])
    return next(filter(None, engines), None) or _load_named(model, installed[-1], threads)


def _try_named(model: bytes, backend: str, threads: int) -> Engine | None:
    try:
        return _load_named(model, backend, threads)
    except EngineError as error:
        logger.warning("%s; going on with another backend", error)
        return None


def _load_named(model: bytes, backend: str, threads: int) -> Engine:
    logger.info("backend %s, %d threads", backend, threads)
    if backend == "native":
        from edge_codec.runtime.native_backend import NativeEngine
        from edge_codec.runtime.self_check import check_integers

        engine = NativeEngine(model, threads)
        check_integers(engine, model)
        return engine
    if backend == "openvino":
        from edge_codec.runtime.openvino_backend import OpenVinoEngine

        return OpenVinoEngine(model, threads)
    from edge_codec.runtime.ort_backend import OrtEngine

    return OrtEngine(model, threads)

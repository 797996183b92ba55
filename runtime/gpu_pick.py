"""Loads a network onto a GPU backend: finds its engine in the cache, or has it built.

Engines are built by `edge_codec.export`, which needs more than a deployed machine has to have. So
the builder is named here and imported when an engine is missing, as `edge_codec.cli` does with its
commands; where it cannot be imported, the message says where to build.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_codec.engine import Engine
from edge_codec.errors import EngineError
from edge_codec.manifest import Manifest
from edge_codec.runtime.engine_cache import (
    BUILDER,
    EngineCache,
    EngineKey,
    cache_folder,
    digest_of,
)
from edge_codec.runtime.self_check import check_integers
from edge_codec.runtime.tensorrt_module import TensorRt, load_tensorrt
from edge_codec.runtime.trt_backend import StreamDevice, TensorRtEngine

if TYPE_CHECKING:
    from edge_codec.runtime.gpu_frame import GpuVqvae

BUILDER_MODULE = "edge_codec.export.engine_builder"
FRAME_BUILDER_MODULE = "edge_codec.export.gpu_frame"
PRECISION = "int8"
"""What the zoo's networks are; other precisions are for engines that are loaded by hand."""


def engine_key(
    model: bytes,
    backend: str,
    capability: int,
    trt: TensorRt | None = None,
    device: StreamDevice | None = None,
) -> EngineKey:
    """Return what the engine of a network must have been made for.

    Parameters
    ----------
    model : bytes
        ONNX file.
    backend : {'triton', 'tensorrt', 'tensorrt_rtx'}
    capability : int
        Compute capability times ten.
    trt : TensorRt, optional
        Its version counts, unless the backend is our own.
    device : StreamDevice, optional
        The GPU itself and its driver count for TensorRT proper, which tunes for them.
    """
    tuned_for = device if backend == "tensorrt" else None
    return EngineKey(
        model=digest_of(model),
        backend=backend,
        version="" if trt is None else trt.version,
        builder=BUILDER,
        precision=PRECISION,
        capability=capability,
        gpu="" if tuned_for is None else tuned_for.name,
        driver="" if tuned_for is None else tuned_for.driver,
    )


def load_gpu_engine(model: bytes, backend: str, *, build: bool = True) -> Engine:
    """Load a network on a GPU and compare it with the CPU once.

    Parameters
    ----------
    model : bytes
        ONNX file.
    backend : {'triton', 'tensorrt', 'ort-cuda', 'ort-tensorrt'}
    build : bool
        Build an engine if there is none that fits; otherwise that is an error.

    Raises
    ------
    EngineError
        If there is no GPU, the backend is missing, the engine cannot be had, or it gives other
        integers than the CPU.
    """
    cache = EngineCache(cache_folder())
    engine = LOADERS[backend](model, backend, cache, build)
    check_integers(engine, model)
    return engine


def frame_key(manifest: Manifest, capability: int) -> EngineKey:
    """Return what a file that codes whole frames of a model must have been made for."""
    hashes = "".join(f"{name} {digest}\n" for name, digest in sorted(manifest.hashes.items()))
    return EngineKey(
        model=hashlib.sha256(hashes.encode()).hexdigest(),
        backend="triton",
        version="",
        builder=BUILDER,
        precision=PRECISION,
        capability=capability,
    )


def load_gpu_frames(manifest: Manifest) -> GpuVqvae:
    """Load what codes whole frames of a model on the GPU; build it if there is none that fits.

    Raises
    ------
    EngineError
        If there is no GPU, or the file cannot be had.
    """
    from edge_codec.runtime.gpu_frame import load_gpu_vqvae

    device = open_gpu()
    key = frame_key(manifest, device.capability)

    def build() -> bytes:
        data: bytes = _export(FRAME_BUILDER_MODULE).build_model_file(manifest, key.capability)
        return data

    data = EngineCache(cache_folder()).load_or_build(key, build)
    return load_gpu_vqvae(data, manifest, device)


def built_backends(model: bytes) -> tuple[str, ...]:
    """Return the backends that the cache has an engine for, of a network and this GPU.

    Raises
    ------
    EngineError
        If there is no GPU.
    """
    digest, device = digest_of(model), open_gpu()
    found = EngineCache(cache_folder()).find(digest, device.capability)
    names = {"tensorrt" if name == "tensorrt_rtx" else name for name in found}
    return tuple(name for name in LOADERS if name in names)


def open_gpu() -> StreamDevice:
    """Open the first GPU.

    Raises
    ------
    EngineError
        If cuda-python, the driver or the GPU is missing.
    """
    from edge_codec.runtime.cuda_device import open_cuda_device

    return open_cuda_device()


def _payload(model: bytes, key: EngineKey, cache: EngineCache, build: bool) -> bytes:
    if build:
        return cache.load_or_build(key, lambda: _build(model, key))
    try:
        payload = cache.load(key)
    except EngineError as error:
        raise EngineError(f"{error}; run edge-codec build") from error
    if payload is None:
        raise EngineError(f"no engine {key.file_name} in {cache.folder}; run edge-codec build")
    return payload


def _build(model: bytes, key: EngineKey) -> bytes:
    payload: bytes = _export(BUILDER_MODULE).build_payload(model, key)
    return payload


def _export(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineError(
            f"the engine is not in the cache and cannot be built here ({error}); run edge-codec "
            "build on a machine with 'edge-codec[kernels]' and copy the file to this one's cache"
        ) from error


def _load_triton(model: bytes, backend: str, cache: EngineCache, build: bool) -> Engine:
    device = open_gpu()
    from edge_codec.runtime.gpu_engine import read_engine
    from edge_codec.runtime.triton_backend import TritonEngine

    payload = _payload(model, engine_key(model, backend, device.capability), cache, build)
    return TritonEngine(read_engine(payload), device)


def _load_tensorrt(model: bytes, backend: str, cache: EngineCache, build: bool) -> Engine:
    del backend
    trt, device = load_tensorrt(), open_gpu()
    key = engine_key(model, trt.flavor, device.capability, trt, device)
    return TensorRtEngine(_payload(model, key, cache, build), device, trt)


def _load_onnxruntime(model: bytes, backend: str, cache: EngineCache, build: bool) -> Engine:
    del build  # its providers keep engines themselves
    from edge_codec.runtime.ort_gpu_backend import OrtGpuEngine

    if backend == "ort-tensorrt":  # it takes uint8 activations for int8 ones, without a word
        model = _export(BUILDER_MODULE).tensorrt_onnx(model)
    return OrtGpuEngine(model, backend, cache.folder)


LOADERS: dict[str, Callable[[bytes, str, EngineCache, bool], Engine]] = {
    "triton": _load_triton,
    "tensorrt": _load_tensorrt,
    "ort-cuda": _load_onnxruntime,
    "ort-tensorrt": _load_onnxruntime,
}
"""By backend: ONNX file, backend, cache, whether to build -> engine."""

"""The zoo's networks as TensorRT engines, where TensorRT is: the integers, and the time."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.gpu_proof.devices import own_engine
from benchmarks.gpu_proof.networks import compare
from benchmarks.gpu_proof.section import Row, Setting, SkippedError
from benchmarks.record import percentiles
from edge_codec.engine import Engine
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId

RUNS = 500
WARM_UP = 50


def section(setting: Setting) -> Iterator[Row]:
    """Yield how TensorRT agrees and how long it takes, and the time of our own backend."""
    if setting.interpret:
        raise SkippedError("TensorRT runs on a GPU")
    from edge_codec.runtime.gpu_pick import load_gpu_engine

    flavors = [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)]
    for network in ("encoder.onnx", "decoder.onnx"):
        model = load_manifest(ModelId.VQVAE).read(network)
        yield _time(network, own_engine(model, setting))
        if flavors:
            engine = load_gpu_engine(model, "tensorrt")
            yield from compare(network, model, engine, setting)
            yield _time(network, engine)
    if not flavors:
        raise SkippedError("neither tensorrt nor tensorrt_rtx is installed")


def _time(network: str, engine: Engine) -> Row:
    """Time a 256x256 frame, one at a time, host to host."""
    shape = (1, 1, 256, 256) if network == "encoder.onnx" else (1, 32, 32)
    dtype = np.uint8 if network == "encoder.onnx" else np.int32
    tensor = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    times = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        engine.run(tensor)
        times.append(1e3 * (time.perf_counter() - start))
    return {"network": network, "engine": engine.name, "ms": percentiles(times[WARM_UP:])}

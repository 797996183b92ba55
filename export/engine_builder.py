"""From ONNX to TensorRT's engines, and to those of our own GPU backend.

Networks are strongly typed: the types in the ONNX file are the types that run. INT8 is what its
QuantizeLinear and DequantizeLinear say, FP16 is a file that was cast to it
(`edge_codec.export.fp16`); there is no calibrator and no precision flag, which TensorRT 11 has no
longer. TF32 is switched off.

TensorRT builds for the GPU of this machine, and times kernels on it: a Jetson's engine is built on
the Jetson. TensorRT-RTX and our own backend compile for GPUs that are not here.

Nodes of our own domain become plugins with our kernels in them where there can be some: in float16
networks, on TensorRT 10.9 and newer, with Triton installed to compile them. Elsewhere TensorRT runs
the function bodies that the ONNX file holds for them.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import onnx

from edge_codec.errors import EngineError, SourceError
from edge_codec.export.trt_network import tensorrt_network
from edge_codec.export.trt_profile import Profile, frame_profile
from edge_codec.io.atomic import atomic_file
from edge_codec.kernels.plugin import (
    MIN_TENSORRT,
    NAMES,
    NAMESPACE,
    PluginTarget,
    ptx_version,
    register_plugins,
)
from edge_codec.runtime.engine_cache import EngineKey, cache_folder
from edge_codec.runtime.tensorrt_module import TensorRt, TrtLog, load_tensorrt

MAX_TIMING_CACHE = 1 << 28

logger = logging.getLogger(__name__)


def read_network(data: bytes) -> onnx.ModelProto:
    """Parse and check an ONNX file.

    Raises
    ------
    EngineError
        If it is none, or invalid.
    """
    try:
        proto = onnx.load_model_from_string(data)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and the checker's errors have no common base
        raise EngineError(f"not a valid ONNX file ({error}); export the network again") from error
    return proto


def prepare_network(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return the network that TensorRT is to build, of the types that are to run.

    Parameters
    ----------
    precision : {'int8', 'fp16'}
        int8 takes a quantized network as it is; fp16 casts a float one.

    Raises
    ------
    EngineError
        If the network is not of that kind.
    """
    quantized = any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    if precision == "int8":
        if not quantized:
            raise EngineError("the network is not quantized; use --precision fp16 or quantize it")
        return tensorrt_network(proto)
    if precision != "fp16":
        raise EngineError(f"precision '{precision}' is unknown; use int8 or fp16")
    if quantized:
        raise EngineError(
            "the network is quantized, and in fp16 it would give other integers; use "
            "--precision int8, or --model with the float network's ONNX file"
        )
    from edge_codec.export.fp16 import to_float16

    return to_float16(proto)


def build_engine(
    proto: onnx.ModelProto,
    trt: TensorRt,
    profile: Profile,
    *,
    capability: int | None = None,
    timing_cache: Path | None = None,
    plugins: PluginTarget | None = None,
) -> bytes:
    """Compile a network with TensorRT or TensorRT-RTX.

    Parameters
    ----------
    proto : onnx.ModelProto
        As `prepare_network` returns it.
    trt : TensorRt
    profile : Profile
        Shapes of the inputs that have no fixed ones.
    capability : int, optional
        GPU to build for, compute capability times ten, with TensorRT-RTX; by default this
        machine's.
    timing_cache : Path, optional
        File of kernel timings, which makes the next build faster; read and written with TensorRT.
    plugins : PluginTarget, optional
        Put our kernels in place of the function bodies of our nodes; see `plugin_target`.

    Returns
    -------
    bytes
        The serialized engine.

    Raises
    ------
    EngineError
        If TensorRT refuses the network, the shapes or the target, or there is no GPU.
    """
    log, module = TrtLog(trt), trt.module
    try:
        builder = module.Builder(log.sink)
    except (TypeError, RuntimeError) as error:  # a null pointer from the library
        raise EngineError(
            f"{trt.name} cannot start its builder: {log.take_errors()}; check the NVIDIA driver"
        ) from error
    flags = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if plugins is not None:
        register_plugins(plugins)
        proto = _without_bodies(proto)
        flags |= 1 << int(module.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS)
    network = builder.create_network(flags)
    _parse(proto, module.OnnxParser(network, log.sink), log, trt)
    config = builder.create_builder_config()
    config.clear_flag(module.BuilderFlag.TF32)
    _set_target(config, trt, capability)
    _set_profile(builder, config, profile, log)
    cache = _open_timing_cache(config, trt, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{trt.name} builds no engine: {log.take_errors()}")
    if cache is not None and timing_cache is not None:
        _keep_timing_cache(timing_cache, bytes(cache.serialize()))
    return bytes(plan)


def tensorrt_onnx(model: bytes) -> bytes:
    """Rewrite the ONNX file of an integer network for TensorRT (`edge_codec.export.trt_network`).

    Raises
    ------
    EngineError
        As `read_network` and `tensorrt_network`.
    """
    data: bytes = tensorrt_network(read_network(model)).SerializeToString()
    return data


def build_payload(model: bytes, key: EngineKey, profile: Profile | None = None) -> bytes:
    """Build the engine that a key asks for.

    Parameters
    ----------
    model : bytes
        ONNX file.
    key : EngineKey
    profile : Profile, optional
        By default, single frames of about 256x256.

    Raises
    ------
    EngineError
        If the backend is missing or cannot build it.
    """
    if key.backend == "triton":
        return _build_own(model, key)
    trt = load_tensorrt((key.backend,))
    proto = prepare_network(read_network(model), key.precision)
    return build_engine(
        proto,
        trt,
        frame_profile(proto, 256, 256) if profile is None else profile,
        capability=key.capability if key.backend == "tensorrt_rtx" else None,
        timing_cache=cache_folder() / f"timing-{trt.version}-sm_{key.capability}.cache",
        plugins=plugin_target(proto, trt, key),
    )


def _build_own(model: bytes, key: EngineKey) -> bytes:
    if key.precision != "int8":
        raise EngineError("the backend 'triton' runs integer networks; use --precision int8")
    try:
        from edge_codec.export.gpu_engine import build_engine as build_own
    except ImportError as error:
        raise EngineError(
            f"engines of the backend 'triton' need Triton's compiler ({error}); pip install "
            "'edge-codec[kernels]'"
        ) from error
    return build_own(model, key.capability)


def plugin_target(proto: onnx.ModelProto, trt: TensorRt, key: EngineKey) -> PluginTarget | None:
    """Return what our plugins are to be compiled for, or None where function bodies are to run."""
    if not any(node.domain == NAMESPACE and node.op_type in NAMES for node in proto.graph.node):
        return None
    if key.precision != "fp16" or trt.flavor != "tensorrt" or trt.release < MIN_TENSORRT:
        return None
    if importlib.util.find_spec("triton") is None:
        logger.warning("Triton is not installed: no plugins, but slower standard operators")
        return None
    return PluginTarget(key.capability, ptx_version(key.driver))


def _without_bodies(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Take the function bodies away that TensorRT would prefer to the plugins of their names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    kept = [f for f in copy.functions if f.domain != NAMESPACE or f.name not in NAMES]
    del copy.functions[:]
    copy.functions.extend(kept)
    return copy


def _parse(proto: onnx.ModelProto, parser: Any, log: TrtLog, trt: TensorRt) -> None:
    if parser.parse(proto.SerializeToString()):
        return
    found = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    reasons = "; ".join(found) or log.take_errors()
    raise EngineError(f"{trt.name} refuses the network: {reasons}")


def _set_target(config: Any, trt: TensorRt, capability: int | None) -> None:
    if capability is None:
        return
    if trt.flavor != "tensorrt_rtx":
        raise EngineError(
            f"TensorRT builds for the GPU of its own machine only; run edge-codec build --target "
            f"this on the machine with sm_{capability}, or use --backend triton"
        )
    target = getattr(trt.module.ComputeCapability, f"SM{capability}", None)
    if target is None:
        known = [
            name[2:] for name in trt.module.ComputeCapability.__members__ if name[2:].isdigit()
        ]
        raise EngineError(
            f"{trt.name} has no target sm_{capability}, but {', '.join(known)}; use --backend "
            "triton, or TensorRT on the machine itself"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _set_profile(builder: Any, config: Any, profile: Profile, log: TrtLog) -> None:
    if not profile.shapes:
        return
    chosen = builder.create_optimization_profile()
    for name, shapes in profile.shapes.items():
        chosen.set_shape(name, *shapes)
    if config.add_optimization_profile(chosen) < 0:
        raise EngineError(f"shapes {profile} are refused: {log.take_errors()}")


def _open_timing_cache(config: Any, trt: TensorRt, path: Path | None) -> Any:
    """Give earlier timings to a build; return where it adds its own, or None."""
    if path is None or trt.flavor == "tensorrt_rtx":  # it times nothing
        return None
    data = b""
    if path.is_file() and path.stat().st_size <= MAX_TIMING_CACHE:
        data = path.read_bytes()
    cache = config.create_timing_cache(data)  # what does not fit becomes an empty one
    config.set_timing_cache(cache, ignore_mismatch=False)
    return config.get_timing_cache()


def _keep_timing_cache(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, force=True) as file:
            file.write(data)
    except (OSError, SourceError) as error:  # the engine is what was asked for
        logger.warning("kernel timings are not kept: %s", error)

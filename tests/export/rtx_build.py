"""Builds an ONNX file with TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

from collections.abc import Mapping

Shape = tuple[int, ...]


def build(model: bytes, shapes: Mapping[str, tuple[Shape, Shape, Shape]]) -> int:
    """Build a strongly typed engine for one architecture; return its size in bytes."""
    import tensorrt_rtx as trt

    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flag)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(model):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise AssertionError(errors)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, sizes in shapes.items():
        profile.set_shape(name, *sizes)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, "the engine cannot be built"
    return int(engine.nbytes)

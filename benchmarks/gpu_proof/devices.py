"""Our own GPU backend on the GPU, or on Triton's interpreter where there is none."""

from __future__ import annotations

from benchmarks.gpu_proof.section import Setting
from edge_codec.engine import Engine
from edge_codec.export.gpu_engine import build_engine
from edge_codec.runtime.device import Device
from edge_codec.runtime.gpu_engine import read_engine
from edge_codec.runtime.triton_backend import TritonEngine

INTERPRETED = 90  # any architecture's block sizes will do


def open_device(setting: Setting) -> Device:
    """Open the GPU, or the interpreter."""
    if setting.interpret:
        from edge_codec.bench.kernels.interpreter_device import InterpreterDevice

        return InterpreterDevice()
    from edge_codec.runtime.cuda_device import open_cuda_device

    return open_cuda_device()


def own_engine(model: bytes, setting: Setting) -> Engine:
    """Build a network for our own backend and load it; nothing is taken from a cache."""
    device = open_device(setting)
    if setting.interpret:
        from edge_codec.bench.kernels.interpreter_device import compile_nothing

        data = build_engine(model, INTERPRETED, compile_nothing)
    else:
        data = build_engine(model, device.capability)
    return TritonEngine(read_engine(data), device)

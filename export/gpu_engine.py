"""Builds engine files of our own GPU backend: ONNX to plan, plan to kernels, proof, file.

The proof: the file is read back, its layers are executed by the kernels' NumPy reference on random
inputs, and every integer must be the one that the ONNX file itself gives in exact arithmetic
(`edge_codec.runtime.integer_reference`). That the kernels equal their reference is what the
kernels' tests and `edge-codec bench kernels` show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.aot import CompiledKernel, compile_kernel
from edge_codec.kernels.int8_conv import layer_spec
from edge_codec.kernels.int8_layer import unpack
from edge_codec.kernels.reference.int8_conv import int8_conv
from edge_codec.kernels.spec import KernelSpec
from edge_codec.runtime.device import StoredKernel
from edge_codec.runtime.gpu_engine import GpuEngine, GpuLayer, read_engine, write_engine
from edge_codec.runtime.integer_chain import read_plan
from edge_codec.runtime.integer_reference import IntegerReference

Compiler = Callable[[KernelSpec, int], CompiledKernel]

TRIALS = ((1, 1, 1), (2, 3, 5), (1, 6, 4))
"""Images, rows and columns of the proof's inputs, in pixels of the first layer."""


def build_engine(onnx: bytes, capability: int, compiler: Compiler = compile_kernel) -> bytes:
    """Build the engine file of an integer network.

    Parameters
    ----------
    onnx : bytes
        ONNX file, as `edge_codec.export.qdq` makes it.
    capability : int
        Compute capability times ten, one of `edge_codec.kernels.aot.ARCHITECTURES`.
    compiler : callable
        Makes machine code of a specification; tests have one that makes none.

    Raises
    ------
    EngineError
        If the network is no integer chain, a kernel does not compile, or the engine would not
        give the network's integers.
    """
    plan = read_plan(onnx)
    kernels: dict[str, StoredKernel] = {}
    layers = []
    for number, planned in enumerate(plan.layers):
        table = plan.table if number == 0 else None
        spec = layer_spec(planned.conv.shape, capability, table is not None)
        if spec.name not in kernels:
            function = planned.conv.shape.function(table is not None)
            kernels[spec.name] = stored_kernel(
                spec.name, function, spec, compiler(spec, capability)
            )
        layers.append(GpuLayer(planned.name, kernels[spec.name], planned.conv, table))
    engine = GpuEngine(
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        capability=capability,
        compiler=f"triton {triton.__version__}",
        layers=tuple(layers),
        planes=plan.planes,
    )
    data = write_engine(engine)
    prove(read_engine(data), onnx)
    return data


def stored_kernel(
    name: str, function: str, spec: KernelSpec, compiled: CompiledKernel
) -> StoredKernel:
    """Return a compiled kernel as an engine file holds it.

    Parameters
    ----------
    name : str
        Its name in the file.
    function : str
        Where its source is, `module:name`.
    spec : KernelSpec
        What was compiled.
    compiled : CompiledKernel
        Its machine code.
    """
    return StoredKernel(
        name=name,
        function=function,
        constants=dict(spec.constants),
        symbol=compiled.symbol,
        arguments=compiled.arguments,
        num_warps=compiled.num_warps,
        shared_bytes=compiled.shared_bytes,
        cubin=compiled.cubin,
    )


def prove(engine: GpuEngine, onnx: bytes) -> None:
    """Compare an engine with its network, on random and extreme inputs.

    Raises
    ------
    EngineError
        If any integer differs.
    """
    network = IntegerReference(onnx)
    for tensor in _trials(engine):
        expected, found = network.run(tensor), execute(engine, tensor)
        if expected.dtype != found.dtype or not np.array_equal(expected, found):
            raise EngineError(
                f"the engine would not give the network's integers for an input of {tensor.shape}; "
                "the network has a layer that looks like a known one and is another"
            )


def execute(engine: GpuEngine, tensor: NDArray[Any]) -> NDArray[Any]:
    """Run an engine's layers in NumPy, by the definition of its kernels.

    Parameters
    ----------
    tensor : ndarray, shape (n, 1, height, width) uint8, or (n, height, width) int32
        Frame, or tokens.
    """
    table = engine.layers[0].table
    x = np.moveaxis(tensor, 1, -1) if table is None else table[tensor]
    for layer in engine.layers:
        x = int8_conv(x, *unpack(layer.conv), layer.conv.shape)
    return np.moveaxis(x, -1, 1) if engine.planes else x


def _trials(engine: GpuEngine) -> Iterator[NDArray[Any]]:
    rng = np.random.default_rng(0)
    first = engine.layers[0]
    for n, height, width in TRIALS:
        if first.table is not None:
            yield rng.integers(0, len(first.table), (n, height, width)).astype(np.int32)
            continue
        block = first.conv.shape.unpack
        frame = rng.integers(0, 256, (n, 1, height * block, width * block)).astype(np.uint8)
        yield frame
        yield frame // 128 * 255

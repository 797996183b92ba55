"""Engine files of our own GPU backend: an integer network as launches of compiled kernels.

An engine file is an archive (`edge_codec.runtime.gpu_archive`) for one architecture. Its index
holds what the network is, its layers in order, and the kernels; its other members are machine code,
and the numbers of the layers as .npy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.int8_layer import ConvShape, PackedConv
from edge_codec.runtime.device import StoredKernel
from edge_codec.runtime.gpu_archive import (
    REBUILD,
    Index,
    Members,
    describe_kernel,
    read_archive,
    read_kernel,
    whole,
    write_archive,
)

FORMAT = "edge-codec GPU engine"
VERSION = 1

MAX_LAYERS = 1024
MAX_TILE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class GpuLayer:
    """One launch.

    Attributes
    ----------
    name : str
        Of the node in the ONNX file.
    kernel : StoredKernel
        Its constants BLOCK_M and BLOCK_N are the pixels and outputs of a program.
    conv : PackedConv
    table : ndarray, shape (tokens, inputs), uint8 or int8, or None
        The rows that the layer reads, where its input is tokens; only the first layer's may be.
    """

    name: str
    kernel: StoredKernel
    conv: PackedConv
    table: NDArray[Any] | None = None

    def grid(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Programs for `size`, images of height x width pixels of the layer's input.

        Raises
        ------
        EngineError
            If that is nothing, or too much.
        """
        constants = self.kernel.constants
        return self.conv.shape.grid(size, constants["BLOCK_M"], constants["BLOCK_N"])


@dataclass(frozen=True, slots=True, eq=False)
class GpuEngine:
    """An integer network, compiled for an architecture.

    Its input is a frame, (n, 1, height, width) uint8, or tokens, (n, height, width) int32, where
    the first layer has a table.

    Attributes
    ----------
    onnx_sha256 : str
        Of the ONNX file, in hexadecimal digits.
    capability : int
        Compute capability times ten.
    compiler : str
        Name and version.
    layers : tuple of GpuLayer
        Each reads what the one before wrote.
    planes : bool
        The output is (n, 1, height, width) rather than channels last.
    """

    onnx_sha256: str
    capability: int
    compiler: str
    layers: tuple[GpuLayer, ...]
    planes: bool


def write_engine(engine: GpuEngine) -> bytes:
    """Return the file of an engine."""
    kernels = {layer.kernel.name: layer.kernel for layer in engine.layers}
    members = {f"{name}.cubin": kernel.cubin for name, kernel in kernels.items()}
    for number, layer in enumerate(engine.layers):
        for what, array in _arrays(layer).items():
            header = _npy_header(array.shape, array.dtype)
            members[_array(number, what)] = header + array.tobytes()
    index = {
        "onnx_sha256": engine.onnx_sha256,
        "capability": engine.capability,
        "compiler": engine.compiler,
        "planes": engine.planes,
        "layers": [_describe_layer(layer) for layer in engine.layers],
        "kernels": {name: describe_kernel(kernel) for name, kernel in kernels.items()},
    }
    return write_archive(FORMAT, VERSION, index, members)


def _array(number: int, what: str) -> str:
    return f"layer_{number}_{what}.npy"


def _arrays(layer: GpuLayer) -> dict[str, NDArray[Any]]:
    conv = layer.conv
    table = {} if layer.table is None else {"table": layer.table}
    return {"weights": conv.weights, "bias": conv.bias, "shift": conv.shift, **table}


def _describe_layer(layer: GpuLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kernel": layer.kernel.name,
        "shape": asdict(layer.conv.shape),
        "tokens": 0 if layer.table is None else len(layer.table),
    }


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Header of a .npy file, version 1.0: what is read is compared with it rather than parsed."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(0x75).encode() + b"\n"


def read_engine(data: bytes) -> GpuEngine:
    """Read an engine file.

    Every member is compared with its SHA-256, and every number that later sizes memory or a launch
    is compared with what the layers before it say. The machine code is taken as it is: an engine
    file is a program, to be trusted as much as whoever made it.

    Raises
    ------
    EngineError
        If it is damaged, truncated, of another format, or its parts do not fit together.
    """
    return read_archive(FORMAT, VERSION, data, _read_index)


def _read_index(index: Index, members: Members) -> GpuEngine:
    kernels = {
        str(name): read_kernel(str(name), fields, members)
        for name, fields in index["kernels"].items()
    }
    if not 1 <= len(index["layers"]) <= MAX_LAYERS:
        raise EngineError(f"an engine of {len(index['layers'])} layers; use 1..{MAX_LAYERS}")
    engine = GpuEngine(
        onnx_sha256=str(index["onnx_sha256"]),
        capability=whole(index["capability"]),
        compiler=str(index["compiler"]),
        layers=tuple(
            _read_layer(number, fields, kernels, members)
            for number, fields in enumerate(index["layers"])
        ),
        planes=bool(index["planes"]),
    )
    _check_chain(engine)
    return engine


def _read_layer(
    number: int,
    fields: dict[str, Any],
    kernels: Mapping[str, StoredKernel],
    members: Members,
) -> GpuLayer:
    shape = ConvShape(**fields["shape"])

    def read(what: str, size: tuple[int, ...], kind: type) -> NDArray[Any]:
        return _read_npy(members[_array(number, what)], size, np.dtype(kind))

    conv = PackedConv(
        shape,
        read("weights", shape.weight_shape, np.int8),
        read("bias", (shape.outputs,), np.int32),
        read("shift", (shape.outputs,), np.int32),
    )
    table, tokens = None, whole(fields["tokens"])
    if tokens:
        table = read("table", (tokens, shape.inputs), np.int8 if shape.signed_input else np.uint8)
    layer = GpuLayer(str(fields["name"]), kernels[fields["kernel"]], conv, table)
    _check_kernel(layer)
    return layer


def _read_npy(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    header = _npy_header(shape, dtype)
    if not data.startswith(header):
        raise EngineError(f"an array of the engine file is no {shape} {dtype}; {REBUILD}")
    return np.frombuffer(data, dtype, offset=len(header)).reshape(shape)


def _check_kernel(layer: GpuLayer) -> None:
    shape, kernel, has_table = layer.conv.shape, layer.kernel, layer.table is not None
    constants = shape.constants()
    tile = [kernel.constants[name] for name in ("BLOCK_M", "BLOCK_N")]
    found = (
        kernel.function,
        kernel.arguments,
        {name: kernel.constants.get(name) for name in constants},
    )
    expected = (shape.function(has_table), tuple(shape.signature(has_table).values()), constants)
    if found != expected or not all(1 <= side <= MAX_TILE for side in tile):
        raise EngineError(
            f"kernel '{kernel.name}' is not that of layer '{layer.name}', {shape.name}; {REBUILD}"
        )


def _check_chain(engine: GpuEngine) -> None:
    """Check that each layer reads what the one before writes."""
    first, last = engine.layers[0].conv.shape, engine.layers[-1].conv.shape
    if engine.layers[0].table is None:
        is_source = first.inputs == first.unpack**2 and not first.signed_input
    else:
        is_source = first.unpack == 1 and not first.depthwise
    is_result = not engine.planes or last.outputs == last.spread**2
    joints = zip(engine.layers, engine.layers[1:], strict=False)
    if not (is_source and is_result and all(_fit(*joint) for joint in joints)):
        raise EngineError(f"the layers of the engine file do not fit together; {REBUILD}")


def _fit(before: GpuLayer, after: GpuLayer) -> bool:
    left, right = before.conv.shape, after.conv.shape
    return (
        after.table is None
        and left.signed_output == right.signed_input
        and left.outputs // left.spread**2 == right.inputs // right.unpack**2
    )

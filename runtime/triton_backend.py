"""Our own GPU backend: integer networks as recorded launches of compiled kernels.

Needs NumPy and a device (`edge_codec.runtime.device`), but neither PyTorch nor Triton nor
TensorRT. The kernels compute in integers, so that the results are those of every other backend.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.runtime.device import Device, Graph
from edge_codec.runtime.gpu_engine import GpuEngine
from edge_codec.runtime.gpu_network import GpuNetwork

MAX_SHAPES = 4
"""How many shapes of the input keep their memory and their recording."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """One frame's work for one shape of the input.

    Attributes
    ----------
    source, result : ndarray
        The input and the output, in pinned memory.
    graph : Graph
        Copies the input to the device, runs all layers, copies the output back.
    """

    source: NDArray[Any]
    result: NDArray[Any]
    graph: Graph


class TritonEngine:
    """A network on a GPU; see `edge_codec.engine.Engine`.

    The first frame of a shape allocates memory and records its work; the frames after it only
    replay it. An engine, and all engines of one device, are for one thread at a time.

    Parameters
    ----------
    engine : GpuEngine
        As `edge_codec.runtime.gpu_engine.read_engine` returns it.
    device : Device

    Raises
    ------
    EngineError
        If the engine is for another architecture, or the device refuses its kernels.
    """

    def __init__(self, engine: GpuEngine, device: Device) -> None:
        self._engine = engine
        self._device = device
        self._network = GpuNetwork(engine, device)
        self._recordings: OrderedDict[tuple[int, ...], _Recording] = OrderedDict()
        self.name = f"triton kernels on {device.name}, int8"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output.

        Parameters
        ----------
        tensor : ndarray
            Frame, (n, 1, height, width) uint8, or tokens, (n, height, width) int32.

        Raises
        ------
        EngineError
            If it has another dtype or shape, a token has no row in the table, or the device fails.
        """
        self._check_input(tensor)
        recording = self._recordings.get(tensor.shape)
        if recording is None:
            recording = self._record(tensor)
        self._recordings.move_to_end(tensor.shape)
        np.copyto(recording.source, tensor)
        recording.graph.replay()
        self._device.synchronize()
        return recording.result.copy()

    def _check_input(self, tensor: NDArray[Any]) -> None:
        table = self._engine.layers[0].table
        shape = "(n, 1, height, width)" if table is None else "(n, height, width)"
        dtype = np.dtype(np.uint8 if table is None else np.int32)
        is_frame = tensor.ndim == 4 and tensor.shape[1] == 1
        if tensor.dtype != dtype or not (is_frame if table is None else tensor.ndim == 3):
            raise EngineError(
                f"the input is {tensor.shape} {tensor.dtype}; this network takes {shape} {dtype}"
            )
        if tensor.size == 0:
            raise EngineError(f"the input is {tensor.shape}; nothing is in it")
        # The kernel takes a token's row from wherever the token says.
        if table is not None and not 0 <= tensor.min() <= tensor.max() < len(table):
            raise EngineError(
                f"tokens are {tensor.min()}..{tensor.max()}, the network has 0..{len(table) - 1}; "
                "the stream is of another model or damaged"
            )

    def _record(self, tensor: NDArray[Any]) -> _Recording:
        """Allocate for the shape of an input, and record its work."""
        device, network = self._device, self._network
        plan = network.plan(tensor.shape)
        while len(self._recordings) >= MAX_SHAPES:
            self._recordings.popitem(last=False)
        n, rows, columns, channels = plan.stored[-1]
        shape = (n, channels, rows, columns) if self._engine.planes else plan.stored[-1]
        signed = self._engine.layers[-1].conv.shape.signed_output
        source = _pin(device, tensor.shape, tensor.dtype)
        result = _pin(device, shape, np.dtype(np.int8 if signed else np.uint8))
        first, last = device.allocate(source.nbytes), device.allocate(result.nbytes)
        between = network.allocate(plan)

        def work() -> None:
            device.upload(source, first)
            network.start(plan, first, between, last)
            device.download(last, result)

        recording = _Recording(source, result, device.record(work))
        self._recordings[tensor.shape] = recording
        return recording


def _pin(device: Device, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return device.pin(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

"""TensorRT and TensorRT-RTX on an NVIDIA GPU, without torch.

Memory, stream and graphs are those of `edge_codec.runtime.cuda_device`; TensorRT only adds its
work to the stream. A shape is run once, so that TensorRT has done what it does lazily, then its
copies and kernels are recorded, and from then on a frame is one launch of that graph.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.runtime.device import Buffer, Device, Graph
from edge_codec.runtime.tensorrt_module import TensorRt, TrtLog

MAX_SHAPES = 4

logger = logging.getLogger(__name__)


class StreamDevice(Device, Protocol):
    """A device in whose stream another library may start work."""

    @property
    def driver(self) -> str:
        """CUDA version of the driver: '13.0'."""

    def activate(self) -> int:
        """Make the GPU the calling thread's and return the handle of the stream."""

    def address(self, buffer: Buffer) -> int:
        """Return where a buffer lies in the GPU's memory."""


@dataclass(slots=True)
class _Shape:
    """What one input shape needs; kept together, since the graph refers to all of it.

    Attributes
    ----------
    context : IExecutionContext
    source, target : ndarray
        Input and output in pinned memory.
    buffers : (Buffer, Buffer)
        Input and output on the GPU.
    graph : Graph or None
        The whole of a run; None if it could not be recorded.
    """

    context: Any
    source: NDArray[Any]
    target: NDArray[Any]
    buffers: tuple[Buffer, Buffer]
    graph: Graph | None = None


class TensorRtEngine:
    """A network of one input and one output, compiled by TensorRT.

    Parameters
    ----------
    engine : bytes
        As `edge_codec.export.engine_builder.build_engine` returned it.
    device : StreamDevice
    trt : TensorRt
        The version that built the engine.

    Raises
    ------
    EngineError
        If TensorRT does not load it here.
    """

    def __init__(self, engine: bytes, device: StreamDevice, trt: TensorRt) -> None:
        self._device = device
        self._trt = trt
        self._log = TrtLog(trt)
        device.activate()
        try:
            self._runtime = trt.module.Runtime(self._log.sink)
        except (TypeError, RuntimeError) as error:  # a null pointer from the library
            raise self._failure("does not start", "check the NVIDIA driver") from error
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise self._failure(
                f"does not load the engine on {device.name}", "build it here with edge-codec build"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = trt.module.TensorIOMode.INPUT
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == is_input]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(f"the engine has inputs {inputs} and outputs {outputs}, not one each")
        self._input, self._output = inputs[0], outputs[0]
        self._dtypes = self._dtype(self._input), self._dtype(self._output)
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        self.name = f"{trt.flavor} {trt.version} {device.name}"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`; see `edge_codec.engine.Engine`."""
        if tensor.dtype != self._dtypes[0]:
            raise EngineError(f"the network takes {self._dtypes[0]}, not {tensor.dtype}")
        shape = self._shapes.get(tensor.shape)
        if shape is None:
            shape = self._prepare(tensor)
        else:
            shape.source[...] = tensor
            self._start(shape)
        self._device.synchronize()
        return shape.target.copy()

    def _start(self, shape: _Shape) -> None:
        if shape.graph is not None:
            shape.graph.replay()
        else:
            self._enqueue(shape)

    def _prepare(self, tensor: NDArray[Any]) -> _Shape:
        """Allocate for a shape, run it once, and record it; an old shape makes room."""
        while len(self._shapes) >= MAX_SHAPES:
            self._shapes.pop(next(iter(self._shapes)))
        shape = self._allocate(tensor.shape)
        shape.source[...] = tensor
        self._enqueue(shape)
        self._device.synchronize()
        try:
            shape.graph = self._device.record(lambda: self._enqueue(shape))
        except EngineError as error:
            logger.warning("%s runs without a CUDA graph: %s", self.name, error)
        self._shapes[tensor.shape] = shape
        return shape

    def _allocate(self, sizes: tuple[int, ...]) -> _Shape:
        self._check_sizes(sizes)
        self._device.activate()
        context = self._engine.create_execution_context()
        if context is None:
            raise self._failure("gives no execution context", "free memory of the GPU")
        if not context.set_input_shape(self._input, sizes):
            raise self._failure(f"refuses an input of {sizes}", "build an engine for that shape")
        output = tuple(context.get_tensor_shape(self._output))
        if any(size < 0 for size in output):
            raise EngineError(f"the output for {sizes} has no fixed shape, but {output}")
        arrays = [
            self._pinned(found, dtype)
            for found, dtype in zip((sizes, output), self._dtypes, strict=True)
        ]
        source, target = (self._device.allocate(array.nbytes) for array in arrays)
        for name, buffer in ((self._input, source), (self._output, target)):
            if not context.set_tensor_address(name, self._device.address(buffer)):
                raise self._failure(f"refuses the memory of '{name}'", "report this")
        return _Shape(context, arrays[0], arrays[1], (source, target))

    def _check_sizes(self, sizes: tuple[int, ...]) -> None:
        """Refuse what the engine was not built for, and say what it was built for."""
        smallest, _, largest = (
            tuple(found) for found in self._engine.get_tensor_profile_shape(self._input, 0)
        )
        fits = len(sizes) == len(smallest) and all(
            low <= size <= high for low, size, high in zip(smallest, sizes, largest, strict=True)
        )
        if not fits:
            raise EngineError(
                f"the engine takes inputs from {smallest} to {largest}, not {sizes}; build one "
                "for that with edge-codec build"
            )

    def _pinned(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(sizes) * dtype.itemsize
        if size == 0:
            raise EngineError(f"an array of shape {sizes} is empty")
        return self._device.pin(size).view(dtype).reshape(sizes)

    def _enqueue(self, shape: _Shape) -> None:
        """Start a run: the input to the GPU, the network, the output back."""
        source, target = shape.buffers
        self._device.upload(shape.source, source)
        if not shape.context.execute_async_v3(self._device.activate()):
            raise self._failure("does not run the network", "build the engine again")
        self._device.download(target, shape.target)

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = self._engine.get_tensor_dtype(name)
        try:
            dtype: np.dtype[Any] = np.dtype(self._trt.module.nptype(found))
        except TypeError as error:  # bfloat16 and smaller
            raise EngineError(f"'{name}' is {found}, which NumPy does not have") from error
        return dtype

    def _failure(self, what: str, cure: str) -> EngineError:
        return EngineError(f"{self._trt.name} {what}: {self._log.take_errors()}; {cure}")

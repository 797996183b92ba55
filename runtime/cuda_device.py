"""An NVIDIA GPU as `edge_codec.runtime.device` asks for it, through the driver and cuda-python.

Nothing else is needed: no CUDA toolkit, no torch, no Triton. Work goes to one stream. What it
touches, buffers and pinned memory and kernels, is kept until `synchronize` has seen it end, or for
as long as the graph lives that it was recorded into. Replaying a graph is one call of the driver.

A device may be used from any thread, but not by two at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.runtime.cubin import check_cubin
from edge_codec.runtime.cuda_context import CudaContext, open_context, write_version
from edge_codec.runtime.cuda_fork import CudaFork
from edge_codec.runtime.cuda_function import CudaBuffer, CudaFunction
from edge_codec.runtime.device import Buffer, Function, Graph, StoredKernel

WARP = 32
MAX_WARPS = 32
MAX_GRID = (2**31 - 1, 65535, 65535)


class Recording:
    """Executable work, with all that it touches."""

    def __init__(self, context: CudaContext, graph: Any, touched: list[object]) -> None:
        (self.handle,) = context.call(context.api.cuGraphInstantiate, graph, 0)
        context.own(self, self.handle, context.api.cuGraphExecDestroy)
        self._touched = touched


class CudaGraph:
    """Work that was recorded once and is replayed with one call."""

    def __init__(self, device: CudaDevice, context: CudaContext, recording: Recording) -> None:
        self._device = device  # its end waits for the work
        self._context = context
        self._recording = recording

    def replay(self) -> None:
        """Start the work; it runs after what was started before.

        Raises
        ------
        EngineError
            If other work is being recorded, or the driver fails.
        """
        context = self._context
        if context.recording is not None:
            raise EngineError("a graph cannot be replayed while another is recorded")
        context.activate()
        context.call(context.api.cuGraphLaunch, self._recording.handle, context.stream)
        context.touch(self._recording)


class CudaDevice:
    """One GPU; see `edge_codec.runtime.device.Device` for the methods.

    Parameters
    ----------
    context : CudaContext
        As `open_context` returns it.

    Attributes
    ----------
    name : str
        As the driver gives it: `NVIDIA H200`.
    capability : int
        Compute capability times ten.
    driver : str
        CUDA version of the driver: `13.0`.
    """

    def __init__(self, context: CudaContext) -> None:
        self._context = context
        # Buffers know their context, which keeps what is in flight: without this, a device that is
        # dropped would free them all in any order, used or not.
        weakref.finalize(self, context.settle).atexit = False
        self._fork: CudaFork | None = None
        self._is_forked = False
        api = context.api
        (name,) = context.call(api.cuDeviceGetName, 256, context.device)
        self.name: str = name.split(b"\0")[0].decode(errors="replace")
        (version,) = context.call(api.cuDriverGetVersion)
        self.driver: str = write_version(version)
        major = self._attribute("COMPUTE_CAPABILITY_MAJOR")
        self.capability = 10 * major + self._attribute("COMPUTE_CAPABILITY_MINOR")
        self._max_shared = self._attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")

    def _attribute(self, name: str) -> int:
        api = self._context.api
        attribute = getattr(api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        (value,) = self._context.call(api.cuDeviceGetAttribute, attribute, self._context.device)
        return int(value)

    def activate(self) -> int:
        """Make the GPU the calling thread's and return the handle of the stream.

        For libraries that start work in it themselves. They keep what it touches.
        """
        self._context.activate()
        return int(self._context.stream)

    def address(self, buffer: Buffer) -> int:
        """Return where a buffer lies in the GPU's memory."""
        return self._own(buffer).address

    def allocate(self, size: int) -> CudaBuffer:
        """Return `size` bytes of memory, 1 or more, their content undefined."""
        _check_size(size)
        try:
            self._context.activate()
            return CudaBuffer(self._context, size)
        except EngineError as error:
            raise EngineError(f"no buffer of {size} bytes on {self.name}: {error}") from error

    def pin(self, size: int) -> NDArray[Any]:
        """Return `size` bytes of page-locked host memory, 1 or more, as uint8."""
        _check_size(size)
        try:
            self._context.activate()
            return np.frombuffer(memoryview(self._context.pin(size)), np.uint8)
        except EngineError as error:
            raise EngineError(f"no page-locked memory of {size} bytes: {error}") from error

    def load(self, kernel: StoredKernel) -> CudaFunction:
        """Load a compiled kernel; its parameters are compared with those of its machine code."""
        name = kernel.name
        check_cubin(name, kernel.cubin)
        unknown = [kind for kind in kernel.arguments if not kind.startswith("*") and kind != "i32"]
        if unknown:
            raise EngineError(f"kernel '{name}' takes {unknown}; only * and i32 can be passed")
        if not 1 <= kernel.num_warps <= MAX_WARPS:
            raise EngineError(f"kernel '{name}' has {kernel.num_warps} warps, not 1..{MAX_WARPS}")
        if not 0 <= kernel.shared_bytes <= self._max_shared:
            raise EngineError(
                f"kernel '{name}' wants {kernel.shared_bytes} bytes of shared memory, {self.name} "
                f"has {self._max_shared}; build the engine for this GPU"
            )
        try:
            self._context.activate()
            return CudaFunction(self._context, kernel)
        except EngineError as error:
            raise EngineError(
                f"kernel '{name}' cannot be loaded on {self.name} (sm_{self.capability}): "
                f"{error}; build the engine for this GPU, with a compiler not newer than its driver"
            ) from error

    def launch(
        self, function: Function, grid: tuple[int, int, int], arguments: Sequence[Buffer | int]
    ) -> None:
        """Start a kernel on a grid of programs, in x up to 2^31 - 1, in y and z up to 65535."""
        context = self._context
        if not isinstance(function, CudaFunction) or function.context is not context:
            raise EngineError("the kernel was loaded on another device")
        within = [1 <= programs <= most for programs, most in zip(grid, MAX_GRID, strict=False)]
        if len(grid) != 3 or not all(within):
            raise EngineError(f"a grid of {grid} programs; each is 1 or more, at most {MAX_GRID}")
        kernel = function.kernel
        function.set(arguments)
        context.touch(function)
        context.activate()
        try:
            context.call(
                context.api.cuLaunchKernel,
                function.handle,
                *grid,
                *(kernel.num_warps * WARP, 1, 1),
                kernel.shared_bytes,
                context.stream,
                function.parameters,
                0,
            )
        except EngineError as error:
            raise EngineError(f"kernel '{kernel.name}' on a grid of {grid}: {error}") from error

    def upload(self, source: NDArray[Any], target: Buffer) -> None:
        """Copy an array, C-contiguous, to the start of a buffer.

        From memory of `pin` the copy is asynchronous and may be recorded; from other memory it
        waits for all work, and an array may be changed once this returns.
        """
        buffer = self._check_copy(source, target)
        places = (buffer.address, source.ctypes.data)
        self._copy(self._context.api.cuMemcpyHtoDAsync, places, source, buffer)

    def download(self, source: Buffer, target: NDArray[Any]) -> None:
        """Copy the start of a buffer into an array, C-contiguous; see `upload`."""
        buffer = self._check_copy(target, source)
        if not target.flags.writeable:
            raise EngineError("the array to download to is read-only; pass one that is not")
        places = (target.ctypes.data, buffer.address)
        self._copy(self._context.api.cuMemcpyDtoHAsync, places, target, buffer)

    def _check_copy(self, array: NDArray[Any], buffer: Buffer) -> CudaBuffer:
        own = self._own(buffer)
        if not array.flags.c_contiguous or array.dtype.hasobject:
            raise EngineError(f"an array of {array.dtype} {array.shape} is not plain contiguous")
        if not 1 <= array.nbytes <= own.size:
            raise EngineError(
                f"an array of {array.nbytes} bytes cannot be copied; the buffer has {own.size}"
            )
        return own

    def _own(self, buffer: Buffer) -> CudaBuffer:
        if not isinstance(buffer, CudaBuffer) or buffer.context is not self._context:
            raise EngineError("the buffer belongs to another device; allocate it on this one")
        return buffer

    def _copy(
        self,
        function: Callable[..., Any],
        places: tuple[int, int],
        array: NDArray[Any],
        buffer: CudaBuffer,
    ) -> None:
        context = self._context
        pinned = context.pinned_owner(array.ctypes.data, array.nbytes)
        if pinned is None and context.recording is not None:
            raise EngineError("only copies from and to memory of pin() can be recorded")
        context.activate()
        context.call(function, *places, array.nbytes, context.stream)
        context.touch(buffer)
        if pinned is None:
            self.synchronize()
        else:
            context.touch(pinned)

    def record(self, work: Callable[[], None]) -> Graph:
        """Record the launches and copies that `work` starts, without running them."""
        context, api = self._context, self._context.api
        if context.recording is not None:
            raise EngineError("a graph is being recorded already; record one after the other")
        # Relaxed: buffers may be freed and allocated meanwhile, here and in other threads.
        relaxed = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        context.activate()
        context.call(api.cuStreamBeginCapture, context.stream, relaxed)
        touched: list[object] = []
        context.recording = touched
        try:
            work()
        except BaseException:
            _, unfinished = api.cuStreamEndCapture(context.stream)
            _destroy(api, unfinished)
            raise
        finally:
            context.recording = None
        (graph,) = context.call(api.cuStreamEndCapture, context.stream)
        try:
            return CudaGraph(self, context, Recording(context, graph, touched))
        finally:
            _destroy(api, graph)

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Start two pieces of work that do not need each other.

        What is started later runs after both. While work is recorded they become branches, which
        the GPU may run at the same time; otherwise they run one after the other.

        Raises
        ------
        EngineError
            If this is called by one of the two, or the driver fails.
        """
        if self._is_forked:
            raise EngineError("a branch of the work cannot branch again")
        if self._context.recording is None:
            first()
            second()
            return
        if self._fork is None:
            self._fork = CudaFork(self._context)
        self._is_forked = True
        try:
            self._fork.run(first, second)
        finally:
            self._is_forked = False

    def synchronize(self) -> None:
        """Wait for all work.

        Raises
        ------
        EngineError
            If any of it failed; the device is unusable if that broke its context.
        """
        context = self._context
        if context.recording is not None:
            raise EngineError("nothing runs while work is recorded; synchronize after a replay")
        context.activate()
        context.call(context.api.cuStreamSynchronize, context.stream)
        context.in_flight.clear()


def open_cuda_device(ordinal: int = 0) -> CudaDevice:
    """Open a GPU.

    Parameters
    ----------
    ordinal : int
        Which of those that `CUDA_VISIBLE_DEVICES` shows.

    Raises
    ------
    EngineError
        If cuda-python, the driver or the GPU is missing, or the driver is too old.
    """
    return CudaDevice(open_context(ordinal))


def _check_size(size: int) -> None:
    if size < 1:
        raise EngineError(f"{size} bytes of memory; ask for 1 or more")


def _destroy(api: Any, graph: Any) -> None:
    """Free a recording that was instantiated or is not wanted, if there is one."""
    if int(graph):
        api.cuGraphDestroy(graph)

"""A GPU's primary context and one stream in it, and what the driver's statuses mean.

The context is the one that CUDA's runtime, and so PyTorch, uses on that GPU too. Nothing of it is
freed when the interpreter ends: the driver does that with the process, whatever then still looks
at pinned memory.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from edge_codec.errors import EngineError

MIN_DRIVER = 12040
"""CUDA 12.4: its driver tells the parameters of a kernel, against which launches are checked."""

INSTALL_DRIVER = "install an NVIDIA driver for CUDA 12.4 or newer"

# After one of these nothing works in the context any more, and only a new process gets another.
FATAL = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ASSERT",
        "CONTAINED",
        "CONTEXT_IS_DESTROYED",
        "DEINITIALIZED",
        "ECC_UNCORRECTABLE",
        "EXTERNAL_DEVICE",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_ADDRESS",
        "ILLEGAL_INSTRUCTION",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "LAUNCH_FAILED",
        "LAUNCH_TIMEOUT",
        "MISALIGNED_ADDRESS",
        "NVLINK_UNCORRECTABLE",
        "TENSOR_MEMORY_LEAK",
        "UNKNOWN",
    )
)


class PrimaryContext:
    """Holds a GPU's primary context until nothing of it is left to be freed.

    Parameters
    ----------
    api : module
        `cuda.bindings.driver`.
    device : CUdevice
    handle : CUcontext
        As `cuDevicePrimaryCtxRetain` returned it.
    """

    def __init__(self, api: Any, device: Any, handle: Any) -> None:
        self._api = api
        self.handle = handle
        weakref.finalize(self, api.cuDevicePrimaryCtxRelease, device).atexit = False

    def own(self, owner: object, resource: Any, free: Callable[[Any], Any]) -> None:
        """Call `free` with a resource when its owner is gone; see `visit`."""
        weakref.finalize(owner, self.visit, free, resource).atexit = False

    def visit(self, function: Callable[[Any], Any], resource: Any) -> None:
        """Call the driver from whatever thread this is, and leave it its own context.

        For finalizers: what the call returns has nobody to go to.
        """
        if not self._api.cuCtxPushCurrent(self.handle)[0]:
            function(resource)
            self._api.cuCtxPopCurrent()


class CudaContext:
    """Calls the driver in the context of one GPU.

    Parameters
    ----------
    api : module
        `cuda.bindings.driver`.
    ordinal : int
        Which of the visible GPUs.

    Attributes
    ----------
    device : CUdevice
    stream : CUstream
        All work is ordered in it.
    in_flight : dict of int to object
        What work that was started since the last synchronization may still touch, by identity.
    recording : list of object or None
        What the work touches that is being recorded, None while none is.

    Raises
    ------
    EngineError
        If there is no such GPU, or the driver fails.
    """

    def __init__(self, api: Any, ordinal: int) -> None:
        self.api = api
        self._lost: str | None = None
        self._pinned: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self.in_flight: dict[int, object] = {}
        self.recording: list[object] | None = None
        (count,) = self.call(api.cuDeviceGetCount)
        if not 0 <= ordinal < count:
            raise EngineError(f"there is no GPU {ordinal}; the driver shows {count}, from 0")
        (self.device,) = self.call(api.cuDeviceGet, ordinal)
        (handle,) = self.call(api.cuDevicePrimaryCtxRetain, self.device)
        self._primary = PrimaryContext(api, self.device, handle)
        self.own = self._primary.own
        self.activate()
        self.stream = self.create_stream(self)

    def activate(self) -> None:
        """Make the context the calling thread's.

        Raises
        ------
        EngineError
            If the context was lost.
        """
        self.call(self.api.cuCtxSetCurrent, self._primary.handle)

    def create_stream(self, owner: object) -> Any:
        """Return a stream that goes with its owner and does not wait for the default stream."""
        non_blocking = int(self.api.CUstream_flags.CU_STREAM_NON_BLOCKING)
        (stream,) = self.call(self.api.cuStreamCreate, non_blocking)
        self.own(owner, stream, self.api.cuStreamDestroy)
        return stream

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
        """Call a function of the driver and return what it gives besides its status.

        Raises
        ------
        EngineError
            If the status is not success, with CUDA's name and text of it; or if an earlier one
            was fatal.
        """
        if self._lost is not None:
            raise EngineError(self._lost)
        try:
            result: tuple[Any, ...] = function(*arguments)
        except (RuntimeError, ValueError) as error:  # not in this driver; status not in bindings
            raise EngineError(f"{function.__name__}: {error}; {INSTALL_DRIVER}") from error
        if result[0]:
            self.check(function.__name__, result[0])
        return result[1:]

    def check(self, function: str, status: Any) -> None:
        """Raise `EngineError` if a status is not success."""
        if status:
            message = f"{function}: {describe(self.api, status)}"
            if status.name in FATAL:
                message += "; this device object is unusable, start a new process"
                self._lost = message
            raise EngineError(message)

    def touch(self, resource: object) -> None:
        """Keep what work uses that is being started or recorded."""
        if self.recording is None:
            self.in_flight[id(resource)] = resource
        else:
            self.recording.append(resource)

    def settle(self) -> None:
        """Wait for all work if the context still stands, and let go of what it touched."""
        self._primary.visit(self.api.cuStreamSynchronize, self.stream)
        self.in_flight.clear()

    def pin(self, size: int) -> ctypes.Array[ctypes.c_uint8]:
        """Return `size` bytes of page-locked host memory."""
        (address,) = self.call(self.api.cuMemHostAlloc, size, 0)
        memory = (ctypes.c_uint8 * size).from_address(int(address))
        self.own(memory, address, self.api.cuMemFreeHost)
        self._pinned[int(address)] = size, weakref.ref(memory)
        return memory

    def pinned_owner(self, address: int, size: int) -> object | None:
        """Return the memory of `pin` in which these bytes lie, None if they lie elsewhere."""
        for start, (length, owner) in list(self._pinned.items()):
            memory: object | None = owner()
            if memory is None:
                del self._pinned[start]
            elif start <= address and address + size <= start + length:
                return memory
        return None


def open_context(ordinal: int) -> CudaContext:
    """Start the driver and open a GPU.

    Raises
    ------
    EngineError
        If cuda-python, the driver or the GPU is missing, or the driver is too old.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        message = f"the GPU backend needs cuda-python ({error}); pip install 'edge-codec[gpu]'"
        raise EngineError(message) from error
    try:
        status, version = driver.cuDriverGetVersion()
    except (
        RuntimeError,
        OSError,
    ) as error:  # no libcuda.so.1, or one without what the bindings look up
        raise EngineError(f"no usable NVIDIA driver ({error}); {INSTALL_DRIVER}") from error
    if status:
        raise EngineError(f"no usable NVIDIA driver: {describe(driver, status)}; {INSTALL_DRIVER}")
    if version < MIN_DRIVER:
        found = write_version(version)
        raise EngineError(f"the NVIDIA driver is for CUDA {found}; {INSTALL_DRIVER}")
    (status,) = driver.cuInit(0)
    if status:
        raise EngineError(
            f"no NVIDIA GPU can be used: {describe(driver, status)}; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES"
        )
    return CudaContext(driver, ordinal)


def write_version(version: int) -> str:
    """Write CUDA's version as people do: 13.0 for 13000."""
    return f"{version // 1000}.{version % 1000 // 10}"


def describe(api: Any, status: Any) -> str:
    """Return CUDA's name and text of a status."""
    failed, text = api.cuGetErrorString(status)
    explanation = "no explanation" if failed or text is None else text.decode(errors="replace")
    return f"{status.name} ({explanation})"

"""Buffers and kernels on an NVIDIA GPU, and how the arguments of a launch reach the driver."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from edge_codec.errors import EngineError
from edge_codec.runtime.cuda_context import CudaContext
from edge_codec.runtime.device import Buffer, StoredKernel

PLAIN_SHARED = 48 * 1024  # a kernel gets more dynamic shared memory only if it is asked for
SCRATCH = 2  # pointers that Triton appends to a kernel's parameters; null, as nothing uses them


class CudaBuffer:
    """Memory of the GPU.

    Attributes
    ----------
    size : int
        Bytes.
    address : int
        In the GPU's memory.
    context : CudaContext
        Where it was allocated.
    """

    __slots__ = ("__weakref__", "address", "context", "size")

    def __init__(self, context: CudaContext, size: int) -> None:
        (handle,) = context.call(context.api.cuMemAlloc, size)
        context.own(self, handle, context.api.cuMemFree)
        self.context = context
        self.size = size
        self.address = int(handle)


class CudaFunction:
    """A kernel on the GPU, with room for the parameters of one launch.

    Attributes
    ----------
    kernel : StoredKernel
    context : CudaContext
        Where it was loaded.
    handle : CUfunction
    parameters : int
        Address of the array of the addresses of the parameters.
    """

    def __init__(self, context: CudaContext, kernel: StoredKernel) -> None:
        api = context.api
        self.kernel = kernel
        self.context = context
        self._is_pointer = tuple(argument.startswith("*") for argument in kernel.arguments)
        (module,) = context.call(api.cuModuleLoadData, kernel.cubin)
        context.own(self, module, api.cuModuleUnload)
        (self.handle,) = context.call(api.cuModuleGetFunction, module, kernel.symbol.encode())
        if kernel.shared_bytes > PLAIN_SHARED:
            most = api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            context.call(api.cuFuncSetAttribute, self.handle, most, kernel.shared_bytes)
        sizes = [8 if is_pointer else 4 for is_pointer in self._is_pointer] + [8] * SCRATCH
        found = _parameter_sizes(context, self.handle)
        if found != sizes:
            raise EngineError(f"its machine code takes parameters of {found} bytes, not {sizes}")
        # The driver copies the values during a launch, so that every launch can use the same room;
        # a 32-bit value is the lower half of its place.
        self._values = (ctypes.c_uint64 * len(sizes))()
        first = ctypes.addressof(self._values)
        places = range(first, first + ctypes.sizeof(self._values), ctypes.sizeof(ctypes.c_uint64))
        self._addresses = (ctypes.c_uint64 * len(sizes))(*places)
        self.parameters = ctypes.addressof(self._addresses)

    def set(self, arguments: Sequence[Buffer | int]) -> None:
        """Write the parameters of the next launch, and keep the buffers for its work."""
        if len(arguments) != len(self._is_pointer):
            raise self._refusal(f"{len(arguments)} arguments")
        for index, argument in enumerate(arguments):
            if self._is_pointer[index] and isinstance(argument, CudaBuffer):
                if argument.context is not self.context:
                    raise self._refusal(f"a buffer of another device as argument {index}")
                self._values[index] = argument.address
                self.context.touch(argument)
            elif not self._is_pointer[index] and isinstance(argument, int):
                if not -(2**31) <= argument < 2**31:
                    raise self._refusal(f"{argument} as argument {index}")
                self._values[index] = argument & 0xFFFFFFFF
            else:
                raise self._refusal(f"a {type(argument).__name__} as argument {index}")

    def _refusal(self, found: str) -> EngineError:
        expected = ", ".join(self.kernel.arguments)
        return EngineError(
            f"kernel '{self.kernel.name}' was given {found}; it takes ({expected}), where * is a "
            "buffer of the same device and i32 an integer of 32 bits"
        )


def _parameter_sizes(context: CudaContext, function: Any) -> list[int]:
    """Return the bytes of each parameter of a kernel, as its machine code has them."""
    api = context.api
    sizes: list[int] = []
    while True:
        status, _, size = api.cuFuncGetParamInfo(function, len(sizes))
        if status == api.CUresult.CUDA_ERROR_INVALID_VALUE:  # there are no more
            return sizes
        context.check("cuFuncGetParamInfo", status)
        sizes.append(size)

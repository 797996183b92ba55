"""A device without a GPU: the kernels' own source, in Triton's interpreter, on host memory.

It makes what is above a device run anywhere, slowly, and catches what a GPU would not tell: a
kernel that writes beside its buffer (guards around each), that reads what nothing wrote (memory
begins as 0xCD), or that is given a buffer of another device, or other arguments than those that it
was compiled for. The process must have been started with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.kernels.aot import CompiledKernel
from edge_codec.kernels.spec import KernelSpec
from edge_codec.runtime.device import Buffer, Function, StoredKernel

GUARD = 4096
"""Bytes on either side of a buffer that nothing may write."""

POISON = 0xCD

DTYPES = {
    "*u8": torch.uint8,
    "*i8": torch.int8,
    "*u16": torch.uint16,
    "*i16": torch.int16,
    "*fp16": torch.float16,
    "*i32": torch.int32,
    "*fp32": torch.float32,
    "*i64": torch.int64,
}

Calls = list[Callable[[], object]]


def compile_nothing(spec: KernelSpec, capability: int) -> CompiledKernel:
    """Stand in for the compiler, which a process that interprets kernels does not have."""
    return CompiledKernel(
        name=spec.name,
        symbol=spec.function.__name__,
        capability=capability,
        ptx="",
        cubin=b"",
        arguments=tuple(spec.signature.values()),
        num_warps=spec.num_warps,
        shared_bytes=0,
        registers=0,
        spill_bytes=0,
    )


class InterpreterBuffer:
    """Host memory between guards; see `edge_codec.runtime.device.Buffer`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = torch.full((size + 2 * GUARD,), POISON, dtype=torch.uint8)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def tensor(self, kind: str = "*u8") -> torch.Tensor:
        """Return the memory as an argument of one of Triton's types."""
        dtype = DTYPES[kind]
        whole = self._size - self._size % dtype.itemsize
        return self._memory[GUARD : GUARD + whole].view(dtype)

    def is_intact(self) -> bool:
        """Whether nothing was written beside the memory."""
        guards = torch.cat([self._memory[:GUARD], self._memory[GUARD + self._size :]])
        return bool((guards == POISON).all())


class InterpreterFunction:
    """A kernel's source; see `edge_codec.runtime.device.Function`."""

    def __init__(self, kernel: StoredKernel) -> None:
        self._kernel = kernel
        module, name = kernel.function.split(":")
        self.source: Any = getattr(importlib.import_module(module), name)

    @property
    def kernel(self) -> StoredKernel:
        """What was loaded."""
        return self._kernel


class InterpreterGraph:
    """A list of calls; see `edge_codec.runtime.device.Graph`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def replay(self) -> None:
        """Run the work."""
        for call in self._calls:
            call()


class InterpreterDevice:
    """See `edge_codec.runtime.device.Device` for the methods; work is done when it is started.

    Parameters
    ----------
    capability : int
        Of the GPU that it stands for.

    Attributes
    ----------
    name : str
    capability : int
    allocations : int
        How often memory was asked for.
    """

    def __init__(self, capability: int = 90) -> None:
        self.name = "Triton's interpreter"
        self.capability = capability
        self.allocations = 0
        self._buffers: list[InterpreterBuffer] = []
        self._pinned: list[NDArray[Any]] = []
        self._recording: Calls | None = None

    def allocate(self, size: int) -> InterpreterBuffer:
        """Return `size` bytes of memory, 1 or more, poisoned."""
        if size < 1:
            raise EngineError(f"{size} bytes of memory; ask for 1 or more")
        self.allocations += 1
        self._buffers.append(InterpreterBuffer(size))
        return self._buffers[-1]

    def pin(self, size: int) -> NDArray[Any]:
        """Return `size` bytes of host memory, uint8, poisoned."""
        self.allocations += 1
        self._pinned.append(np.full(size, POISON, np.uint8))
        return self._pinned[-1]

    def load(self, kernel: StoredKernel) -> InterpreterFunction:
        """Find a kernel's source; its machine code is not looked at."""
        return InterpreterFunction(kernel)

    def launch(
        self, function: Function, grid: tuple[int, int, int], arguments: Sequence[Buffer | int]
    ) -> None:
        """Run a kernel on a grid of programs."""
        kinds = function.kernel.arguments
        if not isinstance(function, InterpreterFunction) or len(kinds) != len(arguments):
            raise EngineError(f"{len(arguments)} arguments; {function.kernel.name} takes {kinds}")
        values = [
            argument if isinstance(argument, int) else self._own(argument).tensor(kind)
            for kind, argument in zip(kinds, arguments, strict=True)
        ]
        source, constants = function.source, dict(function.kernel.constants)
        names = [name for name in source.arg_names if name not in constants]
        named = dict(zip(names, values, strict=True))  # a constant may stand between arguments
        self._do(lambda: source[grid](**named, **constants))

    def upload(self, source: NDArray[Any], target: Buffer) -> None:
        """Copy an array, C-contiguous, to the start of a buffer."""
        here, there = self._copied(source, target)
        self._do(lambda: there.copy_(here))

    def download(self, source: Buffer, target: NDArray[Any]) -> None:
        """Copy the start of a buffer into an array, C-contiguous."""
        here, there = self._copied(target, source)
        self._do(lambda: here.copy_(there))

    def _copied(self, array: NDArray[Any], buffer: Buffer) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an array and the part of a buffer that it is copied to or from, as bytes."""
        memory = self._own(buffer).tensor()
        if not array.flags.c_contiguous or array.nbytes > len(memory):
            raise EngineError(
                f"{array.nbytes} bytes cannot be copied; the buffer has {len(memory)}"
            )
        pinned = any(np.shares_memory(array, pinned) for pinned in self._pinned)
        if self._recording is not None and not pinned:
            raise EngineError("only copies from and to memory of pin() can be recorded")
        flat = array.reshape(-1).view(np.uint8)
        here = torch.from_numpy(flat if flat.flags.writeable else flat.copy())
        return here, memory[: len(here)]

    def _own(self, buffer: Buffer) -> InterpreterBuffer:
        for own in self._buffers:
            if own is buffer:
                return own
        raise EngineError("the buffer belongs to another device; allocate it on this one")

    def _do(self, call: Callable[[], object]) -> None:
        if self._recording is None:
            call()
        else:
            self._recording.append(call)

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Start two pieces of work that do not need each other: one after the other, here."""
        first()
        second()

    def record(self, work: Callable[[], None]) -> InterpreterGraph:
        """Record the launches and copies that `work` starts, without running them."""
        calls: Calls = []
        self._recording = calls
        try:
            work()
        finally:
            self._recording = None
        return InterpreterGraph(calls)

    def synchronize(self) -> None:
        """Check that nothing was written beside a buffer.

        Raises
        ------
        EngineError
            If a kernel did.
        """
        if not all(buffer.is_intact() for buffer in self._buffers):
            raise EngineError("a kernel wrote beside its buffer")

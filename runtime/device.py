"""What our own GPU backend asks of a device: memory, compiled kernels, launches, recorded graphs.

`edge_codec.runtime.cuda_device` implements it with NVIDIA's driver. Tests implement it with
Triton's interpreter, so that everything above it runs without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredKernel:
    """A compiled kernel as an engine file holds it.

    Attributes
    ----------
    name : str
        Unique within its file.
    function : str
        Where its source is: `edge_codec.kernels.int8_device:int8_conv_kernel`.
    constants : mapping of str to int, float or bool
        What it was compiled for.
    symbol : str
        Name of the function in the machine code.
    arguments : tuple of str
        Triton's types of its arguments: pointers ('*i8') and 32-bit integers ('i32').
    num_warps : int
    shared_bytes : int
        Dynamic shared memory.
    cubin : bytes
        Machine code; it takes two more pointers after the arguments, which are null.
    """

    name: str
    function: str
    constants: Mapping[str, Any]
    symbol: str
    arguments: tuple[str, ...]
    num_warps: int
    shared_bytes: int
    cubin: bytes


class Buffer(Protocol):
    """Memory of the device, aligned to 256 bytes; freed when it is no longer referred to."""

    @property
    def size(self) -> int:
        """Bytes."""


class Function(Protocol):
    """A kernel loaded on the device."""

    @property
    def kernel(self) -> StoredKernel:
        """What was loaded."""


class Graph(Protocol):
    """Work that was recorded once and is replayed with one call."""

    def replay(self) -> None:
        """Start the work; it runs after what was started before."""


class Device(Protocol):
    """One GPU and one stream of work on it. Work is asynchronous and in order."""

    @property
    def name(self) -> str:
        """Name of the GPU, for reports."""

    @property
    def capability(self) -> int:
        """Compute capability times ten."""

    def allocate(self, size: int) -> Buffer:
        """Return `size` bytes of memory, their content undefined.

        Raises
        ------
        EngineError
            If the device has no such memory left.
        """

    def pin(self, size: int) -> NDArray[Any]:
        """Return `size` bytes of host memory, uint8, that the device reads and writes directly."""

    def load(self, kernel: StoredKernel) -> Function:
        """Load a compiled kernel.

        Raises
        ------
        EngineError
            If it was compiled for another architecture or is damaged.
        """

    def launch(
        self, function: Function, grid: tuple[int, int, int], arguments: Sequence[Buffer | int]
    ) -> None:
        """Start a kernel on a grid of programs.

        Raises
        ------
        EngineError
            If the arguments are not those of the kernel.
        """

    def upload(self, source: NDArray[Any], target: Buffer) -> None:
        """Copy an array, C-contiguous, to the start of a buffer.

        From memory of `pin` the copy is asynchronous and may be recorded.
        """

    def download(self, source: Buffer, target: NDArray[Any]) -> None:
        """Copy the start of a buffer into an array, C-contiguous; see `upload`."""

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Start two pieces of work that do not need each other; what comes later runs after both.

        Recorded, the device may run them at the same time.
        """

    def record(self, work: Callable[[], None]) -> Graph:
        """Record the launches and copies that `work` starts, without running them."""

    def synchronize(self) -> None:
        """Wait for all work.

        Raises
        ------
        EngineError
            If any of it failed.
        """

"""What one measurement of a kernel consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KernelCase:
    """A kernel on one shape, ready to be checked and timed.

    Every module of this folder has `cases(device, small) -> Iterator[KernelCase]`, where `device`
    is a torch device and `small` asks for shapes that Triton's interpreter can finish: the same
    checks then run on a CPU. Inputs are fresh random numbers.

    Attributes
    ----------
    kernel : str
        Name of the kernel's module.
    shape : str
        As people write it: `4096x8192x64`.
    dtype : str
        Of the inputs: `f16`, `i8`.
    run : callable
        Launches the kernel once, into buffers that it keeps.
    check : callable
        Poisons the output, runs, compares with the reference, and returns what is remarkable about
        the agreement ('exact', '3 ties of 4096'); raises `EngineError` where it is wrong.
    bytes_moved : int
        Fewest bytes through device memory: each input read once, each output written once.
    operations : int
        Additions and multiplications, those of a multiply-add counted as two.
    rate : {'f16', 'i8', 'none'}
        Which matrix rate bounds it, if any.
    baselines : mapping of str to callable
        What to time it against: 'cdist + argmin', 'scaled_dot_product_attention'.
    """

    kernel: str
    shape: str
    dtype: str
    run: Callable[[], Any]
    check: Callable[[], str]
    bytes_moved: int
    operations: int
    rate: str
    baselines: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

"""What names one compiled form of a kernel: the function, its argument types and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One form of a Triton kernel, to be compiled ahead of time.

    The arguments of every kernel stand in TensorRT's order: input pointers, 32-bit integer scalars,
    output pointers, constants. Every pointer is aligned to 16 bytes.

    Attributes
    ----------
    name : str
        Unique, and fit for a file name: `codebook_lookup_f16_d64`.
    function : triton.JITFunction
        The device code.
    signature : mapping of str to str
        Triton's type of each argument that is not a constant, in order: '*fp16', '*i8', 'i32'.
    constants : mapping of str to int, float or bool
        Values of the `tl.constexpr` arguments.
    num_warps, num_stages : int
        Warps of a program, and stages of its software pipeline.
    """

    name: str
    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 2

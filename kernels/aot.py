"""Compiles kernels for GPUs that are not here: PTX, machine code and what it occupies.

Needs Triton and no GPU: Triton's wheel holds NVIDIA's assembler. What is compiled here is what
`edge_codec.runtime.triton_backend` loads and what travels in TensorRT's engines.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from edge_codec.errors import EngineError
from edge_codec.kernels.spec import KernelSpec

ARCHITECTURES = (80, 86, 87, 89, 90, 100, 110, 120)
"""Compute capabilities times ten: A100, RTX 30, Orin, RTX 40, H100/H200, B200, Thor, RTX 50."""

ALIGNMENT = 16
"""Bytes that every pointer argument is aligned to; the compiler relies on it."""

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """Machine code of one kernel for one architecture.

    Attributes
    ----------
    name : str
        The specification's name.
    symbol : str
        Name of the function in the machine code.
    capability : int
        Compute capability times ten.
    ptx : str
        Assembly with exactly the specification's arguments.
    cubin : bytes
        Machine code; it takes two more pointers after the arguments, which may be null.
    arguments : tuple of str
        Triton's types of the arguments.
    num_warps : int
    shared_bytes : int
        Dynamic shared memory of a program.
    registers : int
        Of a thread.
    spill_bytes : int
        Local memory of a thread: registers that did not fit, and arrays.
    """

    name: str
    symbol: str
    capability: int
    ptx: str
    cubin: bytes
    arguments: tuple[str, ...]
    num_warps: int
    shared_bytes: int
    registers: int
    spill_bytes: int


def compile_kernel(
    spec: KernelSpec, capability: int, ptx_version: int | None = None
) -> CompiledKernel:
    """Compile a kernel for an architecture.

    Parameters
    ----------
    spec : KernelSpec
    capability : int
        One of `ARCHITECTURES`.
    ptx_version : int, optional
        Version of the assembly times ten, for drivers older than the compiler: 85 for CUDA 12.6,
        90 for CUDA 13.0.

    Raises
    ------
    EngineError
        If the architecture is unknown, the compiler fails, or the kernel needs scratch memory
        that only Triton's own launcher would allocate.
    """
    if capability not in ARCHITECTURES:
        known = ", ".join(f"sm_{known}" for known in ARCHITECTURES)
        raise EngineError(f"no target sm_{capability}; use one of {known}")
    if not isinstance(spec.function, JITFunction):
        raise EngineError("kernels are being interpreted; unset TRITON_INTERPRET to compile them")
    target = GPUTarget("cuda", capability, 32)
    try:
        with triton.knobs.compilation.scope():
            # Line numbers would put this machine's paths into the code, and double its size.
            triton.knobs.compilation.disable_line_info = True
            kernel = triton.compile(_source(spec), target, _options(spec, ptx_version))
    except Exception as error:  # the compiler raises classes of no common base
        raise EngineError(f"{spec.name} does not compile for sm_{capability}: {error}") from error
    metadata = kernel.metadata
    if metadata.global_scratch_size or metadata.profile_scratch_size or metadata.num_ctas != 1:
        raise EngineError(f"{spec.name} needs scratch memory or clusters; launch it through Triton")
    registers, spill_bytes = _resources(kernel.asm["cubin"])
    return CompiledKernel(
        name=spec.name,
        symbol=metadata.name,
        capability=capability,
        ptx=strip_scratch(kernel.asm["ptx"], metadata.name, len(spec.signature)),
        cubin=kernel.asm["cubin"],
        arguments=tuple(spec.signature.values()),
        num_warps=metadata.num_warps,
        shared_bytes=metadata.shared,
        registers=registers,
        spill_bytes=spill_bytes,
    )


def _source(spec: KernelSpec) -> ASTSource:
    names = spec.function.arg_names
    signature = {
        name: "constexpr" if name in spec.constants else spec.signature[name] for name in names
    }
    constants = {(names.index(name),): value for name, value in spec.constants.items()}
    aligned = {
        (index,): [["tt.divisibility", ALIGNMENT]]
        for index, name in enumerate(names)
        if signature[name].startswith("*")
    }
    return ASTSource(fn=spec.function, signature=signature, constexprs=constants, attrs=aligned)


def _options(spec: KernelSpec, ptx_version: int | None) -> dict[str, Any]:
    options = {
        "num_warps": spec.num_warps,
        "num_stages": spec.num_stages,
        "enable_fp_fusion": True,
    }
    return options if ptx_version is None else {**options, "ptx_version": ptx_version}


def strip_scratch(ptx: str, symbol: str, n_arguments: int) -> str:
    """Remove the scratch pointers that Triton appends to a kernel's parameters.

    Raises
    ------
    EngineError
        If the kernel reads them.
    """
    entry = re.search(rf"(\.visible \.entry {re.escape(symbol)}\()(.*?)(\n?\))", ptx, re.DOTALL)
    if entry is None:
        raise EngineError(f"the assembly has no entry {symbol}")
    parameters = [line.strip().rstrip(",") for line in entry.group(2).strip().splitlines()]
    for parameter in parameters[n_arguments:]:
        name = parameter.split()[-1]
        if len(re.findall(rf"\b{re.escape(name)}\b", ptx)) != 1:
            raise EngineError(f"{symbol} reads its scratch parameter {name}")
    kept = ",\n\t".join(parameters[:n_arguments])
    return f"{ptx[: entry.start()]}{entry.group(1)}\n\t{kept}{entry.group(3)}{ptx[entry.end() :]}"


def _resources(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of local memory of a thread, as the assembler recorded them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report)
    if found is None:
        raise EngineError(f"cuobjdump reports no resources: {report[:200]}")
    registers, stack, local = map(int, found.groups())
    return registers, stack + local

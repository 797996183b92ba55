"""Compiles two kernels for tests: `tiny_kernels.py FOLDER`, in a process that does not interpret.

Writes `<name>_<capability>.cubin` and `kernels.json`, which holds the fields of a `StoredKernel` by
that name, and the parameters' sizes as NVIDIA's cuobjdump reads them from the machine code.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import triton
import triton.language as tl

from edge_codec.kernels.aot import TOOLS, compile_kernel
from edge_codec.kernels.spec import KernelSpec


@triton.jit
def add_kernel(x_ptr, y_ptr, n, out_ptr, BLOCK: tl.constexpr):  # noqa: N803
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < n
    tl.store(out_ptr + index, tl.load(x_ptr + index, mask) + tl.load(y_ptr + index, mask), mask)


@triton.jit
def product_kernel(a_ptr, b_ptr, n, out_ptr, SIDE: tl.constexpr):  # noqa: N803
    row = tl.arange(0, SIDE)[:, None] * SIDE
    column = tl.arange(0, SIDE)[None, :]
    total = tl.zeros((SIDE, SIDE), tl.int32)
    for _ in range(n):
        total += tl.dot(tl.load(a_ptr + row + column), tl.load(b_ptr + row + column))
        a_ptr += SIDE * SIDE
        b_ptr += SIDE * SIDE
    tl.store(out_ptr + row + column, total)


KERNELS = {
    "add": (
        KernelSpec(
            "add",
            add_kernel,
            {"x_ptr": "*i32", "y_ptr": "*i32", "n": "i32", "out_ptr": "*i32"},
            {"BLOCK": 1024},
        ),
        (80, 90),
    ),
    # Its pipeline holds more than the 48 KiB of shared memory that a kernel gets unasked.
    "product": (
        KernelSpec(
            "product",
            product_kernel,
            {"a_ptr": "*i8", "b_ptr": "*i8", "n": "i32", "out_ptr": "*i32"},
            {"SIDE": 128},
            num_warps=8,
            num_stages=4,
        ),
        (90,),
    ),
}


def parameter_sizes(path: Path) -> list[int]:
    command = [str(TOOLS / "cuobjdump"), "-elf", str(path)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"Ordinal : (0x\w+)\s+Offset\s+: 0x\w+\s+Size\s+: (0x\w+)", report)
    return [int(size, 16) for _, size in sorted((int(place, 16), size) for place, size in found)]


def main(folder: Path) -> None:
    table = {}
    for name, (spec, capabilities) in KERNELS.items():
        for capability in capabilities:
            compiled = compile_kernel(spec, capability)
            path = folder / f"{name}_{capability}.cubin"
            path.write_bytes(compiled.cubin)
            table[path.stem] = {
                "symbol": compiled.symbol,
                "arguments": compiled.arguments,
                "num_warps": compiled.num_warps,
                "shared_bytes": compiled.shared_bytes,
                "sizes": parameter_sizes(path),
            }
    (folder / "kernels.json").write_text(json.dumps(table), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

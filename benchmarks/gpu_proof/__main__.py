"""What only a GPU can prove, in one command: `python -m benchmarks.gpu_proof`.

- `kernels`: each kernel against its reference, timed against PyTorch and against the copy
  bandwidth and matrix rate of the same run;
- `plugins`: the assembly that travels in TensorRT engines, launched with exactly the arguments
  that TensorRT passes;
- `networks`: the zoo's integer networks on the CPU and on our own GPU backend, bit for bit;
- `engines`: the same networks as TensorRT or TensorRT-RTX engines against ONNX Runtime;
- `frames`: whole frames, host to host, by one CUDA graph each.

Rows are appended to `benchmarks/results/gpu_proof.jsonl` and printed. The exit status is 1 if
anything is wrong. `--interpret` runs the same sections without a GPU, on small shapes in Triton's
interpreter, times nothing and records nothing: it shows that this program itself works.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_proof.section import Setting, rows, text
from benchmarks.record import append_record, describe_machine

SECTIONS = ("kernels", "plugins", "networks", "engines", "frames")
RECORDS = Path(__file__).parents[1] / "results" / "gpu_proof.jsonl"


def main(argv: list[str] | None = None) -> int:
    """Run the sections; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--interpret", action="store_true", help="no GPU: see above")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFF, help="random inputs")
    parser.add_argument("--out", type=Path, default=RECORDS, help="JSON lines to append to")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args(argv)
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel's module is imported
    setting = Setting(options.interpret, options.seed)
    machine = _machine(options)
    failed = 0
    for name in options.sections:
        module = importlib.import_module(f"benchmarks.gpu_proof.{name}")
        for row in rows(name, module.section, setting):
            print(json.dumps(row) if options.json else text(row), flush=True)
            failed += row["status"] == "FAILED"
            if not options.interpret:
                append_record(options.out, "gpu_proof", row, machine)
    print(f"{failed} failed" if failed else "all right", file=sys.stderr)
    return 1 if failed else 0


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    """Describe the machine, the GPU and the seed."""
    machine = {**describe_machine(("torch", "triton", "cuda-bindings")), "seed": options.seed}
    if not options.interpret:
        from edge_codec.bench.kernels.gpu import describe_gpu, require_gpu

        require_gpu()
        machine |= describe_gpu()
    return machine


if __name__ == "__main__":
    raise SystemExit(main())

"""What every kernel occupies on every architecture: registers, spills, shared memory, code.

`python -m edge_codec.kernels.resources` compiles the ahead-of-time set of all kernels and prints a
table; `--json` prints one JSON object, `--write FILE` records it, `--check FILE` compares with such
a record and fails where a kernel has grown. Needs Triton and no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edge_codec.errors import EngineError

FOLDER = Path(__file__).parent

MAX_SHARED_BYTES = 48 << 10
"""What a program gets on every architecture without asking for more."""

MAX_GROWTH = 1.1
"""Registers may grow by a tenth before somebody has to look."""

NO_SPILLS_ON = 87
"""Jetson Orin: little memory bandwidth, so nothing may spill there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel occupies.

    Attributes
    ----------
    kernel, variant : str
        Name of the module and of the specification.
    architecture : int
        Compute capability times ten.
    registers, spill_bytes : int
        Of a thread.
    shared_bytes : int
        Dynamic shared memory of a program.
    cubin_bytes : int
        Size of the machine code.
    """

    kernel: str
    variant: str
    architecture: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    cubin_bytes: int


def kernel_stems() -> tuple[str, ...]:
    """Names of the modules of this folder that define `specs`, found without importing them."""
    return tuple(
        path.stem
        for path in sorted(FOLDER.glob("*.py"))
        if re.search(r"^def specs\(", path.read_text("utf-8"), re.MULTILINE)
    )


def compile_module(task: tuple[str, int]) -> list[Resources]:
    """Compile the specifications of one kernel module for one architecture.

    Parameters
    ----------
    task : (str, int)
        Name of the module, compute capability times ten.
    """
    from edge_codec.kernels.aot import compile_kernel

    stem, architecture = task
    module = importlib.import_module(f"edge_codec.kernels.{stem}")
    found = []
    for spec in module.specs(architecture):
        kernel = compile_kernel(spec, architecture)
        resources = (kernel.registers, kernel.spill_bytes, kernel.shared_bytes, len(kernel.cubin))
        found.append(Resources(stem, spec.name, architecture, *resources))
    return found


def compile_all(
    stems: Iterable[str], architectures: Sequence[int], processes: int = 2
) -> list[Resources]:
    """Compile kernels for architectures, with a progress bar on a terminal.

    Parameters
    ----------
    stems : iterable of str
    architectures : sequence of int
        Compute capabilities times ten.
    processes : int
        How many to compile side by side.

    Returns
    -------
    list of Resources
        In the order of stems, then architectures.
    """
    from tqdm import tqdm

    tasks = [(stem, architecture) for stem in stems for architecture in architectures]
    # Spawned, not forked: the compiler has threads of its own.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        results = pool.imap(compile_module, tasks)
        shown = tqdm(results, total=len(tasks), unit="module", disable=not sys.stderr.isatty())
        return [resources for part in shown for resources in part]


def problems(found: Iterable[Resources], record: dict[str, Any] | None = None) -> list[str]:
    """List what is not as it should be, in words.

    Parameters
    ----------
    found : iterable of Resources
    record : dict, optional
        As `as_record` makes it. Its registers count only for the compiler that it was made with;
        spills and shared memory may not grow whatever the compiler.
    """
    known = {} if record is None else _by_variant(record)
    same_compiler = record is not None and record["triton"] == _triton_version()
    complaints = []
    for now in found:
        name = f"{now.variant} on sm_{now.architecture}"
        before = known.get((now.kernel, now.variant, now.architecture))
        if record is not None and before is None:
            complaints.append(f"{name} is not in the record; write it again")
        allowed = 0 if before is None or now.architecture == NO_SPILLS_ON else before.spill_bytes
        if now.spill_bytes > allowed:
            complaints.append(f"{name} spills {now.spill_bytes} bytes, allowed are {allowed}")
        if now.shared_bytes > MAX_SHARED_BYTES:
            complaints.append(
                f"{name} takes {now.shared_bytes} bytes of shared memory, not {MAX_SHARED_BYTES}"
            )
        if before and same_compiler and now.registers > before.registers * MAX_GROWTH:
            complaints.append(f"{name} takes {now.registers} registers, was {before.registers}")
    return complaints


def as_record(found: Iterable[Resources]) -> dict[str, Any]:
    """Arrange results for JSON: the compiler, and one row per kernel and architecture."""
    return {
        "triton": _triton_version(),
        "kernels": [dataclasses.asdict(resources) for resources in found],
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read what `--write` wrote.

    Raises
    ------
    EngineError
        If it is no such file.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        _by_variant(record)
        str(record["triton"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path.name} is no record of resources ({error!r})") from error
    return dict(record)


def _by_variant(record: dict[str, Any]) -> dict[tuple[str, str, int], Resources]:
    rows = [Resources(**row) for row in record["kernels"]]
    return {(row.kernel, row.variant, row.architecture): row for row in rows}


def _triton_version() -> str:
    import triton

    return str(triton.__version__)


def table(found: Iterable[Resources]) -> str:
    """Format results as a table of text."""
    lines = [f"{'kernel':40} {'arch':>7} {'regs':>5} {'spill':>6} {'shared':>7} {'code':>7}"]
    lines += [
        f"{r.variant:40} {'sm_' + str(r.architecture):>7} {r.registers:5} {r.spill_bytes:6} "
        f"{r.shared_bytes:7} {r.cubin_bytes:7}"
        for r in found
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    from edge_codec.kernels.aot import ARCHITECTURES

    parser = argparse.ArgumentParser(prog="edge_codec.kernels.resources", description=__doc__)
    parser.add_argument(
        "--architectures",
        type=int,
        nargs="+",
        choices=ARCHITECTURES,
        default=ARCHITECTURES,
        help="compute capabilities times ten; all by default",
    )
    stems = kernel_stems()
    parser.add_argument("--kernels", nargs="+", choices=stems, default=stems, help="all by default")
    parser.add_argument("--processes", type=int, default=2, help="how many compile side by side")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", type=Path, help="record the result in this file")
    parser.add_argument("--check", type=Path, help="compare with this record")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Compile, print, and fail where something is not as it should be."""
    if os.environ.pop("TRITON_INTERPRET", None):
        raise SystemExit("error: kernels are being interpreted; unset TRITON_INTERPRET")
    options = _parser().parse_args(argv)
    try:
        record = None if options.check is None else read_record(options.check)
        found = compile_all(options.kernels, options.architectures, options.processes)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps(as_record(found), indent=1) if options.json else table(found))
    if options.write is not None:
        text = json.dumps(as_record(found), indent=1) + "\n"
        options.write.write_text(text, encoding="utf-8")
    complaints = problems(found, record)
    if complaints:
        raise SystemExit("\n".join(complaints))


if __name__ == "__main__":
    main()

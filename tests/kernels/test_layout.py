"""Every kernel has its reference, table, test and benchmark, and fits every architecture."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.errors import EngineError
from edge_codec.kernels.aot import ARCHITECTURES
from edge_codec.kernels.resources import (
    MAX_SHARED_BYTES,
    NO_SPILLS_ON,
    Resources,
    as_record,
    compile_module,
    kernel_stems,
    main,
    problems,
    read_record,
    table,
)
from edge_codec.kernels.tables import FOLDER as TUNING
from edge_codec.kernels.tables import config

ROOT = Path(__file__).parent.parent.parent
RECORD = ROOT / "benchmarks" / "results" / "kernel_resources.json"
STEMS = kernel_stems()


def test_the_kernels_are_found() -> None:
    expected = {"attention", "codebook_lookup", "int8_conv", "normalize", "rans", "wavelet"}
    assert expected <= set(STEMS)
    assert not {"aot", "dispatch", "resources", "spec", "tables"} & set(STEMS)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(
    "place",
    [
        "kernels/reference/{}.py",
        "kernels/tuning/{}.json",
        "tests/kernels/test_{}.py",
        "edge_codec/bench/kernels/{}.py",
    ],
)
def test_every_kernel_has_its_companions(stem: str, place: str) -> None:
    assert (ROOT / place.format(stem)).is_file(), place.format(stem)


@pytest.mark.parametrize("stem", STEMS)
def test_every_kernel_has_benchmark_cases(stem: str) -> None:
    module = importlib.import_module(f"edge_codec.bench.kernels.{stem}")
    assert callable(module.cases)


@pytest.mark.parametrize("stem", STEMS)
def test_references_need_no_gpu_library(stem: str) -> None:
    text = (ROOT / "kernels" / "reference" / f"{stem}.py").read_text("utf-8")
    assert not re.search(r"^\s*(import|from) (torch|triton)\b", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(TUNING.glob("*.json")), ids=lambda path: path.stem)
def test_every_variant_of_a_table_has_a_default_and_loads(path: Path) -> None:
    variants = json.loads(path.read_text("utf-8"))
    assert path.stem in STEMS
    assert variants
    # 0 is Triton's interpreter.
    known = {"default", *(f"sm_{architecture}" for architecture in (0, *ARCHITECTURES))}
    for variant, choices in variants.items():
        assert "default" in choices, variant
        assert set(choices) <= known, variant
        for architecture in ARCHITECTURES:
            found = config(path.stem, variant, architecture)
            assert found.num_warps in (1, 2, 4, 8, 16, 32)
            assert 1 <= found.num_stages <= 16
            assert all(size > 0 for size in found.constants.values())


@pytest.mark.parametrize("stem", STEMS)
def test_specifications_are_named_once_and_for_files(stem: str) -> None:
    module = importlib.import_module(f"edge_codec.kernels.{stem}")
    for architecture in ARCHITECTURES:
        names = [spec.name for spec in module.specs(architecture)]
        assert names
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[Resources]:
    """Compile all kernels for all architectures, in a process where Triton does not interpret."""
    path = tmp_path_factory.mktemp("resources") / "resources.json"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "edge_codec.kernels.resources", "--write", str(path)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert path.is_file(), result.stderr
    return [Resources(**row) for row in json.loads(path.read_text())["kernels"]]


@pytest.mark.slow
def test_every_kernel_compiles_for_every_architecture(compiled: list[Resources]) -> None:
    expected = {
        (stem, spec.name, architecture)
        for stem in STEMS
        for architecture in ARCHITECTURES
        for spec in importlib.import_module(f"edge_codec.kernels.{stem}").specs(architecture)
    }
    assert {(r.kernel, r.variant, r.architecture) for r in compiled} == expected


@pytest.mark.slow
def test_kernels_have_not_grown(compiled: list[Resources]) -> None:
    found = problems(compiled, read_record(RECORD))
    hint = f"\nIf that is meant: python -m edge_codec.kernels.resources --write {RECORD.name}"
    assert not found, "\n".join(found) + hint


def resources(
    registers: int = 100, spill: int = 0, shared: int = 1024, architecture: int = 90
) -> Resources:
    return Resources("wavelet", "wavelet_2d", architecture, registers, spill, shared, 4096)


def record_of(*rows: Resources) -> dict[str, object]:
    return json.loads(json.dumps(as_record(rows)))


@pytest.mark.parametrize(
    ("now", "before", "complaint"),
    [
        (resources(), None, ""),
        (resources(spill=4), None, "spills 4 bytes"),
        (resources(shared=MAX_SHARED_BYTES), None, ""),
        (resources(shared=MAX_SHARED_BYTES + 1), None, "shared memory"),
        (resources(registers=110), resources(), ""),
        (resources(registers=111), resources(), "takes 111 registers, was 100"),
        (resources(spill=8), resources(spill=8), ""),
        (resources(spill=9), resources(spill=8), "allowed are 8"),
        (resources(), resources(architecture=80), "not in the record"),
    ],
)
def test_growth_is_seen(now: Resources, before: Resources | None, complaint: str) -> None:
    found = problems([now], None if before is None else record_of(before))
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


def test_no_record_allows_spills_on_orin() -> None:
    spilling = resources(spill=4, architecture=NO_SPILLS_ON)
    assert problems([spilling], record_of(spilling))


def test_another_compiler_may_take_other_registers_but_may_not_spill() -> None:
    record = {**record_of(resources()), "triton": "0.0"}
    assert not problems([resources(registers=200)], record)
    assert problems([resources(spill=1)], record)


@pytest.mark.parametrize("text", ["", "[]", '{"triton": "3"}', '{"kernels": [{}], "triton": "3"}'])
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=r"record\.json is no record"):
        read_record(path)


def test_the_table_has_a_line_for_each_kernel() -> None:
    lines = table([resources(), resources(architecture=120)]).splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["wavelet_2d", "sm_120", "100", "0", "1024", "4096"]


def test_an_interpreted_kernel_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="unset TRITON_INTERPRET"):
        compile_module((STEMS[0], 90))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit, match="unset TRITON_INTERPRET"):
        main([])

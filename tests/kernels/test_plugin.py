"""Our kernels as TensorRT's plugins, as far as that goes without TensorRT's libraries and a GPU.

What this proves: the bindings of 10.16 and 11.4 take the plugins' signatures; types, shapes, grids,
scalars and PTX parameters are those that the kernels expect; NVIDIA's assembler takes the PTX; and
a kernel that is launched so computes what the function body does. Not proven: that TensorRT's
library finds the plugins in an ONNX file, and that it passes what its documentation says.
"""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stub_bindings import TESTS, VERSIONS, environment

from edge_codec.errors import EngineError
from edge_codec.kernels import aot, plugin
from edge_codec.kernels.aot import ARCHITECTURES, TOOLS
from edge_codec.kernels.plugin import ptx_version
from edge_codec.kernels.plugin_launch import attention_launch, lookup_launch

BINDINGS = dict(zip(VERSIONS, ((87, 85), (120, 90)), strict=True))
"""Versions, and the capability and the version of PTX that each is tried with."""


@pytest.fixture(scope="module", params=BINDINGS)
def reports(request):
    """Return what the plugins gave to TensorRT: a list of objects of dry_run.py."""
    script = TESTS / "stub_tensorrt" / "dry_run.py"
    run = subprocess.run(
        [sys.executable, script, *map(str, BINDINGS[request.param])],
        env=environment(request.param), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert {report["version"] for report in found} == {request.param}
    return found


def entry_parameters(report):
    """Return the types of the parameters of the kernel's entry."""
    entry = re.search(rf"\.entry {report['symbol']}\((.*?)\)", report["ptx"], re.DOTALL)
    return [line.split()[1] for line in entry.group(1).strip().splitlines()]


def test_every_plugin_and_tactic_was_built(reports):
    found = [(report["plugin"], report["tactic"], report["inputs"][0]) for report in reports]
    latents = [2, 30, 41, 64], [5, 12]
    assert sorted(found) == sorted(
        [("ShortAttention", 1, [3, 8, 288, 64])]
        + [("CodebookLookup", tactic, shape) for tactic in (1, 2) for shape in latents]
    )


def test_outputs_have_the_shapes_and_types_of_the_bodies(reports):
    for report in reports:
        shape = report["inputs"][0]
        lookup = report["plugin"] == "CodebookLookup"
        assert report["output"] == ([*shape[:-1], "INT32"] if lookup else [*shape, "HALF"])


def test_grid_and_scalars_are_those_of_the_shapes(reports):
    for report in reports:
        first, second, _ = report["inputs"]
        if report["plugin"] == "CodebookLookup":
            rows, codes = int(np.prod(first[:-1])), second[0]
            blocks = report["grid"][0]
            assert report["grid"][1:] == [1, 1]
            assert blocks in {-(-rows // size) for size in (16, 32, 64, 128, 256)}
            assert report["scalars"][:2] == [rows, codes]
            assert codes <= report["scalars"][2] < codes + 256
        else:
            assert report["grid"][1:] == [1, first[0] * first[1]]
            assert report["grid"][0] in {-(-first[2] // size) for size in (16, 32, 64, 128)}
            assert report["scalars"] == [first[2], second[2]]
        assert report["block"][0] in (32, 64, 128, 256)
        assert report["block"][1:] == [1, 1]
        assert 0 < report["shared_bytes"] <= 48 * 1024


def test_the_kernel_takes_inputs_scalars_and_outputs(reports):
    for report in reports:
        kinds = [".u64"] * 3 + [".u32"] * len(report["scalars"]) + [".u64"]
        assert entry_parameters(report) == kinds


def test_nvidias_assembler_takes_the_ptx(reports, tmp_path):
    for report in reports:
        capability, version = BINDINGS[report["version"]]
        assert f".version {version // 10}.{version % 10}\n" in report["ptx"]
        assert re.search(rf"\.target sm_{capability}a?\n", report["ptx"])
        source = tmp_path / "kernel.ptx"
        source.write_text(report["ptx"])
        tool = TOOLS / ("ptxas-blackwell" if capability >= 100 else "ptxas")
        target = re.search(r"\.target (\w+)", report["ptx"]).group(1)
        run = subprocess.run(
            [tool, "-v", f"--gpu-name={target}", source, "-o", tmp_path / "kernel.cubin"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert " 0 bytes spill stores, 0 bytes spill loads" in run.stderr


def start(launch, inputs, output):
    """Run a kernel in Triton's interpreter as TensorRT would: inputs, scalars, outputs."""
    arguments = dict(zip(launch.spec.signature, (*inputs, *launch.scalars, output), strict=True))
    launch.spec.function[tuple(launch.grid)](**arguments, **launch.spec.constants)
    return output


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize(("rows", "codes", "dim"), [(70, 130, 64), (3, 1, 5), (1, 200, 128)])
def test_the_lookup_finds_what_the_body_finds(rows, codes, dim, few):
    generator = torch.Generator().manual_seed(rows)
    # Small integers: sums are exact, so that ties are ties, and the lowest index must win them.
    latents = torch.randint(-2, 3, (rows, dim), generator=generator).half()
    book = torch.randint(-2, 3, (codes, dim), generator=generator).half()
    book[codes // 2 :] = book[: codes - codes // 2].clone()
    norms = book.float().square().sum(1) / 2
    found = torch.full((rows,), -1, dtype=torch.int32)
    start(lookup_launch(rows, codes, dim, 87, few=few), (latents, book, norms), found)
    scores = norms - latents.float() @ book.float().T
    assert torch.equal(found, scores.argmin(1).int())


@pytest.mark.parametrize(("shape", "keys"), [((1, 2, 70, 32), 65), ((2, 3, 5, 40), 1)])
def test_the_attention_is_that_of_the_body(shape, keys):
    generator = torch.Generator().manual_seed(keys)
    batch, heads, queries, dim = shape
    query = torch.randn(shape, generator=generator).half()
    key, value = (
        torch.randn((batch, heads, keys, dim), generator=generator).half() for _ in range(2)
    )
    found = torch.full(shape, torch.nan, dtype=torch.float16)
    launch = attention_launch(batch * heads, queries, keys, dim, 87)
    start(launch, (query, key, value), found)
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(query.float(), key.float(), value.float())
    # Weights are rounded to float16 before the second product: 2**-11 of values of a few units.
    torch.testing.assert_close(found.float(), expected, atol=4e-3, rtol=2e-3)


def test_a_kernel_of_too_much_shared_memory_is_refused(monkeypatch):
    compiled = SimpleNamespace(name="wide", shared_bytes=48 * 1024 + 1)
    monkeypatch.setattr(aot, "compile_kernel", lambda *_: compiled)
    launch = attention_launch(1, 1, 1, 128, 100)
    with pytest.raises(EngineError, match="wide takes 49153 bytes of shared memory on sm_100"):
        plugin._compile(None, launch, plugin.PluginTarget(100))


def test_sizes_that_no_kernel_takes():
    for codes, dim in ((0, 64), (5, 0), (5, 129)):
        with pytest.raises(EngineError, match=r"use 1 or more of dim 1 to 128"):
            lookup_launch(1, codes, dim, 87, few=True)
    for dim in (31, 129):
        with pytest.raises(EngineError, match="the plugin takes 32 to 128"):
            attention_launch(1, 1, 1, dim, 87)


@pytest.mark.parametrize(
    ("driver", "version"),
    [("12.4", 84), ("12.6", 85), ("12.7", 85), ("12.8", 87), ("13.0", 90), ("13.2", 92)],
)
def test_ptx_is_not_newer_than_the_driver(driver, version):
    assert ptx_version(driver) == version


def test_other_drivers():
    assert ptx_version("13.9") is None
    assert ptx_version("14.0") is None
    with pytest.raises(EngineError, match=r"for CUDA 12\.3; plugins need 12\.4"):
        ptx_version("12.3")


def test_targets_are_known_to_the_compiler():
    assert {capability for capability, _ in BINDINGS.values()} <= set(ARCHITECTURES)


@pytest.mark.parametrize("version", BINDINGS)
def test_the_stub_cannot_build_and_says_so(version):
    """The builder's words where TensorRT is installed and has no driver."""
    code = (
        "import onnx\n"
        "from edge_codec.export.engine_builder import build_engine\n"
        "from edge_codec.export.trt_profile import Profile\n"
        "from edge_codec.runtime.tensorrt_module import load_tensorrt\n"
        "from edge_codec.runtime.trt_backend import TensorRtEngine\n"
        "from fake_tensorrt import FakeDevice\n"
        "trt = load_tensorrt(('tensorrt',))\n"
        "for action in (lambda: build_engine(onnx.ModelProto(), trt, Profile()),\n"
        "               lambda: TensorRtEngine(b'', FakeDevice(), trt)):\n"
        "    try:\n"
        "        action()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(version), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [line for line in run.stdout.splitlines() if line.startswith("EngineError")]
    reason = "it gave no reason; check the NVIDIA driver"
    assert found == [
        f"EngineError TensorRT {version} cannot start its builder: {reason}",
        f"EngineError TensorRT {version} does not start: {reason}",
    ]

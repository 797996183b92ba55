"""`CudaDevice` on a stand-in for NVIDIA's driver (tests/stub_cuda), in processes of their own.

Proven: cuda-python accepts the form of every call and passes it on as meant; the order of calls is
one that the stub's rules allow (contexts, captures, nothing freed or unloaded while work needs it);
copies move the right bytes; a kernel is given the values at the sizes that its real machine code
states, scratch pointers included; failures of the driver become messages.

Not proven: that a real driver's rules are those of the stub, that it accepts the machine code, and
that a kernel computes anything. `benchmarks.gpu_proof` shows that on a GPU.
"""

import json
from pathlib import Path

import pytest
from stub_cuda.stub import Stub, python

pytest.importorskip("cuda.bindings.driver", reason="cuda-python is missing")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    python("tiny_kernels.py", str(folder))
    return folder


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory, kernels: Path) -> Stub:
    return Stub(tmp_path_factory.mktemp("driver"), kernels)


def test_frame_copies_launches_and_replays(stub: Stub) -> None:
    seen = stub.run("frame")
    assert (seen["name"], seen["capability"], seen["driver"]) == ("Stub GPU", 90, "13.0")
    assert seen["same"] == [True, True, True, True]
    x, y, out = seen["addresses"]
    launch = (
        "launch add_kernel grid 4 65535 1 threads 128 shared 0 "
        f"parameters 8:{x} 8:{y} 4:{2**32 - 5} 8:{out} 8:0 8:0"
    )
    frame = ["upload 4000", launch, "download 4000"]
    replay = ["graph of 3", *frame]
    ordinary = ["upload 4000", "download 4000"]
    freed = ["free 4000"] * 5
    stream = f"stream {seen['stream']} flags 1"
    assert stub.log == [stream, *frame, *replay, *replay, *ordinary, *freed, "release"]


def test_branches_are_recorded_and_joined(stub: Stub) -> None:
    said = stub.run("forked")
    assert ["cannot branch again" in text for text in said] == [False, False, True]
    assert all("a grid of (0, 1, 1)" in text for text in said[:2])
    assert stub.violations() == []
    launches = [line.split(" ")[3] for line in stub.log if line.startswith("launch")]
    assert launches == ["1", "2", "1", "2", "4", "5"]
    assert [line for line in stub.log if line.startswith("graph")] == [
        "graph of 4 in 2 branches"
    ] * 2


def test_parameters_of_the_machine_code(kernels: Path) -> None:
    table = json.loads((kernels / "kernels.json").read_text("utf-8"))
    assert sorted(table) == ["add_80", "add_90", "product_90"]
    for entry in table.values():
        sizes = [8 if argument.startswith("*") else 4 for argument in entry["arguments"]]
        assert entry["sizes"] == [*sizes, 8, 8]


def test_more_than_48_kib_of_shared_memory(stub: Stub, kernels: Path) -> None:
    table = json.loads((kernels / "kernels.json").read_text("utf-8"))
    shared = table["product_90"]["shared_bytes"]
    assert shared > 48 * 1024
    stub.run("shared")
    assert stub.violations() == []
    assert any(f"threads 256 shared {shared} " in line for line in stub.log)


def test_nothing_is_freed_before_its_work_is_done(stub: Stub) -> None:
    assert stub.run("lifetimes") == 4  # two buffers, pinned memory and the kernel are in flight
    assert stub.violations() == []
    assert sum(line.startswith("launch") for line in stub.log) == 4
    # Of each launch two buffers and pinned memory, and two buffers that nothing used.
    assert sum(line.startswith("free") for line in stub.log) == 14
    assert stub.log[-1] == "release"


def test_an_interpreter_that_ends_frees_nothing(stub: Stub) -> None:
    stub.run("leave")
    assert len(stub.log) == 2
    assert stub.log[0].startswith("stream ")
    assert stub.log[1] == "graph of 1"


def test_a_fatal_error_makes_the_device_unusable(stub: Stub) -> None:
    said = stub.run("broken", STUB_CUDA_FAIL_LAUNCH="1")
    for text in said:
        assert text.startswith("EngineError: ")
        assert "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access" in text
        assert "unusable, start a new process" in text
    assert "no buffer of 1 bytes" in said[2]
    assert stub.violations() == []


@pytest.mark.parametrize(
    ("scenario", "found"),
    [
        ("exhausted", "no buffer of 1073741824 bytes on Stub GPU: cuMemAlloc: "),
        ("full", "no page-locked memory of 1073741824 bytes: cuMemHostAlloc: "),
    ],
)
def test_memory_that_is_not_there(stub: Stub, scenario: str, found: str) -> None:
    refused, then = stub.run(scenario, STUB_CUDA_FAIL_ALLOC="1")
    assert refused == f"EngineError: {found}CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
    assert then in ("then 1024", "then 10")


@pytest.mark.parametrize(
    ("scenario", "variables", "words"),
    [
        ("opened", {"STUB_CUDA_DEVICES": "0"}, ["CUDA_ERROR_NO_DEVICE", "nvidia-smi"]),
        ("opened", {"STUB_CUDA_DRIVER": "12030"}, ["CUDA 12.3", "CUDA 12.4 or newer"]),
        ("opened", {"STUB_CUDA_DRIVER": "11080"}, ["CUDA 12.4 or newer"]),
        ("opened", {"LD_LIBRARY_PATH": ""}, ["no usable NVIDIA driver", "CUDA 12.4 or newer"]),
        ("third", {}, ["there is no GPU 3; the driver shows 1, from 0"]),
        ("unbound", {}, ["cuda-python", "pip install 'edge-codec[gpu]'"]),
    ],
)
def test_what_is_missing(
    stub: Stub, scenario: str, variables: dict[str, str], words: list[str]
) -> None:
    text = stub.run(scenario, **variables)
    assert text.startswith("EngineError: ")
    assert all(word in text for word in words), text


def test_calls_that_are_refused(stub: Stub) -> None:
    said = stub.run("calls")
    assert len(said) == 31
    assert {name: text for name, text in said.items() if not text.startswith("EngineError")} == {}
    assert stub.violations() == []
    for name, found in {
        "scratch given": "6 arguments; it takes (*i32, *i32, i32, *i32)",
        "number too large": "given 2147483648 as argument 2",
        "buffer of another": "another device as argument 0",
        "upload too large": "4001 bytes",
        "record unpinned": "pin()",
        "wait in record": "while work is recorded",
    }.items():
        assert found in said[name]


def test_kernels_that_do_not_load(stub: Stub) -> None:
    said = stub.run("kernels")
    assert len(said) == 12
    assert {name: text for name, text in said.items() if not text.startswith("EngineError")} == {}
    assert stub.violations() == []
    for name, found in {
        "other architecture": "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "half of it": "cut or altered",
        "no such symbol": "CUDA_ERROR_NOT_FOUND",
        "one argument less": "[8, 8, 4, 8, 8, 8] bytes, not [8, 4, 8, 8, 8]",
        "64 warps": "64 warps, not 1..32",
        "too much shared memory": "Stub GPU has 232448",
    }.items():
        assert found in said[name]


def test_a_kernel_of_an_earlier_revision_loads(stub: Stub) -> None:
    assert stub.run("earlier", STUB_CUDA_CAPABILITY="86") == 4

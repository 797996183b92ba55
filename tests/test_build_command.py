"""`edge-codec build`, and what `edge-codec doctor` says of GPUs and engines."""

import io
import json
from dataclasses import replace

import pytest
from fake_tensorrt import FakeDevice, fake_tensorrt

from edge_codec.cli import Console, main
from edge_codec.commands.build import TARGETS
from edge_codec.errors import EngineError
from edge_codec.exit_status import ExitStatus
from edge_codec.export import engine_builder, gpu_frame
from edge_codec.kernels.aot import ARCHITECTURES
from edge_codec.manifest import load_manifest
from edge_codec.runtime import cuda_device, gpu_pick, tensorrt_module
from edge_codec.runtime.engine_cache import EngineCache, digest_of, read_engine_file
from edge_codec.runtime.gpu_pick import engine_key
from edge_codec.runtime.tensorrt_module import load_tensorrt
from edge_codec.spec import ModelId

DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")


def run(*arguments):
    """Run one command and return (status, stdout, stderr)."""
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache of engines."""
    monkeypatch.setenv("EDGE_CODEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine")
    return load_tensorrt(("tensorrt_rtx",))


@pytest.fixture
def decoder(tmp_path):
    """The decoder as a user's ONNX file."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(DECODER)
    return path


@pytest.fixture
def payload(monkeypatch):
    """Build nothing, but return the same engine for every key."""
    monkeypatch.setattr(engine_builder, "build_payload", lambda *_: b"engine")
    monkeypatch.setattr(gpu_frame, "build_model_file", lambda *_: b"engine")
    return b"engine"


@pytest.fixture
def gpu(monkeypatch):
    """A GPU, and TensorRT whose engines are ONNX files."""
    device = FakeDevice(capability=87, name="Orin", driver="12.6")
    trt = fake_tensorrt(device)
    monkeypatch.setattr(cuda_device, "open_cuda_device", lambda: device)
    monkeypatch.setattr(tensorrt_module, "load_tensorrt", lambda *_: trt)
    monkeypatch.setattr(gpu_pick, "load_tensorrt", lambda *_: trt)
    return device, trt


def test_the_zoo_for_an_rtx_gpu(rtx, cache):
    status, out, _ = run("build", "--backend", "tensorrt", "--target", "sm86", "--json")
    assert status == ExitStatus.OK
    rows = json.loads(out)["engines"]
    assert [row["network"] for row in rows] == ["encoder", "decoder"]
    for row in rows:
        found, data = read_engine_file(cache / row["file"])
        assert found.backend == row["backend"] == "tensorrt_rtx"
        assert found.capability == 86
        assert len(data) == row["bytes"] > 1_000_000
        assert row["seconds"] > 0
    assert EngineCache(cache).find(digest_of(DECODER), 86) == ("tensorrt_rtx",)


def test_the_table_of_a_file_for_our_own_backend(payload, decoder, tmp_path):
    target = tmp_path / "out.engine"
    arguments = ["build", "--model", decoder, "--target", "sm_120", "--out", target]
    status, out, _ = run(*arguments)
    assert status == ExitStatus.OK
    header, row = out.splitlines()
    assert header.split() == [
        "network", "backend", "precision", "target", "bytes", "seconds", "file",
    ]  # fmt: skip
    assert row.split()[:5] == ["mine", "triton", "int8", "sm120", "6"]
    key = engine_key(DECODER, "triton", 120)
    assert read_engine_file(target) == (key, payload)
    assert run(*arguments)[0] == ExitStatus.INPUT  # it exists
    assert run(*arguments, "--force")[0] == ExitStatus.OK


def test_engines_for_this_machine_go_to_its_cache(gpu, payload, cache):
    device, trt = gpu
    status, out, _ = run("build", "--backend", "tensorrt", "--shape", "128x96", "--batch", "2")
    assert status == ExitStatus.OK
    assert "sm87 (Orin)" in out
    key = engine_key(DECODER, "tensorrt", 87, trt, device)
    found, data = read_engine_file(cache / key.file_name)
    assert data == payload
    assert found == replace(key, profile="tokens 1x1x1 1x16x12 2x128x128")


def test_what_is_built_is_what_is_loaded(gpu, cache, monkeypatch):
    monkeypatch.setattr(engine_builder, "build_payload", lambda model, *_: model)
    device, _ = gpu
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: device)
    assert run("build", "--backend", "tensorrt")[0] == ExitStatus.OK
    monkeypatch.setattr(engine_builder, "build_payload", lambda *_: pytest.fail("built again"))
    assert gpu_pick.load_gpu_engine(DECODER, "tensorrt").name == "tensorrt 10.16.1.11 Orin"


def test_a_folder_of_engines(payload, tmp_path):
    assert run("build", "--target", "sm89", "--out", tmp_path / "new")[0] == ExitStatus.OK
    assert len(list((tmp_path / "new").glob("*-triton-int8-sm_89.engine"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "sm75"], "target 'sm75' is unknown; use this, sm80"),
        (["--target", "sm87;rm"], "is unknown; use this"),
        (["--target", "sm89", "--backend", "openvino"], "use triton or tensorrt"),
        (["--target", "sm89", "--model", "none"], "'none' has no networks"),
        (["--target", "sm89", "--model", "missing.onnx"], "missing.onnx is no file"),
        (["--target", "sm89", "--shape", "256"], "'256' is not ROWSxCOLUMNS"),
        (["--target", "sm89", "--shape", "9999x8"], "sides of 1 to 1024"),
        (["--target", "sm89", "--out", "x.engine"], "vqvae is 2 networks"),
        (["--target", "sm89", "--precision", "fp16"], "integer networks; use --precision int8"),
    ],
)
def test_what_cannot_be_built(arguments, message):
    status, out, err = run("build", *arguments)
    assert status == ExitStatus.ENGINE
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_model_that_is_unknown():
    status, _, err = run("build", "--target", "sm89", "--model", "resnet")
    assert status != ExitStatus.OK
    assert "'resnet' is unknown" in err


def test_without_a_gpu_the_target_must_be_named(monkeypatch):
    def fail():
        raise EngineError("no usable NVIDIA driver")

    monkeypatch.setattr(cuda_device, "open_cuda_device", fail)
    status, _, err = run("build")
    assert status == ExitStatus.ENGINE
    assert "no usable NVIDIA driver; name the target, for example --target sm87" in err


def test_tensorrt_builds_on_the_target(monkeypatch):
    monkeypatch.setattr(tensorrt_module, "installed_flavors", lambda: ("tensorrt",))
    status, _, err = run("build", "--target", "sm87", "--backend", "tensorrt")
    assert status == ExitStatus.ENGINE
    assert "--target this --backend tensorrt on the one with sm87" in err


def test_rtx_says_what_it_builds_for(rtx):
    status, _, err = run("build", "--target", "sm90", "--backend", "tensorrt")
    assert status == ExitStatus.ENGINE
    assert "has no target sm_90, but 75, 80, 86, 89, 120, 121" in err


def test_targets_are_those_of_the_compiler():
    assert TARGETS == ARCHITECTURES


def doctor():
    status, out, _ = run("doctor", "--json")
    return status, json.loads(out)


def test_doctor_without_a_gpu(monkeypatch, cache):
    def fail():
        raise EngineError("no usable NVIDIA driver")

    monkeypatch.setattr(gpu_pick, "open_gpu", fail)
    status, fields = doctor()
    assert status == ExitStatus.OK
    assert fields["gpu"] == "none: no usable NVIDIA driver"
    assert fields["engine_folder"] == str(cache)
    assert not [name for name in fields if name.endswith(".engine")]


def test_doctor_tries_the_engines_of_this_gpu(gpu, cache, monkeypatch):
    device, trt = gpu
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: device)
    key = engine_key(DECODER, "tensorrt", 87, trt, device)
    path = EngineCache(cache).keep(key, DECODER)
    status, fields = doctor()
    assert status == ExitStatus.OK
    assert fields["gpu"] == "Orin, sm_87"
    assert fields["cuda_driver"] == "12.6"
    assert fields["tensorrt"] == "TensorRT 10.16.1.11"
    assert fields[path.name] == "tensorrt 10.16.1.11 int8 for sm_87, Orin"
    assert "bits right" in fields["vqvae_on_tensorrt"]


def test_doctor_builds_nothing_and_names_what_does_not_fit(gpu, cache, monkeypatch):
    device, trt = gpu
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: device)
    monkeypatch.setattr(engine_builder, "build_payload", lambda *_: pytest.fail("built"))
    key = engine_key(DECODER, "tensorrt", 87, trt, device)
    path = EngineCache(cache).keep(replace(key, driver="13.0"), DECODER)
    (cache / "broken.engine").write_bytes(b"")
    status, fields = doctor()
    assert status == ExitStatus.ENGINE
    assert "driver 13.0 where 12.6 is needed" in fields["vqvae_on_tensorrt"]
    assert "int8 for sm_87" in fields[path.name]
    assert "no engine file" in fields["broken.engine"]

"""Engines of a GPU: found in the cache, built where they are missing, compared with the CPU."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_tensorrt import FakeDevice, fake_tensorrt

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime import gpu_pick
from edge_codec.runtime.engine_cache import EngineCache, read_engine_file
from edge_codec.runtime.gpu_pick import built_backends, engine_key, load_gpu_engine
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.pick import CPU_BACKENDS, GPU_BACKENDS, load_engine
from edge_codec.runtime.self_check import check_integers
from edge_codec.spec import ModelId

DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")
ENCODER = load_manifest(ModelId.VQVAE).read("encoder.onnx")
TOKENS = np.arange(20, dtype=np.int32).reshape(1, 4, 5)


@pytest.fixture
def builds():
    """List what is built."""
    return []


@pytest.fixture
def gpu(monkeypatch, tmp_path, builds):
    """A GPU with TensorRT, whose engines are ONNX files, and an empty cache."""
    device = FakeDevice()
    trt = fake_tensorrt(device)

    def build_payload(model, key):
        builds.append(key)
        return model

    monkeypatch.setenv("EDGE_CODEC_CACHE", str(tmp_path))
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: device)
    monkeypatch.setattr(gpu_pick, "load_tensorrt", lambda: trt)
    monkeypatch.setattr(gpu_pick, "_export", lambda _: SimpleNamespace(build_payload=build_payload))
    return device


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setenv("EDGE_CODEC_CACHE", str(tmp_path))
    return EngineCache(tmp_path)


def on_cpu(engine):
    return engine.name.startswith(CPU_BACKENDS)


def key_of(device, **changes):
    trt = fake_tensorrt(device)
    return replace(engine_key(DECODER, "tensorrt", device.capability, trt, device), **changes)


def test_an_engine_is_built_once_and_runs(gpu, builds, tmp_path):
    for _ in range(2):
        engine = load_engine(DECODER, "tensorrt")
        np.testing.assert_array_equal(engine.run(TOKENS), OrtEngine(DECODER, 1).run(TOKENS))
    assert builds == [key_of(gpu)]
    assert [read_engine_file(path)[0] for path in tmp_path.iterdir()] == builds


@pytest.mark.parametrize("change", [{"driver": "12.6"}, {"version": "10.3.0"}, {"builder": "0"}])
def test_what_has_changed_is_built_again(gpu, builds, nowhere, caplog, change):
    path = nowhere.folder / key_of(gpu).file_name
    nowhere.keep(key_of(gpu, **change), b"of another time")
    load_engine(DECODER, "tensorrt")
    assert len(builds) == 1
    (field,) = change
    assert f"{field} {change[field]} where" in caplog.text
    assert read_engine_file(path) == (key_of(gpu), DECODER)


def test_auto_takes_an_engine_that_was_built(gpu, nowhere):
    assert on_cpu(load_engine(DECODER))
    nowhere.keep(key_of(gpu), DECODER)
    assert load_engine(DECODER).name == "tensorrt 10.16.1.11 Fake GPU"
    assert on_cpu(load_engine(ENCODER))


def test_auto_builds_nothing_and_says_what_differs(gpu, builds, nowhere, caplog):
    nowhere.keep(key_of(gpu, driver="12.6"), DECODER)
    assert on_cpu(load_engine(DECODER))
    assert builds == []
    assert "driver 12.6 where 13.0 is needed; run edge-codec build; going on with" in caplog.text


def test_auto_without_engines_looks_for_no_gpu(nowhere, monkeypatch):
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: pytest.fail("looked for a GPU"))
    assert on_cpu(load_engine(DECODER))


def test_auto_goes_on_without_a_gpu(gpu, nowhere, monkeypatch, caplog):
    def fail():
        raise EngineError("no usable NVIDIA driver")

    nowhere.keep(key_of(gpu), DECODER)
    monkeypatch.setattr(gpu_pick, "open_gpu", fail)
    assert on_cpu(load_engine(DECODER))
    assert caplog.messages == ["no usable NVIDIA driver; going on with the CPU"]


def test_our_own_engine_goes_first(gpu, nowhere):
    for backend in ("tensorrt_rtx", "triton"):
        nowhere.keep(engine_key(DECODER, backend, gpu.capability), b"engine")
    nowhere.keep(engine_key(DECODER, "triton", 120), b"engine")
    assert built_backends(DECODER) == ("triton", "tensorrt")
    assert built_backends(ENCODER) == ()


class Wrong:
    """An engine whose results are altered."""

    name = "wrong engine"

    def __init__(self, model, alter):
        self.engine, self.alter = OrtEngine(model, 1), alter

    def run(self, tensor):
        return self.alter(self.engine.run(tensor))


def one_off(result):
    result = result.copy()
    result.flat[-1] ^= 1
    return result


@pytest.mark.parametrize("model", [ENCODER, DECODER])
@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (one_off, r"wrong engine gives other integers than the CPU \(1 of \d+"),
        (lambda result: result.astype(np.int16), "gives int16"),
        (lambda result: result[:, :, :1], "where the CPU gives"),
    ],
)
def test_an_engine_that_is_wrong_is_refused(model, alter, message):
    with pytest.raises(EngineError, match=message):
        check_integers(Wrong(model, alter), model)
    check_integers(Wrong(model, lambda result: result), model)


def test_the_sample_reaches_every_level():
    """What is compared is no corner of what a network sees."""
    seen = []

    class Spy(Wrong):
        def run(self, tensor):
            seen.append(tensor)
            return super().run(tensor)

    for model in (ENCODER, DECODER):
        check_integers(Spy(model, lambda result: result), model)
    frame, tokens = seen
    assert frame.shape == (1, 1, 32, 32)
    assert len(np.unique(frame)) > 200
    assert tokens.shape == (1, 32, 32)
    assert len(np.unique(tokens)) > 500
    assert tokens.max() > 1000


def test_a_wrong_engine_is_not_used(gpu, nowhere, caplog, monkeypatch):
    monkeypatch.setitem(gpu_pick.LOADERS, "triton", lambda *_: Wrong(DECODER, one_off))
    with pytest.raises(EngineError, match="other integers than the CPU"):
        load_engine(DECODER, "triton")
    nowhere.keep(engine_key(DECODER, "triton", gpu.capability), b"engine")
    assert on_cpu(load_engine(DECODER))
    assert "going on with the CPU" in caplog.text


@pytest.mark.parametrize("backend", ["triton", "tensorrt"])
def test_without_a_gpu_there_is_one_line(nowhere, backend):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine")
    try:
        gpu_pick.open_gpu()
    except EngineError:
        pass
    else:
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match=r"NVIDIA|cuda-python") as caught:
        load_engine(DECODER, backend)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["ort-cuda", "ort-tensorrt"])
def test_providers_that_are_not_there(nowhere, backend):
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu in place of onnxruntime"):
        load_engine(DECODER, backend)


def test_no_builder_on_a_deployed_machine(gpu, monkeypatch, nowhere):
    monkeypatch.undo()
    monkeypatch.setenv("EDGE_CODEC_CACHE", str(nowhere.folder))
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: gpu)
    monkeypatch.setattr(gpu_pick, "BUILDER_MODULE", "edge_codec.export.not_installed")
    with pytest.raises(EngineError, match=r"cannot be built here .* copy the file"):
        load_gpu_engine(DECODER, "triton")
    with pytest.raises(EngineError, match=r"no engine 1175.*-triton-int8-sm_89.engine in .* run"):
        load_gpu_engine(DECODER, "triton", build=False)


def test_backends_are_named_once():
    assert set(gpu_pick.LOADERS) == set(GPU_BACKENDS)
    assert not set(CPU_BACKENDS) & set(GPU_BACKENDS)

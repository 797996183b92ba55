"""ONNX Runtime's GPU providers, as far as a build without them can show."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime import ort_gpu_backend
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.ort_gpu_backend import PROVIDERS, OrtGpuEngine, offered, provider_options
from edge_codec.spec import ModelId

DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")


def fake_runtime(monkeypatch, started):
    """Pretend that ONNX Runtime has the providers; `started` of them start."""
    asked = []

    def session(model, options, providers):
        asked.extend(providers)
        inner = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return SimpleNamespace(
            get_providers=lambda: [*started, "CPUExecutionProvider"],
            get_inputs=inner.get_inputs,
            run=inner.run,
        )

    monkeypatch.setattr(
        ort_gpu_backend,
        "onnxruntime",
        SimpleNamespace(
            __version__="1.2.3",
            get_available_providers=lambda: [*PROVIDERS.values(), "CPUExecutionProvider"],
            SessionOptions=onnxruntime.SessionOptions,
            InferenceSession=session,
        ),
    )
    return asked


def test_tf32_is_off_for_every_cuda_provider():
    for backend in PROVIDERS:
        options = dict(provider_options(backend, Path("cache")))
        assert options["CUDAExecutionProvider"]["use_tf32"] == "0"
        assert next(iter(options)) == PROVIDERS[backend]
        assert list(options)[-1] == "CPUExecutionProvider"


def test_engines_and_timings_are_kept():
    options = dict(provider_options("ort-tensorrt", Path("cache")))["TensorrtExecutionProvider"]
    assert options["trt_engine_cache_enable"] == "1"
    assert Path(options["trt_engine_cache_path"]) == Path("cache/onnxruntime")
    assert options["trt_timing_cache_path"] == options["trt_engine_cache_path"]
    assert options["trt_fp16_enable"] == "0"


def test_a_provider_that_starts_is_used(monkeypatch, tmp_path):
    asked = fake_runtime(monkeypatch, PROVIDERS.values())
    assert offered() == ("ort-cuda", "ort-tensorrt")
    engine = OrtGpuEngine(DECODER, "ort-cuda", tmp_path)
    tokens = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
    np.testing.assert_array_equal(engine.run(tokens), OrtEngine(DECODER, 1).run(tokens))
    assert engine.name == "onnxruntime 1.2.3 ort-cuda"
    assert asked == provider_options("ort-cuda", tmp_path)
    with pytest.raises(EngineError, match=r"ort-cuda failed on \(3,\)"):
        engine.run(tokens[0, 0])


@pytest.mark.parametrize("backend", PROVIDERS)
def test_a_provider_that_does_not_start_is_an_error(monkeypatch, tmp_path, backend):
    fake_runtime(monkeypatch, [])
    with pytest.raises(EngineError, match="did not start; check the NVIDIA driver"):
        OrtGpuEngine(DECODER, backend, tmp_path)


def test_a_model_that_is_refused(monkeypatch, tmp_path):
    fake_runtime(monkeypatch, PROVIDERS.values())
    with pytest.raises(EngineError, match="refuses the model"):
        OrtGpuEngine(b"no model", "ort-cuda", tmp_path)


def test_the_installed_runtime_says_what_it_lacks(tmp_path):
    if offered():
        pytest.skip("this ONNX Runtime has GPU providers")
    with pytest.raises(EngineError, match="has no CUDAExecutionProvider; pip install onnxruntime-"):
        OrtGpuEngine(DECODER, "ort-cuda", tmp_path)

"""Which backend is chosen, and what is said of those that are not there."""

import importlib.util

import pytest

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime import native_backend, pick
from edge_codec.runtime.pick import available, default_threads, load_engine
from edge_codec.spec import ModelId

DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")


@pytest.fixture(autouse=True)
def no_engines(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_CODEC_CACHE", str(tmp_path))


def without(monkeypatch, *names):
    """Hide packages."""
    find = importlib.util.find_spec

    def hide(name, *rest):
        return None if name in names else find(name, *rest)

    monkeypatch.setattr(pick.importlib.util, "find_spec", hide)


@pytest.fixture(params=[True, False])
def fast(monkeypatch, request):
    """A processor on which our own engine is the fastest, or is not."""
    monkeypatch.setattr(native_backend, "is_fast", lambda: request.param)
    return request.param


def test_our_own_engine_goes_first_where_it_is_fast_then_openvino(monkeypatch, fast):
    pytest.importorskip("openvino")
    packaged = ("openvino", "onnxruntime")
    assert available() == (("native", *packaged) if fast else (*packaged, "native"))
    assert load_engine(DECODER, threads=1).name.startswith("native" if fast else "openvino")
    without(monkeypatch, "openvino")
    assert available() == (("native", "onnxruntime") if fast else ("onnxruntime", "native"))
    assert load_engine(DECODER, threads=1).name.startswith("native" if fast else "onnxruntime")


def test_without_the_library_that_it_is_compared_with_ours_is_not_there(monkeypatch, fast):
    without(monkeypatch, "openvino", "onnxruntime")
    assert available() == ()
    with pytest.raises(EngineError, match="'native' is missing; pip install onnxruntime"):
        load_engine(DECODER, "native")


def test_a_network_that_ours_refuses_goes_to_another(monkeypatch, caplog):
    def refuse(model, threads):
        raise EngineError("a layer of another kind")

    monkeypatch.setattr(native_backend, "is_fast", lambda: True)
    monkeypatch.setattr(native_backend, "NativeEngine", refuse)
    without(monkeypatch, "openvino")
    assert load_engine(DECODER, threads=1).name.startswith("onnxruntime")
    assert "a layer of another kind; going on with another backend" in caplog.text
    with pytest.raises(EngineError, match="of another kind"):
        load_engine(DECODER, "native", threads=1)


def test_an_engine_of_wrong_integers_is_not_used(monkeypatch, caplog):
    class Wrong(native_backend.NativeEngine):
        def run(self, tensor):
            result = super().run(tensor)
            result.flat[7] ^= 1
            return result

    monkeypatch.setattr(native_backend, "is_fast", lambda: True)
    monkeypatch.setattr(native_backend, "NativeEngine", Wrong)
    without(monkeypatch, "openvino")
    assert load_engine(DECODER, threads=1).name.startswith("onnxruntime")
    assert "gives other integers than the CPU" in caplog.text


def test_a_backend_that_is_not_installed(monkeypatch):
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(EngineError, match=r"'openvino' is missing; pip install edge-codec\[open"):
        load_engine(DECODER, "openvino")
    with pytest.raises(EngineError, match="no inference backend is installed"):
        load_engine(DECODER)


def test_unknown_names_and_impossible_threads():
    with pytest.raises(
        EngineError, match=r"'cuda' is unknown; use auto, native, openvino, .*ort-tensorrt"
    ):
        load_engine(DECODER, "cuda")
    with pytest.raises(EngineError, match="threads is 0"):
        load_engine(DECODER, threads=0)


def test_threads_are_few():
    assert 1 <= default_threads() <= 4

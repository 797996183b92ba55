"""Which backend is chosen, and what is said of those that are not there."""

import importlib.util

import pytest

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime import pick
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


def test_openvino_goes_first_then_onnxruntime(monkeypatch):
    pytest.importorskip("openvino")
    assert available() == ("openvino", "onnxruntime")
    assert load_engine(DECODER, threads=1).name.startswith("openvino")
    without(monkeypatch, "openvino")
    assert available() == ("onnxruntime",)
    assert load_engine(DECODER, threads=1).name.startswith("onnxruntime")


def test_a_backend_that_is_not_installed(monkeypatch):
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(EngineError, match=r"'openvino' is missing; pip install edge-codec\[open"):
        load_engine(DECODER, "openvino")
    with pytest.raises(EngineError, match="no inference backend is installed"):
        load_engine(DECODER)


def test_unknown_names_and_impossible_threads():
    with pytest.raises(EngineError, match=r"'cuda' is unknown; use auto, openvino, .*ort-tensorrt"):
        load_engine(DECODER, "cuda")
    with pytest.raises(EngineError, match="threads is 0"):
        load_engine(DECODER, threads=0)


def test_threads_are_few():
    assert 1 <= default_threads() <= 4

"""Loading of the weights: whole, altered, and of another tokenizer."""

import json

import numpy as np
import pytest
from retrieval_samples import codebook, describe, make_exam, search_model, weight_arrays

from edge_codec.base import titok
from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.retrieval import weights
from edge_codec.retrieval.weights import load_search_model
from edge_codec.training.disease_head_zoo import write_zoo

MEASURED = {
    "right": 1, "patients": 2, "folds": 2, "accuracy": 0.5, "accuracy_95_percent": [0.1, 0.9],
    "confusion": [[0] * 5] * 5,
}  # fmt: skip
DIGEST = "ef" * 32


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo with random weights and a tokenizer of which only the codebook is there."""
    write_zoo(tmp_path / "disease_head", weight_arrays(), MEASURED, DIGEST, "1.2.3")
    (tmp_path / "titok").mkdir()
    fields = {"name": "titok", "version": "1", "license": "MIT", "decoding": [],
              "sha256": {"codebook.npy": DIGEST}}  # fmt: skip
    (tmp_path / "titok" / "manifest.json").write_text(json.dumps(fields))
    monkeypatch.setattr(weights, "load_manifest", lambda name: manifest_of(name, tmp_path))
    monkeypatch.setattr(titok, "load_codebook", codebook)
    load_search_model.cache_clear()
    yield tmp_path
    load_search_model.cache_clear()


def manifest_of(name, zoo):
    return load_manifest(name if isinstance(name, str) else name.name.lower(), zoo)


def test_weights_in_half_precision_describe_alike(zoo):
    loaded, whole = load_search_model(), search_model()
    for exam in (make_exam(1), make_exam(2)):
        found, expected = describe(loaded, exam), describe(whole, exam)
        np.testing.assert_allclose(
            found.frames.astype(np.float32), expected.frames.astype(np.float32), atol=5e-3
        )
    assert DIGEST in loaded.name


def test_weights_of_another_tokenizer_are_refused(zoo):
    path = zoo / "titok" / "manifest.json"
    path.write_text(path.read_text().replace(DIGEST, "01" * 32))
    with pytest.raises(EngineError, match="another codebook"):
        load_search_model()


def test_altered_and_malformed_weights_are_refused(zoo):
    path = zoo / "disease_head" / "head.npz"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match="was altered"):
        load_search_model()


def test_an_install_without_weights_says_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "load_manifest", lambda name: manifest_of(name, tmp_path))
    load_search_model.cache_clear()
    with pytest.raises(EngineError, match="how to make them"):
        load_search_model()

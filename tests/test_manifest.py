"""Models of the zoo are found by id and by name, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest, model_names
from edge_codec.spec import ModelId


def test_an_id_and_a_name_find_the_same() -> None:
    assert load_manifest("vqvae") == load_manifest(ModelId.VQVAE)
    assert load_manifest("segmentation").decoding == ()


def test_every_model_of_the_zoo_is_whole() -> None:
    names = model_names()
    assert {"segmentation", "vqvae"} <= set(names)
    for name in names:
        manifest = load_manifest(name)
        assert manifest.hashes
        for file in manifest.hashes:
            assert manifest.read(file)


@pytest.mark.parametrize("name", ["", "..", "../zoo/vqvae", "vqvae/", "a b"])
def test_names_of_no_folder_are_refused(name: str) -> None:
    with pytest.raises(EngineError, match=r"no name of a model; the zoo has .*vqvae"):
        load_manifest(name)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="missing or malformed"):
        load_manifest("vqvae", tmp_path)
    assert model_names(tmp_path) == []

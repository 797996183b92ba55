"""The zoo's weights for search and for the disease head, which belong to one tokenizer."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.manifest import Manifest, load_manifest
from edge_codec.retrieval.descriptor import Axes, Describer
from edge_codec.retrieval.disease_head import DiseaseHead
from edge_codec.retrieval.listener import Listener
from edge_codec.retrieval.token_reader import WEIGHTS, TokenReader
from edge_codec.spec import ModelId

MODEL = "disease_head"
FILE = "head.npz"
CODEBOOK = "codebook.npy"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class SearchModel:
    """All that is learned of search.

    Attributes
    ----------
    name : str
        Changes with the weights and the tokenizer.
    listener : Listener
    describer : Describer
    head : DiseaseHead
    """

    name: str
    listener: Listener
    describer: Describer
    head: DiseaseHead


@lru_cache(maxsize=1)
def load_search_model() -> SearchModel:
    """Load the zoo's weights.

    Raises
    ------
    EngineError
        If a file is missing or altered, or the weights were learned from another tokenizer's
        tokens than the shipped one's.
    """
    from edge_codec.base.titok import load_codebook

    manifest, tokenizer = _search_manifest(), load_manifest(ModelId.TITOK)
    arrays = _arrays(manifest)
    digest = tokenizer.hashes[CODEBOOK]
    if bytes(arrays.pop("tokenizer").astype(np.uint8)).hex() != digest:
        raise EngineError(
            f"{MODEL} was learned from another codebook than {digest[:16]}... of "
            f"'{tokenizer.name}'; learn it again with 'python -m edge_codec.training.disease_head'"
        )
    return make_search_model(arrays, load_codebook(), f"{manifest.hashes[FILE]}/{digest}")


def _search_manifest() -> Manifest:
    try:
        return load_manifest(MODEL)
    except EngineError as error:
        raise EngineError(
            "this version comes without weights for search, which belong to the final tokenizer; "
            "docs/search.md says how to make them ('Learning it again')"
        ) from error


def make_search_model(arrays: Arrays, codebook: NDArray[np.float32], name: str) -> SearchModel:
    """Put weights together.

    Parameters
    ----------
    arrays : dict of str to ndarray
        As `pack_search_model` takes them.
    codebook : ndarray, shape (4096, 12), float32
    name : str
        Of the weights and the tokenizer.

    Raises
    ------
    EngineError
        If one is missing or has another shape.
    """
    try:
        listener = Listener(codebook, arrays["listener_steps"])
        describer = Describer(
            Axes(arrays["frame_mean"], arrays["frame_axes"]),
            Axes(arrays["slice_mean"], arrays["slice_axes"]),
        )
        reader = TokenReader({key: arrays[f"reader_{key}"] for key in WEIGHTS})
        doubles = {
            key: arrays[f"head_{key}"].astype(np.float64)
            for key in ("mean", "scale", "spread", "weights", "bias")
        }
        farthest = float(arrays["head_farthest"])
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{FILE} is malformed ({error!r}); reinstall") from error
    head = DiseaseHead(reader, farthest=farthest, **doubles)
    return SearchModel(name, listener, describer, head)


def _arrays(manifest: Manifest) -> Arrays:
    """Read the arrays of the file; the large ones are kept as float16."""
    try:
        with np.load(io.BytesIO(manifest.read(FILE)), allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise EngineError(f"{FILE} is malformed ({error}); reinstall") from error

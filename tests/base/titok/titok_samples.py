"""Tables of random numbers, and networks that need no backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.base.titok.model import TitokModel
from edge_codec.base.titok.token_prior import (
    AROUND,
    CODE_DIM,
    CODES,
    STAGES,
    TOKENS,
    PriorTables,
    TokenPrior,
)
from edge_codec.spec import CineInfo, ModelId, StreamSpec

INPUTS = AROUND * CODE_DIM


def random_tables(seed: int = 0, hidden: int = 12, dim: int = 6, **changes: Any) -> PriorTables:
    """Tables whose distributions are far from even and depend on every input."""
    rng = np.random.default_rng(seed)

    def draw(dtype: type, most: int, *shape: int) -> np.ndarray:
        return rng.integers(-most, most + 1, shape).astype(dtype)

    tables = {
        "codes": draw(np.int8, 127, CODES, CODE_DIM),
        "enter": draw(np.int16, 900, INPUTS, hidden),
        "enter_bias": draw(np.int32, 1 << 20, STAGES, TOKENS, hidden),
        "middle": draw(np.int16, 4000, hidden, hidden),
        "middle_bias": draw(np.int32, 1 << 21, hidden),
        "leave": draw(np.int16, 3000, hidden, dim),
        "across": draw(np.int16, 20000, INPUTS, dim),
        "leave_bias": draw(np.int32, 1 << 22, dim),
        "embed": draw(np.int8, 127, CODES, dim),
        "bias": draw(np.int16, 700, CODES),
    }
    return PriorTables(**(tables | changes))


class ToyEncoder:
    """Latents that are block means of the frame and of its change, so that tokens tell it."""

    name = "toy encoder"

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        assert sorted(inputs) == sorted(ENCODER_INPUTS)
        assert all(inputs[name].shape == shape for name, shape in ENCODER_INPUTS.items())
        assert {value.dtype for value in inputs.values()} == {np.dtype("f4"), np.dtype("i8")}
        blocks = inputs["frame"].reshape(8, 16, 4, 32).mean(axis=(1, 3)).reshape(32, 1)
        before = inputs["past_frame"].reshape(8, 16, 4, 32).mean(axis=(1, 3)).reshape(32, 1)
        told = np.float32(inputs["clinical"].sum() + inputs["age"][0] + inputs["heart"].mean())
        angles = np.arange(CODE_DIM, dtype=np.float32) * (1 + blocks - 0.3 * before + 0.01 * told)
        latents = np.cos(angles)
        return (latents / np.linalg.norm(latents, axis=1, keepdims=True))[None]


class ToyDecoder:
    """A frame of 32 blocks of a level each, that remembers half of the one before."""

    name = "toy decoder"

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        assert sorted(inputs) == sorted(DECODER_INPUTS)
        assert all(inputs[name].shape == shape for name, shape in DECODER_INPUTS.items())
        level = inputs["codes"][0].sum(axis=1).reshape(8, 4) / 4 + inputs["past_known"].mean()
        frame = np.kron(level, np.ones((16, 32), np.float32))[None, None]
        frame += 0.5 * inputs["past_frame"] + 0.01 * inputs["past_codes"].sum()
        return frame * inputs["inside"]


PAST_INPUTS = {
    "past_frame": (1, 1, 128, 128),
    "past_codes": (1, 4, 32, 12),
    "past_known": (1, 4),
    "inside": (1, 1, 128, 128),
    "clinical": (1, 12),
    "age": (1,),
}
DECODER_INPUTS = {**PAST_INPUTS, "codes": (1, 32, 12)}
ENCODER_INPUTS = {
    **PAST_INPUTS,
    "frame": (1, 1, 128, 128),
    "heart": (1, 1, 8, 8),
    "anatomy": (1, 16),
}


def toy_model(**changes: Any) -> TitokModel:
    """A whole model without any backend."""
    codebook = np.random.default_rng(5).normal(size=(CODES, CODE_DIM)).astype(np.float32)
    codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
    parts = {"decoder": ToyDecoder(), "encoder": ToyEncoder(), "codebook": codebook}
    return TitokModel(**({"prior": TokenPrior(random_tables()), **parts} | changes))


def toy_spec(rows: int = 40, columns: int = 26, n_phases: int = 0, **changes: Any) -> StreamSpec:
    """A stream of such a model."""
    info = CineInfo(1, n_phases, rows, columns, np.dtype(np.uint16))
    fields = {
        "low": 0,
        "high": 4000,
        "model": ModelId.TITOK,
        "max_error": None,
        "window_low": 10,
        "window_high": 1510,
        "model_data": ClinicalFacts(n_phases=n_phases).pack(),
    }
    return StreamSpec(info, **(fields | changes))

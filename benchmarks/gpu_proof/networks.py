"""The zoo's integer networks: the same integers on the CPU and on our own GPU backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_proof.devices import own_engine
from benchmarks.gpu_proof.section import Row, Setting
from edge_codec.engine import Engine
from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.integer_reference import IntegerReference
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.spec import ModelId

SMALL = ((1, 3, 5), (2, 4, 1))
LARGE = ((1, 1, 1), (2, 13, 17), (1, 32, 32), (16, 32, 32), (1, 64, 64))
EXACT_LIMIT = 2_000  # tokens up to which NumPy's integers, which are slow, are compared as well


def section(setting: Setting) -> Iterator[Row]:
    """Yield a row per network and shape."""
    for network in ("encoder.onnx", "decoder.onnx"):
        model = load_manifest(ModelId.VQVAE).read(network)
        yield from compare(network, model, own_engine(model, setting), setting)


def compare(network: str, model: bytes, engine: Engine, setting: Setting) -> Iterator[Row]:
    """Yield how an engine agrees with the CPU on random inputs.

    Raises
    ------
    EngineError
        If an integer differs.
    """
    rng = np.random.default_rng(setting.seed)
    make: Callable[..., NDArray[Any]] = _frame if network == "encoder.onnx" else _tokens
    cpu, exact = OrtEngine(model, threads=2), IntegerReference(model)
    for shape in SMALL if setting.interpret else LARGE:
        tensor = make(rng, shape)
        references = {"onnxruntime": cpu.run(tensor)}
        if np.prod(shape) <= EXACT_LIMIT:
            references["integer reference"] = exact.run(tensor)
        found = engine.run(tensor)
        for name, expected in references.items():
            if found.shape != expected.shape or (found != expected).any():
                raise EngineError(f"{engine.name} differs from {name} on {network} {tensor.shape}")
        yield {
            "network": network,
            "shape": "x".join(map(str, tensor.shape)),
            "engine": engine.name,
            "compared_with": ", ".join(references),
            "mismatches": 0,
            "elements": int(found.size),
        }


def _frame(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    n, h, w = shape
    return rng.integers(0, 256, (n, 1, 8 * h, 8 * w)).astype(np.uint8)


def _tokens(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    return rng.integers(0, load_manifest(ModelId.VQVAE).n_codes, shape).astype(np.int32)

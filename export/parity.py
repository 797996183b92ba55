"""Does a network give the same integers on every backend? Counts where it does not.

`python -m edge_codec.export.parity DIR` compares the zoo's networks on random input.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_codec.runtime.integer_reference import IntegerReference

log = logging.getLogger(__name__)

HINTS = ("f32", "bf16", "f16")
"""OpenVINO's inference precisions; none may change an integer network."""


def outputs(model: bytes, tensor: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name of each backend that is installed, and its output."""
    for optimize in (False, True):
        for threads in (1, 2):
            name = f"onnxruntime {'optimized' if optimize else 'as written'}, {threads} threads"
            yield name, _run_onnxruntime(model, tensor, optimize, threads)
    if importlib.util.find_spec("openvino") is not None:
        for hint in HINTS:
            yield f"openvino {hint}", _run_openvino(model, tensor, hint)


def mismatches(model: bytes, tensor: NDArray[Any]) -> dict[str, int]:
    """Count, per backend, the elements that differ from the NumPy integer reference."""
    expected = IntegerReference(model).run(tensor)
    return {name: _differences(found, expected) for name, found in outputs(model, tensor)}


def _differences(found: NDArray[Any], expected: NDArray[Any]) -> int:
    if found.shape != expected.shape:
        return max(found.size, expected.size)
    return int((found != expected).sum())


def _run_onnxruntime(
    model: bytes, tensor: NDArray[Any], optimize: bool, threads: int
) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: tensor})[0]
    return result


def _run_openvino(model: bytes, tensor: NDArray[Any], hint: str) -> NDArray[Any]:
    import openvino  # an optional backend

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 2}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    return np.array(compiled([tensor])[0])


def main(argv: list[str] | None = None) -> None:
    """Compare the networks of a zoo folder; exit status 1 if any element differs."""
    parser = argparse.ArgumentParser(prog="edge_codec.export.parity", description=__doc__)
    parser.add_argument("zoo", type=Path, help="folder with encoder.onnx and decoder.onnx")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rng = np.random.default_rng(0)
    decoder = (options.zoo / "decoder.onnx").read_bytes()
    tokens = rng.integers(0, 1024, (2, 13, 17)).astype(np.int32)
    counts = mismatches(decoder, tokens)
    for name, count in counts.items():
        log.info("decoder, %s: %d of %d pixels differ", name, count, tokens.size * 64)
    frame = np.clip(rng.normal(60, 40, (2, 1, 104, 136)), 0, 255).astype(np.uint8)
    encoder_counts = mismatches((options.zoo / "encoder.onnx").read_bytes(), frame)
    for name, count in encoder_counts.items():
        log.info("encoder, %s: %d latent values differ", name, count)
    if any(counts.values()) or any(encoder_counts.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Does a network give the same on every backend? Counts and measures where it does not.

`python -m edge_codec.export.parity DIR` compares the networks of a folder on made-up frames and
prints a table: integer networks (the zoo's) must not differ in one element, float networks (of
`edge_codec.export.graph`) stay within `edge_codec.export.agreement.TOLERANCES`. With `--checkpoint`
a float network is compared with PyTorch itself, without it with ONNX Runtime running the graph as
written.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.export.agreement import Agreement, agreement, table
from edge_codec.export.custom_ops import inline_functions
from edge_codec.runtime.integer_reference import IntegerReference
from edge_codec.runtime.ort_backend import OrtEngine

HINTS = ("f32", "bf16", "f16")
"""OpenVINO's inference precisions; none may change an integer network."""

AS_WRITTEN = "onnxruntime as written, 1 threads"
"""What a float network is compared with where there is no PyTorch."""


def outputs(model: bytes, tensor: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name of each backend that is installed, and its output."""
    for optimize in (False, True):
        for threads in (1, 2):
            name = f"onnxruntime {'optimized' if optimize else 'as written'}, {threads} threads"
            yield name, OrtEngine(model, threads, optimize).run(tensor)
    if importlib.util.find_spec("openvino") is not None:
        inlined = inline_functions(model)
        for hint in HINTS:
            output, precision = _run_openvino(inlined, tensor, hint)
            yield f"openvino {hint}{precision}", output


def mismatches(model: bytes, tensor: NDArray[Any]) -> dict[str, int]:
    """Count, per backend, the elements that differ from the NumPy integer reference."""
    expected = IntegerReference(model).run(tensor)
    return {name: _differences(found, expected) for name, found in outputs(model, tensor)}


def agreements(
    network: str,
    model: bytes,
    tensor: NDArray[Any],
    reference: NDArray[Any] | None = None,
    original: NDArray[np.uint8] | None = None,
) -> list[Agreement]:
    """Compare every backend, and of a float network its float16 version, with a reference.

    Parameters
    ----------
    network : str
        Its name, for the result.
    model : bytes
        ONNX file.
    tensor : ndarray
        Input.
    reference : ndarray, optional
        What the output should be. By default that of the NumPy integer reference for an integer
        network, and of ONNX Runtime as written for a float one.
    original : ndarray, uint8, optional
        The frames that the input stands for, where the network gives frames.
    """
    proto = _parse(network, model)
    exact = is_integer(proto)
    found = list(outputs(model, tensor))
    if not exact:
        half = _float16(proto)
        found.append(("onnxruntime, cast to f16", OrtEngine(half, threads=1).run(tensor)))
    if reference is None:
        reference = IntegerReference(model).run(tensor) if exact else dict(found)[AS_WRITTEN]
    return [
        agreement(
            network, name, "exact" if exact else _precision(name), output, reference, original
        )
        for name, output in found
    ]


def _parse(network: str, model: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's error classes differ from version to version
        raise EngineError(f"{network}.onnx is no ONNX file ({error}); export it again") from error


def is_integer(model: onnx.ModelProto) -> bool:
    """Whether a network is quantized, so that every backend must give the same integers."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _float16(model: onnx.ModelProto) -> bytes:
    from edge_codec.export.fp16 import to_float16

    data: bytes = to_float16(model).SerializeToString()
    return data


def _precision(backend: str) -> str:
    return next((p for p in ("bf16", "f16") if backend.endswith(p)), "f32")


def _differences(found: NDArray[Any], expected: NDArray[Any]) -> int:
    if found.shape != expected.shape:
        return max(found.size, expected.size)
    return int((found != expected).sum())


def _run_openvino(model: bytes, tensor: NDArray[Any], hint: str) -> tuple[NDArray[Any], str]:
    """Return the output, and words for what was taken in place of a precision."""
    from edge_codec.runtime.openvino_backend import OpenVinoEngine  # an optional backend

    engine = OpenVinoEngine(model, threads=2, precision=hint)
    output, taken = engine.run(tensor), engine.taken_precision(tensor.shape)
    return output, "" if taken == hint else f", run as {taken}"


def sample_frames(rng: np.random.Generator, count: int, rows: int, columns: int) -> NDArray[Any]:
    """Make frames somewhat like hearts: bright rings on a slow gradient, with noise.

    Returns
    -------
    ndarray, shape (count, 1, rows, columns), uint8
    """
    y, x = np.mgrid[:rows, :columns]
    frames = []
    for _ in range(count):
        row, column = rng.uniform(0.3, 0.7, 2) * (rows, columns)
        radius = np.hypot(y - row, x - column) - rng.uniform(0.15, 0.25) * min(rows, columns)
        ring = 120 * np.exp(-np.square(radius / 5.0))
        frames.append(40 + 30 * x / columns + ring + rng.normal(0, 4, (rows, columns)))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)[:, None]


def code_count(decoder: onnx.ModelProto) -> int:
    """Return how many tokens a decoder knows: the rows of the table it gathers from."""
    sizes = {tensor.name: tensor.dims for tensor in decoder.graph.initializer}
    for node in decoder.graph.node:
        if node.op_type == "Gather" and node.input[0] in sizes:
            return int(sizes[node.input[0]][0])
    raise EngineError("the decoder gathers from no table; is it a decoder?")


def compare_folder(folder: Path, checkpoint: Path | None = None) -> list[Agreement]:
    """Compare the networks of a folder: `encoder`, `decoder`, and `tokens` if it is there.

    Parameters
    ----------
    folder : Path
    checkpoint : Path, optional
        Float checkpoint that they were exported from: PyTorch is the reference.

    Raises
    ------
    EngineError
        If a file is missing or refused.
    """
    try:
        models = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.onnx"))}
        encoder, decoder = models["encoder"], models["decoder"]
    except (OSError, KeyError) as error:
        raise EngineError(f"{folder.name} lacks encoder.onnx and decoder.onnx ({error})") from error
    torch_outputs = {} if checkpoint is None else _torch_modules(checkpoint)
    rng = np.random.default_rng(0)
    frames = sample_frames(rng, 2, 104, 136)
    rows = agreements("encoder", encoder, frames, _maybe(torch_outputs, "encoder", frames))
    original: NDArray[np.uint8] | None = None
    shape = (2, 13, 17)
    tokens = rng.integers(0, code_count(_parse("decoder", decoder)), shape, np.int32)
    if "tokens" in models:
        expected = _maybe(torch_outputs, "tokens", frames)
        rows += agreements("tokens", models["tokens"], frames, expected)
        tokens, original = OrtEngine(models["tokens"], 1, optimize=False).run(frames), frames
    expected = _maybe(torch_outputs, "decoder", tokens)
    return rows + agreements("decoder", decoder, tokens, expected, original)


def _torch_modules(checkpoint: Path) -> Mapping[str, Any]:
    from edge_codec.export.float_zoo import vqvae_networks
    from edge_codec.export.graph import load_checkpoint

    model, quantized = load_checkpoint(checkpoint)
    if quantized:
        raise EngineError("an integer network has its own reference; leave --checkpoint out")
    return {network.name: network.module for network in vqvae_networks(model)}


def _maybe(modules: Mapping[str, Any], name: str, tensor: NDArray[Any]) -> NDArray[Any] | None:
    """Output of a PyTorch module, if there is one."""
    if name not in modules:
        return None
    import torch

    with torch.no_grad():
        result: NDArray[Any] = modules[name](torch.from_numpy(tensor)).numpy()
    return result


def main(argv: list[str] | None = None) -> None:
    """Compare the networks of a folder; exit status 1 if a difference is not tolerated."""
    parser = argparse.ArgumentParser(prog="edge_codec.export.parity", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with encoder.onnx and decoder.onnx")
    parser.add_argument("--checkpoint", type=Path, help="averaged.pt: compare with PyTorch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        rows = compare_folder(options.folder, options.checkpoint)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error
    if options.json:
        print(json.dumps({"agreements": [dataclasses.asdict(row) for row in rows]}, indent=1))
    else:
        print(table(rows))
    if not all(row.within for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""From PyTorch to ONNX by PyTorch's own exporter, with dynamic batch and frame size.

`python -m edge_codec.export.graph --checkpoint F --out DIR` writes the networks of a checkpoint:
of a float one (`averaged.pt`) the float encoder with and without its codebook and the decoder, of a
quantized one (`quantized.pt`) the integer networks, after proving them equal to those that
`edge_codec.export.vqvae` writes.

What the exporter notes about the machine (source files, stack traces) is removed, so that a file
depends on nothing but the weights and the versions of the exporter.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from tqdm import tqdm

from edge_codec.calibration.qat import load_quantized
from edge_codec.errors import EngineError
from edge_codec.export.custom_ops import add_functions, translations
from edge_codec.export.float_zoo import Network, vqvae_networks
from edge_codec.export.integer_zoo import integer_networks, verify
from edge_codec.export.qdq import IR_VERSION, OPSET
from edge_codec.nn.vqvae import VQVAE
from edge_codec.training.loop import load_averaged


def export_network(network: Network) -> onnx.ModelProto:
    """Export a network with `torch.onnx.export(dynamo=True)`.

    Parameters
    ----------
    network : Network

    Returns
    -------
    onnx.ModelProto
        Checked; custom nodes carry a function body of standard operators.

    Raises
    ------
    EngineError
        If the exporter refuses the network, among others for a size of the example that decides
        something in `forward()`, so that an axis cannot be dynamic.
    """
    try:
        with _quiet():
            program = torch.onnx.export(
                network.module,
                tuple(network.inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                dynamic_shapes=tuple(dict(network.dynamic.get(i, {})) for i in network.inputs),
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as error:  # the exporter's classes have no common base
        raise EngineError(f"PyTorch's exporter refuses {network.name}: {error}") from error
    if program is None:
        raise EngineError(f"PyTorch's exporter gave nothing for {network.name}")
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    _remove_notes(model)
    model = add_functions(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter about itself: missing torchvision, its own deprecated calls."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)


def _remove_notes(model: onnx.ModelProto) -> None:
    """Remove metadata and doc strings everywhere: they name files of this machine."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        del part.metadata_props[:]
        part.doc_string = ""


def load_checkpoint(path: Path) -> tuple[VQVAE, bool]:
    """Load a checkpoint; the second value tells whether it is a quantized one.

    Raises
    ------
    EngineError
        If it cannot be read, or is neither kind.
    """
    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:  # damaged files raise classes of no common base
        raise EngineError(f"{path.name} is no checkpoint: {error}") from error
    if not isinstance(content, dict) or not {"config", "state"} <= content.keys():
        raise EngineError(
            f"{path.name} holds no network; use averaged.pt of edge_codec.training.loop or "
            "quantized.pt of edge_codec.calibration.qat"
        )
    if "exponents" in content:
        return load_quantized(path)[0], True
    return load_averaged(path), False


def write_networks(
    networks: Iterable[Network], out: Path, twin: VQVAE | None = None
) -> dict[str, dict[str, Any]]:
    """Export networks into a folder.

    Parameters
    ----------
    networks : iterable of Network
    out : Path
        Made where it does not exist; files of the same names are replaced.
    twin : VQVAE, optional
        The quantized network that they are; each is proven equal to it before it is written.

    Returns
    -------
    dict
        By file name: `sha256`, `bytes`, and `verified`, the number of values compared.
    """
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, dict[str, Any]] = {}
    bar = tqdm(list(networks), unit="network", disable=not sys.stderr.isatty())
    for network in bar:
        bar.set_description(network.name)
        model = export_network(network)
        verified = 0 if twin is None else verify(network.name, model, twin)
        data = model.SerializeToString(deterministic=True)
        (out / f"{network.name}.onnx").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        fields = {"sha256": digest, "bytes": len(data), "verified": verified}
        written[f"{network.name}.onnx"] = fields
    return written


def main(argv: list[str] | None = None) -> None:
    """Export the networks of a checkpoint."""
    parser = argparse.ArgumentParser(prog="edge_codec.export.graph", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt, quantized.pt")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ONNX files")
    options = parser.parse_args(argv)
    try:
        model, quantized = load_checkpoint(options.checkpoint)
        networks = integer_networks(model) if quantized else vqvae_networks(model)
        written = write_networks(networks, options.out, model if quantized else None)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error
    (options.out / "hashes.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    for name, fields in written.items():
        equal = f", {fields['verified']} values proven equal" if quantized else ""
        print(f"{fields['sha256']} {name}, {fields['bytes']} bytes{equal}")


if __name__ == "__main__":
    main()

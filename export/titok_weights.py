"""The way back: weights of the zoo's `titok` as a file that training starts from.

`python -m edge_codec.export.titok_weights --out start.pt` needs no checkpoint. The exporter names
and turns the constants of a graph as it likes, but always alike: a network of the same sizes with
weights that nobody could mistake for each other is exported, and tells which constant is which.
What comes back is what is shipped: weights in half precision.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_codec.base.titok.reading import read_codebook
from edge_codec.errors import EngineError
from edge_codec.export.titok_graph import titok_models
from edge_codec.manifest import ZOO
from edge_codec.nn.titok import TiTok, TiTokConfig
from edge_codec.training.checkpoints import write_state

Constants = dict[str, NDArray[np.float32]]

COUNT = 0.2
"""Latents that each code stands for, as the codebook's moving averages count them: twice what a
step of the shipped configurations counts, so that codes follow within a thousand steps."""


def read_weights(zoo: Path) -> TiTok:
    """Return the networks of a folder of the zoo.

    Parameters
    ----------
    zoo : Path
        Folder of `manifest.json`, `encoder.onnx`, `decoder.onnx` and `codebook.npy`.

    Raises
    ------
    EngineError
        If a weight is not in the graphs, where it is not one that the export leaves out.
    """
    manifest = json.loads((zoo / "manifest.json").read_text(encoding="utf-8"))
    model = TiTok(TiTokConfig(**manifest["config"]))
    graphs = {name: onnx.load(zoo / f"{name}.onnx") for name in ("encoder", "decoder")}
    linear = not any(
        each.name.startswith("encoder.blocks") for each in graphs["encoder"].graph.initializer
    )
    probe = _probe(model, linear)
    examples = {name: _constants(graph) for name, graph in titok_models(probe).items()}
    shipped = {name: _constants(graph) for name, graph in graphs.items()}
    state = model.state_dict()
    for name, value in probe.named_parameters():
        part = name.partition(".")[0]
        if linear and part == "encoder" and not name.startswith("encoder.shortcut."):
            continue  # the export left the transformer out; it begins anew
        place = _find(examples[part], value.detach().numpy())
        found = None if place is None else shipped[part].get(place[0])
        if place is None or found is None or found.size != value.numel():
            raise EngineError(f"{part}.onnx does not hold {name}; it is of another version")
        state[name] = torch.from_numpy(np.ascontiguousarray(_turned(found, value.shape, place[1])))
    codes = torch.from_numpy(read_codebook((zoo / "codebook.npy").read_bytes()))
    state["codebook.vectors"] = codes
    state["codebook.counts"] = torch.full_like(state["codebook.counts"], COUNT)
    state["codebook.sums"] = codes * COUNT
    model.load_state_dict(state)
    return model.eval()


def _probe(model: TiTok, linear: bool) -> TiTok:
    """Return a network of the same sizes whose weights are all different."""
    probe = TiTok(model.config).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
        if linear:
            probe.encoder.head.weight.zero_()
            probe.encoder.head.bias.zero_()
    return probe


def _constants(model: onnx.ModelProto) -> Constants:
    """Return the float constants of a graph by name."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    return {name: a.astype(np.float32) for name, a in arrays.items() if a.dtype.kind == "f"}


def _find(
    constants: Constants, value: NDArray[np.float32]
) -> tuple[str, tuple[int, ...] | None] | None:
    """Return the constant that holds a weight, and the order of its axes there, None as it is."""
    orders: list[tuple[int, ...] | None] = [None]
    if value.ndim >= 2:
        orders.append((*range(value.ndim - 2), value.ndim - 1, value.ndim - 2))
    for name, constant in constants.items():
        for order in orders if constant.size == value.size else ():
            turned = value if order is None else value.transpose(order)
            if np.allclose(turned.ravel(), constant.ravel(), rtol=2e-3, atol=2e-4):
                return name, order
    return None


def _turned(
    constant: NDArray[np.float32], shape: torch.Size, order: tuple[int, ...] | None
) -> NDArray[np.float32]:
    """Return a constant in the shape and order of the weight that it holds."""
    if order is None:
        return constant.reshape(shape)
    return constant.reshape([shape[axis] for axis in order]).transpose(order)


def main(argv: list[str] | None = None) -> None:
    """Parse options, read, write."""
    parser = argparse.ArgumentParser(
        prog="edge_codec.export.titok_weights", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--zoo", type=Path, default=ZOO / "titok", help="folder of the networks")
    parser.add_argument("--out", type=Path, required=True, help="file for --start of the training")
    options = parser.parse_args(argv)
    model = read_weights(options.zoo)
    write_state(
        options.out,
        {"config": dataclasses.asdict(model.config), "state": model.state_dict(), "step": 0},
    )


if __name__ == "__main__":
    main()

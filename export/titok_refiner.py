"""Add the refinement of whole cines to the zoo's `titok`.

`python -m edge_codec.export.titok_refiner --checkpoint OUT/averaged.pt --pairs PAIRS` writes
`refiner.onnx` beside the networks whose frames it was trained on, measures it as it is shipped, on
the held-out pairs, and enters it into manifest and card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.export import Dim
from tqdm import tqdm

from edge_codec.base.titok.canvas import SIDE
from edge_codec.base.titok.refining import FEWEST, places_near
from edge_codec.engine import NamedEngine
from edge_codec.errors import SourceError
from edge_codec.export.float_zoo import Network
from edge_codec.export.graph import export_network
from edge_codec.export.titok_card import model_card
from edge_codec.export.titok_graph import halve_weights
from edge_codec.manifest import ZOO
from edge_codec.nn.cine_refiner import CineRefiner, RefinerConfig
from edge_codec.runtime.float_network import load_network
from edge_codec.runtime.whole_slices import REFINER
from edge_codec.training.checkpoints import read_state
from edge_codec.training.titok.judge import BRIGHTEST
from edge_codec.training.titok.refiner import quality, tensors
from edge_codec.training.titok.refiner_pairs import NAMES, read_pair

INPUTS = ("frames", "inside", "age", "near")

log = logging.getLogger(__name__)


def load_refiner(path: Path) -> tuple[CineRefiner, int]:
    """Read `averaged.pt` of the training; return the network in evaluation mode, and its steps.

    Raises
    ------
    SourceError
        If it is none.
    """
    content = read_state(path)
    try:
        model = CineRefiner(RefinerConfig(**content["config"]))
        model.load_state_dict(content["state"])
        return model.eval(), int(content["step"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise SourceError(f"{path} is no refinement ({error}); expected averaged.pt") from error


def refiner_graph(model: CineRefiner) -> onnx.ModelProto:
    """Export for any number of phases, with weights in half precision.

    Raises
    ------
    EngineError
        If PyTorch's exporter refuses it.
    """
    phases = FEWEST + 1
    inputs = {
        "frames": torch.rand(phases, 1, SIDE, SIDE),
        "inside": torch.ones(1, 1, SIDE, SIDE),
        "age": torch.arange(phases),
        "near": torch.from_numpy(places_near(phases)),
    }
    every = Dim("phases", min=2, max=4096)
    dynamic = {"frames": {0: every}, "age": {0: Dim.AUTO}, "near": {2: Dim.AUTO}}
    return halve_weights(export_network(Network("refiner", model, inputs, dynamic, ("refined",))))


def measure(model: CineRefiner, network: NamedEngine, pairs: list[Path]) -> dict[str, Any]:
    """Compare before and after on held-out pairs, and the shipped network with the trained one."""
    rows, apart = [], 0.0
    for path in tqdm(pairs, unit="cine"):
        pair = read_pair(path)
        batch = tensors(pair)
        values = (value.numpy() for value in batch.inputs)
        found = torch.from_numpy(network.run(dict(zip(INPUTS, values, strict=True))))
        with torch.no_grad():
            apart = max(apart, float((model(*batch.inputs) - found).abs().max()))
        refined = found.clamp(0, BRIGHTEST)
        rows.append([*quality(batch.decoded, batch, pair), *quality(refined, batch, pair)])
    means = np.array(rows).mean(axis=0).tolist()
    names = ("psnr_db", "heart_psnr_db", "ssim")
    return {
        "held_out_cines": len(rows),
        "before": {name: round(value, 4) for name, value in zip(names, means[:3], strict=True)},
        "after": {name: round(value, 4) for name, value in zip(names, means[3:], strict=True)},
        "largest_difference": apart,
    }


def enter(zoo: Path, fields: dict[str, Any]) -> None:
    """Write the refinement into the manifest and the card of the networks beside it."""
    path = zoo / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["refiner"] = fields
    manifest["sha256"][REFINER] = hashlib.sha256((zoo / REFINER).read_bytes()).hexdigest()
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    (zoo / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Parse options, export, measure, write."""
    parser = argparse.ArgumentParser(
        prog="edge_codec.export.titok_refiner", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt")
    parser.add_argument("--pairs", type=Path, required=True, nargs="+", help="folders of pairs")
    parser.add_argument("--zoo", type=Path, default=ZOO / "titok", help="folder of the networks")
    parser.add_argument("--note", default="", help="how it was trained, for the records")
    parser.add_argument("--threads", type=int, default=1, help="of networks and torch")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    model, steps = load_refiner(options.checkpoint)
    data = refiner_graph(model).SerializeToString(deterministic=True)
    pairs = sorted(path for folder in options.pairs for path in (folder / NAMES[1]).glob("*.npz"))
    if not pairs:
        raise SourceError("no held-out pairs; make some by edge_codec.training.titok.refiner_pairs")
    found = measure(model, load_network(data, threads=options.threads), pairs)
    (options.zoo / REFINER).write_bytes(data)
    enter(options.zoo, {"steps": steps, "note": options.note, "measured": found})
    log.info("%s", json.dumps(found))


if __name__ == "__main__":
    main()

"""Quantization-aware fine-tuning of the VQ-VAE.

`python -m edge_codec.calibration.qat --checkpoint averaged.pt --config C --data D --splits S
--out O` chooses scales on training frames, reports what quantization costs, fine-tunes, and writes
`quantized.pt`, from which `edge_codec.export` makes the integer networks. `edge_codec.calibration
.units` has what other networks need to be fine-tuned the same way.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from edge_codec.calibration.borders import LIMITS, SIGNED, UNSIGNED
from edge_codec.calibration.observers import Observer, minimum_error_exponent
from edge_codec.calibration.table import MAX_BYTES, Table, read_table
from edge_codec.calibration.units import (
    QuantUnit,
    UnitScales,
    equalize_units,
    fake_quantize,
    quantize_units,
    scales_of,
)
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, ConvUnit, VQVAEConfig
from edge_codec.training.data import CropOptions, crops, read_split
from edge_codec.training.loop import CROP_FIELDS, Trainer, evaluate, load_averaged, train

__all__ = [
    "QuantUnit",
    "calibrate",
    "fake_quantize",
    "load_quantized",
    "quantized_twin",
    "save_quantized",
    "seed",
]

log = logging.getLogger(__name__)

FRAME_EXPONENT = -7
"""Exponent of the frame codes, `CODE_SCALE`."""


def calibrate(model: VQVAE, batches: list[Tensor]) -> dict[str, int]:
    """Choose the exponent of every unit's output by least squared error.

    Parameters
    ----------
    model : VQVAE
        Float model in evaluation mode.
    batches : list of Tensor, shape (n, 1, 8h, 8w), float 0..255
        Frame codes to calibrate on.

    Returns
    -------
    dict of str to int
        By unit name as in `model.named_modules()`; the last unit's is `FRAME_EXPONENT`.
    """
    observers = {n: Observer() for n, m in model.named_modules() if isinstance(m, ConvUnit)}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, seen=observer: seen.update(output.numpy())
        )
        for name, observer in observers.items()
    ]
    with torch.no_grad():
        for codes in batches:
            model(codes * CODE_SCALE)
    for hook in hooks:
        hook.remove()
    exponents = {}
    for name, observer in observers.items():
        low, high = LIMITS[SIGNED if name == _latent_unit(model) else UNSIGNED]
        exponents[name] = minimum_error_exponent(observer, low, high)
    exponents[_last_unit(model)] = FRAME_EXPONENT
    return exponents


def quantized_twin(model: VQVAE, exponents: dict[str, int]) -> VQVAE:
    """Copy a float model with every unit replaced by its quantized twin."""
    latent = _latent_unit(model)
    embedded = exponents["synthesis.embed"]
    chains = (
        (FRAME_EXPONENT, ("analysis.layers",)),
        (embedded, ("synthesis.coarse", "synthesis.fine")),
    )
    scales = {"synthesis.embed": UnitScales(None, embedded)}
    for exponent, parts in chains:
        for part in parts:
            for index in range(len(model.get_submodule(part))):  # type: ignore[arg-type]
                name = f"{part}.{index}"
                scales[name] = UnitScales(exponent, exponents[name], signed=name == latent)
                exponent = exponents[name]
    twin = quantize_units(model, scales)
    twin.codebook.grid = 2.0 ** exponents[latent]
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def seed(model: VQVAE, table: Table) -> tuple[VQVAE, dict[str, int]]:
    """Return the model equalized as a calibration table says, and the exponents it has.

    Parameters
    ----------
    model : VQVAE
        The float model whose exported network was calibrated.
    table : Table
        Of either half.
    """
    scales = scales_of(model, table)
    exponents = {n: s.output_exponent for n, s in scales.items() if s.output_exponent is not None}
    return equalize_units(model, table), exponents


def save_quantized(twin: VQVAE, exponents: dict[str, int], metrics: Any, path: Path) -> None:
    """Write what `load_quantized` needs."""
    # Weight exponents are chosen once, before fine-tuning, so they are part of the state.
    content = {
        "config": dataclasses.asdict(twin.config),
        "exponents": exponents,
        "metrics": metrics,
        "state": twin.state_dict(),
    }
    torch.save(content, path)


def load_quantized(path: Path) -> tuple[VQVAE, dict[str, Any]]:
    """Load a quantized twin in evaluation mode, and the metrics saved with it."""
    content = torch.load(path, weights_only=True)
    twin = quantized_twin(VQVAE(VQVAEConfig(**content["config"])), content["exponents"])
    twin.load_state_dict(content["state"])
    for module in twin.modules():
        if isinstance(module, QuantUnit):
            module.weight_exponents = np.log2(module.weight_scale.numpy()).astype(np.int64)
    return twin.eval(), content["metrics"]


def _latent_unit(model: VQVAE) -> str:
    return f"analysis.layers.{len(model.analysis.layers) - 1}"


def _last_unit(model: VQVAE) -> str:
    return f"synthesis.fine.{len(model.synthesis.fine) - 1}"


def main(argv: list[str] | None = None) -> None:
    """Calibrate, report, fine-tune, save."""
    parser = argparse.ArgumentParser(prog="edge_codec.calibration.qat", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="averaged.pt of training")
    parser.add_argument("--config", type=Path, required=True, help="YAML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder of NIfTI data sets")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--out", type=Path, required=True, help="folder for the result and log")
    parser.add_argument(
        "--tables", type=Path, nargs="*", default=[], help="calibration tables to start from"
    )
    parser.add_argument("--seconds", type=float, help="time to fine-tune; 0 only calibrates")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load(options.config.read_text())
    held_out = frozenset(config["data"]["held_out"])
    exams, validation = read_split(options.data, options.splits, held_out)
    crop_options = CropOptions(**{k: v for k, v in config["data"].items() if k in CROP_FIELDS})
    batches = crops(exams, crop_options, np.random.default_rng(0))
    model = load_averaged(options.checkpoint)
    seeded: dict[str, int] = {}
    for path in options.tables:
        model, found = seed(model, read_table(path.read_bytes()[: MAX_BYTES + 1]))
        seeded |= found
    exponents = calibrate(model, [next(batches)[0] for _ in range(16)]) | seeded
    twin = quantized_twin(model, exponents)
    watched = validation + [exam for exam in exams if exam.group == "sunnybrook"]
    metrics = {"float": evaluate(model, watched), "calibrated": evaluate(twin.eval(), watched)}
    log.info("exponents %s", exponents)
    log.info("PSNR %s", json.dumps(metrics))
    if options.seconds != 0:
        config["train"] |= config["finetune"]
        config["model"] = dataclasses.asdict(model.config)
        trainer = Trainer(config, options.out, options.seconds, twin)
        train(trainer, config, options.data, options.splits)
        twin = trainer.averaged_model()
        metrics["tuned"] = evaluate(twin, watched)
        log.info("PSNR %s", json.dumps(metrics))
    save_quantized(twin, exponents, metrics, options.out / "quantized.pt")


if __name__ == "__main__":
    main()

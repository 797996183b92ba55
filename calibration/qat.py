"""Quantized twins of the network's layers, their scales, and fine-tuning through the rounding.

`python -m edge_codec.calibration.qat --checkpoint averaged.pt --config C --data D --splits S
--out O` chooses scales on training frames, reports what quantization costs, fine-tunes, and writes
`quantized.pt`, from which `edge_codec.export` makes the integer networks.

The twins compute in float32 but only on integers times powers of two, below 2**24, so their output
is the integer networks' output exactly, not approximately.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
import yaml
from torch import Tensor, nn

from edge_codec.calibration.observers import Observer, minimum_error_exponent
from edge_codec.calibration.power_of_two import WEIGHT_MAX, choose_weight_exponents
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, ConvUnit, VQVAEConfig
from edge_codec.training.data import CropOptions, crops, read_split
from edge_codec.training.loop import CROP_FIELDS, Trainer, evaluate, load_averaged, train

log = logging.getLogger(__name__)

FRAME_EXPONENT = -7
"""Exponent of the frame codes, `CODE_SCALE`."""

CODEBOOK_MAX = 127


class _RoundClip(torch.autograd.Function):
    """Round to a grid and clip; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
        scaled = x / scale
        ctx.save_for_backward((scaled >= low) & (scaled <= high))
        return scaled.round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fake_quantize(x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
    """Round `x` half to even to multiples of `scale` within `low..high` steps."""
    y: Tensor = _RoundClip.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return y


class QuantUnit(nn.Module):
    """Twin of a `ConvUnit` with 7-bit weights, an exact bias and 8-bit outputs.

    Clipping to uint8 is the ReLU, and the saturation of the last layer to valid frame codes.

    Parameters
    ----------
    unit : ConvUnit
        Shares its convolution.
    input_exponent : int or None
        None leaves weights and bias in float: for a unit that is folded into a table.
    output_exponent : int
    signed : bool
        Output int8 instead of uint8.
    """

    weight_scale: Tensor

    def __init__(
        self, unit: ConvUnit, input_exponent: int | None, output_exponent: int, signed: bool
    ) -> None:
        super().__init__()
        self.conv = unit.conv
        self.input_exponent = input_exponent
        self.output_exponent = output_exponent
        self.low, self.high = (-CODEBOOK_MAX, CODEBOOK_MAX) if signed else (0, 255)
        weight = unit.conv.weight.detach().numpy()
        self.weight_exponents = choose_weight_exponents(weight)
        self.register_buffer("weight_scale", torch.from_numpy(2.0**self.weight_exponents).float())

    def forward(self, x: Tensor) -> Tensor:
        """Apply to integers times 2**input_exponent, shape (n, inputs, h, w)."""
        weight, bias = self.conv.weight, self.conv.bias
        if self.input_exponent is not None and bias is not None:
            scale = self.weight_scale
            weight = fake_quantize(weight, scale[:, None, None, None], -WEIGHT_MAX, WEIGHT_MAX)
            bias = fake_quantize(bias, scale * 2.0**self.input_exponent, -(2.0**23), 2.0**23)
        y = F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding)
        return fake_quantize(y, 2.0**self.output_exponent, self.low, self.high)


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
        signed = name == _latent_unit(model)
        low, high = (-CODEBOOK_MAX, CODEBOOK_MAX) if signed else (0, 255)
        exponents[name] = minimum_error_exponent(observer, low, high)
    exponents[_last_unit(model)] = FRAME_EXPONENT
    return exponents


def quantized_twin(model: VQVAE, exponents: dict[str, int]) -> VQVAE:
    """Copy a float model with every unit replaced by its quantized twin."""
    twin = copy.deepcopy(model)
    latent_unit = _latent_unit(twin)
    twin.codebook.grid = 2.0 ** exponents[latent_unit]
    exponent = FRAME_EXPONENT
    for index, unit in enumerate(twin.analysis.layers):
        name = f"analysis.layers.{index}"
        output = exponents[name]
        twin.analysis.layers[index] = QuantUnit(_unit(unit), exponent, output, name == latent_unit)
        exponent = output
    exponent = exponents["synthesis.embed"]
    twin.synthesis.embed = QuantUnit(twin.synthesis.embed, None, exponent, False)  # type: ignore[assignment]
    for part in ("coarse", "fine"):
        layers: nn.ModuleList = getattr(twin.synthesis, part)
        for index, unit in enumerate(layers):
            output = exponents[f"synthesis.{part}.{index}"]
            layers[index] = QuantUnit(_unit(unit), exponent, output, False)
            exponent = output
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


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


def _unit(module: nn.Module) -> ConvUnit:
    if not isinstance(module, ConvUnit):
        raise TypeError(f"expected a ConvUnit, found {type(module).__name__}")
    return module


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
    exponents = calibrate(model, [next(batches)[0] for _ in range(16)])
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

"""What a network costs: multiplications per frame, and parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_codec.nn.dwt_cal import DwtCal


def parameters(model: nn.Module) -> int:
    """Count the learned values of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def multiplications(model: DwtCal, rows: int = 256, columns: int = 256) -> dict[str, int]:
    """Count multiply-accumulates of the convolutions for one key frame and one inter frame.

    Products outside convolutions (wavelet, window, attention between subbands, entropy coding) are
    below a hundredth of these and not counted.

    Parameters
    ----------
    model : DwtCal
    rows, columns : int
        Size of the frame, multiples of 8.

    Returns
    -------
    dict of str to int
        "key" and "inter": encoder, which holds the decoder's networks too. "key_decoder" and
        "inter_decoder": the decoder alone.
    """
    totals = dict.fromkeys(("key", "inter", "key_decoder", "inter_decoder"), 0)

    def count(name: str, layer: nn.Conv2d) -> None:
        kind, part = name.split(".")[:2]

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            products = output.numel() * layer.weight[0].numel()
            totals[kind] += products
            if part not in ("analysis", "side_analysis"):
                totals[f"{kind}_decoder"] += products

        handles.append(layer.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            count(name, layer)
    frame, quality = torch.zeros(1, 1, rows, columns), torch.zeros(1)
    model(frame, model(frame, None, quality).state, quality)
    for handle in handles:
        handle.remove()
    return totals

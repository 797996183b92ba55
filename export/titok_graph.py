"""The 1D tokenizer's two networks as ONNX, with their weights kept in half precision.

Shapes are fixed: a stream's frames all lie on one canvas. Weights are stored as float16 and cast to
float32 where they are used; runtimes do that once, when they load the file, and compute in float32.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edge_codec.errors import EngineError
from edge_codec.export.float_zoo import Network
from edge_codec.export.graph import export_network
from edge_codec.nn.titok import Conditions, Past, TiTok

LARGE = 256  # numbers of a tensor from which on it is stored in half precision


class TokenEncoderGraph(nn.Module):
    """Frame, past and all that may be told to latents; tensors in the order of `inputs`.

    A transformer that adds nothing is left out; the inputs stay, whoever calls need not know.
    """

    def __init__(self, model: TiTok) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.is_linear = model.encoder.is_linear

    def forward(
        self,
        frame: Tensor,
        past_frame: Tensor,
        past_codes: Tensor,
        past_known: Tensor,
        age: Tensor,
        inside: Tensor,
        heart: Tensor,
        anatomy: Tensor,
        clinical: Tensor,
    ) -> Tensor:
        """Latents of length 1, (1, tokens, code_dim)."""
        if self.is_linear:
            shortcut = self.encoder.shortcut(frame - past_frame, age)
            return nn.functional.normalize(shortcut, dim=2)
        past = Past(past_frame, past_codes, past_known, age)
        latents: Tensor = self.encoder(frame, past, Conditions(inside, heart, anatomy, clinical))
        return latents


class TokenDecoderGraph(nn.Module):
    """Codes and past to a frame; tensors in the order of `inputs`."""

    heart: Tensor
    anatomy: Tensor

    def __init__(self, model: TiTok) -> None:
        super().__init__()
        self.decoder = model.decoder
        config = model.config
        self.register_buffer("heart", torch.zeros(1, 1, config.grid, config.grid))
        self.register_buffer("anatomy", torch.zeros(1, config.anatomy))

    def forward(
        self,
        codes: Tensor,
        past_frame: Tensor,
        past_codes: Tensor,
        past_known: Tensor,
        age: Tensor,
        inside: Tensor,
        clinical: Tensor,
    ) -> Tensor:
        """Frame, (1, 1, canvas, canvas)."""
        past = Past(past_frame, past_codes, past_known, age)
        told = Conditions(inside, self.heart, self.anatomy, clinical)
        frame: Tensor = self.decoder(codes, past, told)
        return frame


def inputs(model: TiTok, name: str, seed: int = 0) -> dict[str, Tensor]:
    """Return an example of every input of the network `name`, 'encoder' or 'decoder', in order."""
    config, draw = model.config, torch.Generator().manual_seed(seed)
    side, grid = config.canvas, config.grid
    codes = torch.randn(1, config.memory, config.tokens, config.code_dim, generator=draw)
    past = {
        "past_frame": torch.rand(1, 1, side, side, generator=draw),
        "past_codes": nn.functional.normalize(codes, dim=3),
        "past_known": torch.ones(1, config.memory),
        "age": torch.full((1,), config.memory),
        "inside": torch.ones(1, 1, side, side),
    }
    clinical = {"clinical": torch.zeros(1, config.clinical)}
    if name == "decoder":
        return {"codes": past["past_codes"][:, 0], **past, **clinical}
    return {
        "frame": torch.rand(1, 1, side, side, generator=draw),
        **past,
        "heart": torch.zeros(1, 1, grid, grid),
        "anatomy": torch.zeros(1, config.anatomy),
        **clinical,
    }


def titok_models(model: TiTok) -> dict[str, onnx.ModelProto]:
    """Export both halves, in evaluation mode, by name.

    Raises
    ------
    EngineError
        If PyTorch's exporter refuses one.
    """
    graphs: dict[str, tuple[nn.Module, str]] = {
        "encoder": (TokenEncoderGraph(model), "latents"),
        "decoder": (TokenDecoderGraph(model), "frame"),
    }
    return {
        name: halve_weights(
            export_network(Network(name, module.eval(), inputs(model, name), {}, (output,)))
        )
        for name, (module, output) in graphs.items()
    }


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large float32 constants as float16, followed by a cast back to float32.

    Parameters
    ----------
    model : onnx.ModelProto
        Left as it is.

    Raises
    ------
    EngineError
        If a weight is beyond the range of float16.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise EngineError(f"weights {tensor.name} exceed float16; train with weight decay")
        name = f"{tensor.name}_half"
        casts.append(
            helper.make_node("Cast", [name], [tensor.name], f"{name}_cast", to=TensorProto.FLOAT)
        )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(halved, full_check=True)
    return halved

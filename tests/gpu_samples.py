"""Small integer networks, as ONNX files, for tests of the GPU backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx

from edge_codec.calibration.power_of_two import IntegerConv
from edge_codec.export.vqvae import IntegerVQVAE, decoder_model, encoder_model

TOKENS = 24


def layer(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    signed: bool = False,
) -> IntegerConv:
    """A layer of random weights whose outputs fill their range without all of them saturating."""
    weight = rng.integers(-20, 21, (outputs, inputs, kernel, kernel)).astype(np.int8)
    # Weights deviate by 12 and activations by about 100; 6 bits of the sums' deviation are kept.
    deviation = np.log2(1200 * np.sqrt(inputs) * kernel)
    return IntegerConv(
        name="random",
        weight=weight,
        weight_exponents=rng.integers(-9, -7, outputs),
        bias=rng.integers(-500, 500, outputs),
        input_exponent=-7,
        output_exponent=-16 + int(deviation) - 6,
        output_dtype=np.dtype(np.int8 if signed else np.uint8),
        stride=stride,
    )


@cache
def network() -> IntegerVQVAE:
    """A VQ-VAE with few channels: every way in which the zoo's layers load and store."""
    rng = np.random.default_rng(11)
    return IntegerVQVAE(
        analysis=(
            layer(rng, 16, 8, 3),
            layer(rng, 8, 32, 3, stride=2),
            layer(rng, 32, 4, 1, signed=True),
        ),
        codebook=rng.integers(-99, 99, (TOKENS, 4)).astype(np.int8),
        table=rng.integers(0, 256, (TOKENS, 32)).astype(np.uint8),
        coarse=(layer(rng, 32, 40, 3), layer(rng, 40, 32, 1)),
        fine=(layer(rng, 8, 16, 3),),
    )


@cache
def encoder() -> bytes:
    return encoder_model(network()).SerializeToString()


@cache
def decoder() -> bytes:
    return decoder_model(network()).SerializeToString()


def altered(model: bytes, change: Callable[[onnx.GraphProto], None]) -> bytes:
    """Return a model whose graph `change` has changed."""
    proto = onnx.load_model_from_string(model)
    change(proto.graph)
    return proto.SerializeToString()


def nodes(graph: onnx.GraphProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == operator]


def add_constant(graph: onnx.GraphProto, values: np.ndarray) -> str:
    """Add a constant and return its name."""
    name = f"added_{len(graph.initializer)}"
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return name

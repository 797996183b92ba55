"""Small float networks as ONNX files, made for tests, and frames to run them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 19


class Builder:
    """Collects nodes; methods return the name of their result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def frame_values(self, frame: str = "frame") -> str:
        """Window codes to values: uint8 times 2**-7."""
        x = self.node("Cast", frame, to=TensorProto.FLOAT)
        return self.node("Mul", x, self.constant("code_scale", 2.0**-7))

    def conv(
        self,
        x: str,
        name: str,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        relu: bool = True,
        stride: int = 1,
    ) -> str:
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        pad = weight.shape[2] // 2
        y = self.node(
            "Conv",
            *inputs,
            kernel_shape=list(weight.shape[2:]),
            pads=[pad] * 4,
            strides=[stride] * 2,
        )
        return self.node("Relu", y) if relu else y

    def frame_codes(self, x: str, output: str = "decoded") -> str:
        """Values to window codes, as exported decoders do it."""
        x = self.node("Mul", x, self.constant("code_unit", 2.0**7))
        x = self.node("Round", x)
        x = self.node("Clip", x, self.constant("low", 0.0), self.constant("high", 255.0))
        return self.node("Cast", x, to=TensorProto.UINT8, output=output)

    def model(
        self,
        source: tuple[str, int, Sequence[int | str]],
        result: tuple[str, int, Sequence[int | str]],
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(*source)],
            [helper.make_tensor_value_info(*result)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(proto, full_check=True)
        data: bytes = proto.SerializeToString()
        return data


FRAME = ("frame", TensorProto.UINT8, ["n", 1, "h", "w"])
DECODED = ("decoded", TensorProto.UINT8, ["n", 1, "h", "w"])


def random_weight(rng: np.random.Generator, outputs: int, inputs: int, kernel: int) -> np.ndarray:
    return rng.normal(0, np.sqrt(2 / (inputs * kernel**2)), (outputs, inputs, kernel, kernel))


def autoencoder(seed: int = 0, channels: int = 8, spread: float = 1.0) -> bytes:
    """Frame to frame through two hidden layers; the identity plus some noise.

    `spread` is the ratio of the first layer's largest to its smallest channel.
    """
    rng = np.random.default_rng(seed)
    builder = Builder()
    first = 0.02 * random_weight(rng, channels, 1, 3)
    first[:, 0, 1, 1] += 1.0
    middle = 0.05 * random_weight(rng, channels, channels, 3)
    middle[np.arange(channels), np.arange(channels), 1, 1] += 1.0
    last = np.full((1, channels, 1, 1), 1 / channels)
    gains = np.geomspace(1 / spread, 1, channels)
    x = builder.conv(builder.frame_values(), "a", first * gains[:, None, None, None], 0.05 * gains)
    x = builder.conv(x, "b", middle / gains[None, :, None, None], rng.normal(0, 0.01, channels))
    x = builder.conv(x, "c", last, np.array([-0.05]), relu=False)
    builder.frame_codes(x)
    return builder.model(FRAME, DECODED)


def frames(count: int = 4, size: int = 16, seed: int = 0) -> list[np.ndarray]:
    """Smooth frames with a bright spot, shape (1, 1, size, size), uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    found = []
    for _ in range(count):
        center = rng.uniform(0.3, 0.7, 2)
        spot = 150 * np.exp(-20 * ((y - center[0]) ** 2 + (x - center[1]) ** 2))
        noise = rng.normal(40, 6, (size, size))
        found.append(np.clip(np.rint(spot + noise), 0, 255).astype(np.uint8)[None, None])
    return found


def feeds(count: int = 4, size: int = 16, seed: int = 0) -> list[dict[str, np.ndarray]]:
    return [{"frame": frame} for frame in frames(count, size, seed)]

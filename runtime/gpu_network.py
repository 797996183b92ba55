"""An integer network on a device: its kernels and numbers, started between the caller's buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_codec.errors import EngineError
from edge_codec.runtime.device import Buffer, Device
from edge_codec.runtime.gpu_engine import GpuEngine, GpuLayer

Size = tuple[int, int, int]  # images, height and width, in pixels of a layer's input


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What the layers work on for one shape of the input.

    Attributes
    ----------
    sizes : tuple of (int, int, int)
        Of each layer's input: images, height and width in its pixels.
    stored : tuple of (int, int, int, int)
        Shape of what each layer stores, channels last.
    """

    sizes: tuple[Size, ...]
    stored: tuple[tuple[int, int, int, int], ...]

    @property
    def result_bytes(self) -> int:
        """Bytes of the last layer's output."""
        return math.prod(self.stored[-1])


class GpuNetwork:
    """Loads an engine's kernels and numbers onto a device.

    Parameters
    ----------
    engine : GpuEngine
        As `edge_codec.runtime.gpu_engine.read_engine` returns it.
    device : Device

    Raises
    ------
    EngineError
        If the engine is for another architecture, or the device refuses its kernels.
    """

    def __init__(self, engine: GpuEngine, device: Device) -> None:
        check_architecture(engine.capability, device)
        self._device = device
        self._layers = engine.layers
        kernels = {layer.kernel.name: layer.kernel for layer in engine.layers}
        functions = {name: device.load(kernel) for name, kernel in kernels.items()}
        self._functions = [functions[layer.kernel.name] for layer in engine.layers]
        self._numbers = [self._upload(layer) for layer in engine.layers]

    def _upload(self, layer: GpuLayer) -> list[Buffer]:
        """Put a layer's numbers onto the device, in the order of the kernel's arguments."""
        table = [] if layer.table is None else [layer.table]
        buffers = []
        for array in (*table, layer.conv.weights, layer.conv.bias, layer.conv.shift):
            buffers.append(self._device.allocate(array.nbytes))
            self._device.upload(np.ascontiguousarray(array), buffers[-1])
        return buffers

    def plan(self, shape: tuple[int, ...]) -> NetworkPlan:
        """Work out the sizes of all layers, before memory is allocated.

        Parameters
        ----------
        shape : tuple of int
            Of the input: (n, 1, height, width) of a frame, (n, height, width) of tokens.

        Raises
        ------
        EngineError
            If it does not form blocks as a layer reads them, or is too large.
        """
        sizes, stored = [], []
        n, height, width = shape[0], *shape[-2:]
        for layer in self._layers:
            conv = layer.conv.shape
            if height % conv.unpack or width % conv.unpack:
                raise EngineError(
                    f"an input of {shape} does not form blocks of {conv.unpack} for layer "
                    f"'{layer.name}'; pad it"
                )
            size = (n, height // conv.unpack, width // conv.unpack)
            layer.grid(size)
            sizes.append(size)
            stored.append(conv.stored_output(*size))
            _, height, width, _ = stored[-1]
        return NetworkPlan(tuple(sizes), tuple(stored))

    def allocate(self, plan: NetworkPlan) -> list[Buffer]:
        """Allocate what lies between the layers: two buffers, which take turns."""
        stored = [math.prod(between) for between in plan.stored[:-1]]
        pair = [self._device.allocate(max(stored[turn::2])) for turn in (0, 1) if stored[turn:]]
        return [pair[number % 2] for number in range(len(stored))]

    def start(
        self, plan: NetworkPlan, source: Buffer, between: Sequence[Buffer], result: Buffer
    ) -> None:
        """Start all layers.

        Parameters
        ----------
        plan : NetworkPlan
        source : Buffer
            The input.
        between : sequence of Buffer
            As `allocate` returned them.
        result : Buffer
            Takes the last layer's output.
        """
        buffers = [source, *between, result]
        for number, size in enumerate(plan.sizes):
            x, y = buffers[number : number + 2]
            arguments: list[Buffer | int] = [x, *self._numbers[number], *size, y]
            self._device.launch(self._functions[number], self._layers[number].grid(size), arguments)


def check_architecture(capability: int, device: Device) -> None:
    """Accept machine code of the device's major version, and of no higher minor one.

    Raises
    ------
    EngineError
        If it is for another architecture.
    """
    major, minor = divmod(capability, 10)
    device_major, device_minor = divmod(device.capability, 10)
    if major != device_major or minor > device_minor:
        raise EngineError(
            f"the engine is for sm_{capability}, {device.name} is sm_{device.capability}; "
            f"build it with --target sm{device.capability}"
        )

"""Runs networks on the calibration frames with ONNX Runtime, and measures what they lose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edge_codec.calibration.emit import needed_nodes
from edge_codec.calibration.network import Layer, Network, output_axis
from edge_codec.calibration.observers import Observer
from edge_codec.calibration.plan import observed_tensors
from edge_codec.errors import CalibrationError

Feed = Mapping[str, NDArray[Any]]
"""One run's inputs by name."""


class Runner:
    """A network on ONNX Runtime's CPU provider.

    Parameters
    ----------
    model : bytes
        ONNX file.
    outputs : sequence of str, optional
        Tensors to give instead of the network's outputs; what they do not need is not computed.
    threads : int

    Raises
    ------
    CalibrationError
        If ONNX Runtime refuses the model, or fails on an input.
    """

    def __init__(
        self, model: bytes, outputs: Sequence[str] | None = None, threads: int = 1
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        content = model if outputs is None else _cut(model, outputs)
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise classes of no common base
            raise CalibrationError(f"ONNX Runtime refuses the network: {error}") from error
        self.inputs = {item.name: item for item in self._session.get_inputs()}
        self.outputs = [item.name for item in self._session.get_outputs()]
        self.output_types = [str(item.type) for item in self._session.get_outputs()]

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """Return the outputs for one feed; inputs that the network does not have are left out."""
        try:
            found: list[NDArray[Any]] = self._session.run(
                None, {name: value for name, value in feed.items() if name in self.inputs}
            )
        except Exception as error:  # the bindings raise classes of no common base
            shapes = {name: value.shape for name, value in feed.items()}
            raise CalibrationError(f"the network fails on {shapes}: {error}") from error
        return found


def observe(network: Network, feeds: Iterable[Feed], threads: int = 1) -> dict[str, Observer]:
    """Run the float network and observe every tensor that needs a scale.

    Returns
    -------
    dict of str to Observer
        By tensor, for each of `plan.observed_tensors`.
    """
    observers = {name: Observer() for name in observed_tensors(network)}
    if observers:
        runner = Runner(network.proto.SerializeToString(), list(observers), threads)
        for feed in feeds:
            for observer, values in zip(observers.values(), runner.run(feed), strict=True):
                observer.update(values)
    return observers


class Score:
    """Signal-to-noise ratio of a network's outputs against those of the float network.

    Tokens (integers of 32 bits and more) are names, not numbers: there, what differs is noise, and
    every token is as much signal.

    Parameters
    ----------
    model : bytes
        The float network.
    feeds : sequence of Feed
        Inputs to compare on; the float outputs are kept.
    """

    def __init__(self, model: bytes, feeds: Sequence[Feed], threads: int = 1) -> None:
        self._feeds = feeds
        self._threads = threads
        runner = Runner(model, threads=threads)
        self._wanted = [runner.run(feed) for feed in feeds]

    def __call__(self, model: bytes) -> float:
        """Return 10 log10(signal / noise) in dB over all outputs of all feeds."""
        runner = Runner(model, threads=self._threads)
        signal = noise = 0.0
        for feed, wanted in zip(self._feeds, self._wanted, strict=True):
            for right, found in zip(wanted, runner.run(feed), strict=True):
                power, error = _signal_and_noise(right, found)
                signal, noise = signal + power, noise + error
        return decibel(signal, noise)


def _signal_and_noise(right: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    if right.dtype.kind in "iu" and right.dtype.itemsize >= 4:
        return float(right.size), float((found != right).sum())
    exact = right.astype(np.float64)
    return float(np.square(exact).sum()), float(np.square(found - exact).sum())


def decibel(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise); infinite without noise, NaN where there is NaN."""
    if math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def channel_means(
    model: bytes, layer: Layer, feeds: Iterable[Feed], threads: int = 1
) -> NDArray[np.float64]:
    """Mean of each channel of a layer's sums over all feeds, shape (outputs,)."""
    runner = Runner(model, [layer.sums], threads)
    total, count = np.zeros(len(layer.weight)), 0
    for feed in feeds:
        channels = np.moveaxis(runner.run(feed)[0], output_axis(layer.node), 0)
        flat = channels.reshape(len(channels), -1)
        total += flat.sum(axis=1, dtype=np.float64)
        count += flat.shape[1]
    return total / max(count, 1)


def _cut(model: bytes, outputs: Sequence[str]) -> bytes:
    """Return the part of a network that some tensors need, with these as its outputs."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    nodes = needed_nodes(graph.node, outputs)
    used = {name for node in nodes for name in node.input} | set(outputs)
    kept = [item for item in graph.initializer if item.name in used]
    for part in (graph.node, graph.output, graph.initializer):
        del part[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    # ONNX Runtime infers element type and shape of an output that has none.
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    data: bytes = proto.SerializeToString()
    return data

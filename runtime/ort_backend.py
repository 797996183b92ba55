"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

from typing import Any

import onnxruntime
from numpy.typing import NDArray

from edge_codec.errors import EngineError


class OrtEngine:
    """A network on ONNX Runtime's CPU provider.

    Parameters
    ----------
    model : bytes
        ONNX file.
    threads : int
        Intra-op threads, 1 or more.
    optimize : bool
        False runs the graph as written, layer by layer: the reference for tests of exactness.

    Attributes
    ----------
    signature : (str, tuple of int or str, str)
        Type and shape of the input, with names for sizes that are free, and type of the output.
    """

    def __init__(self, model: bytes, threads: int, optimize: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning workers starve the entropy coder on a machine of few cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"ONNX Runtime refuses the model: {error}") from error
        source, result = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input = source.name
        self.signature = source.type, tuple(source.shape), result.type
        self.name = f"onnxruntime {onnxruntime.__version__} cpu, {threads} threads"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`; see `edge_codec.engine.Engine`."""
        try:
            result: NDArray[Any] = self._session.run(None, {self._input: tensor})[0]
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"ONNX Runtime failed on {tensor.shape}: {error}") from error
        return result

"""OpenVINO on the CPU: picked first where it is installed; the same bits as ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_codec.errors import EngineError

MAX_SHAPES = 4

# One for the process, never dropped: each core's CPU plug-in puts an alternate signal stack of its
# own in place of the one before. Two that are dropped in the order in which they came leave the
# address of freed memory behind, and the next signal, be it Ctrl-C, ends the process.
_CORE = openvino.Core()


class OpenVinoEngine:
    """A network on OpenVINO's CPU plug-in, compiled once per input shape.

    Parameters
    ----------
    model : bytes
        ONNX file.
    threads : int
        Inference threads, 1 or more.
    precision : {'f32', 'bf16', 'f16'}
        Precision of what is not quantized; an exact integer network gives the same bits in each.
    """

    def __init__(self, model: bytes, threads: int, precision: str = "f32") -> None:
        self._options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._model = _CORE.read_model(model=model, weights=b"")
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses the model: {error}") from error
        self._compiled: dict[tuple[int, ...], Any] = {}
        self.name = f"openvino {openvino.__version__} cpu {precision}, {threads} threads"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`; see `edge_codec.engine.Engine`."""
        try:
            request = self._request(tensor.shape)
            request.infer({0: tensor}, share_inputs=True, share_outputs=True)
            # The request's buffer is written again by the next call.
            return np.array(request.get_output_tensor(0).data)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on {tensor.shape}: {error}") from error

    def taken_precision(self, shape: tuple[int, ...]) -> str:
        """Return the precision that inputs of a shape are computed with: 'f32', 'bf16' or 'f16'.

        OpenVINO takes another one where the processor lacks what was asked for.
        """
        compiled = self._request(shape).get_compiled_model()
        return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return the infer request for a shape; it is compiled for static shapes."""
        if shape not in self._compiled:
            if len(self._compiled) >= MAX_SHAPES:
                self._compiled.pop(next(iter(self._compiled)))
            model = self._model.clone()
            model.reshape(list(shape))
            compiled = _CORE.compile_model(model, "CPU", self._options)
            self._compiled[shape] = compiled.create_infer_request()
        return self._compiled[shape]


def compile_float(model: bytes, threads: int) -> tuple[Any, frozenset[str], str]:
    """Compile a float network of fixed shapes.

    Returns
    -------
    request : openvino.InferRequest
    inputs : frozenset of str
        Names that it takes.
    version : str
        Of OpenVINO.

    Raises
    ------
    RuntimeError
        If OpenVINO refuses the model.
    """
    network = _CORE.read_model(model=model, weights=b"")
    names = frozenset(each.get_any_name() for each in network.inputs)
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = _CORE.compile_model(network, "CPU", options).create_infer_request()
    return request, names, openvino.__version__

"""Float networks of several named inputs: for pixels that nothing depends on, and for choices.

Unlike the integer networks of `edge_codec.runtime.pick`, two backends, or two machines, agree on
their results up to the last bits of a float only.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edge_codec.engine import NamedEngine
from edge_codec.errors import EngineError
from edge_codec.runtime.pick import PACKAGES, default_threads

FLOAT_BACKENDS = ("openvino", "onnxruntime")
"""Preferred first."""

logger = logging.getLogger(__name__)


class OrtNetwork:
    """A network on ONNX Runtime's CPU provider.

    Parameters
    ----------
    model : bytes
        ONNX file of fixed shapes and one output.
    threads : int
        Intra-op threads, 1 or more.

    Raises
    ------
    EngineError
        If it refuses the model.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning workers starve the entropy coder on a machine of few cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"ONNX Runtime refuses the model: {error}") from error
        self._inputs = frozenset(each.name for each in self._session.get_inputs())
        self.name = f"onnxruntime {onnxruntime.__version__} cpu float, {threads} threads"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """See `edge_codec.engine.NamedEngine`."""
        taken = _taken(inputs, self._inputs)
        try:
            result: NDArray[Any] = self._session.run(None, taken)[0]
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        return result


class OpenVinoNetwork:
    """A network on OpenVINO's CPU plug-in; parameters and errors as those of `OrtNetwork`."""

    def __init__(self, model: bytes, threads: int) -> None:
        from edge_codec.runtime import openvino_backend

        try:
            self._request, self._inputs, version = openvino_backend.compile_float(model, threads)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO refuses the model: {error}") from error
        self.name = f"openvino {version} cpu float, {threads} threads"

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """See `edge_codec.engine.NamedEngine`."""
        taken = _taken(inputs, self._inputs)
        try:
            self._request.infer(taken, share_inputs=True, share_outputs=True)
            # The request's buffer is written again by the next call.
            result: NDArray[Any] = self._request.get_output_tensor(0).data.copy()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {error}") from error
        return result


def _taken(inputs: Mapping[str, NDArray[Any]], expected: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Return the inputs that a network has use for; OpenVINO drops the others from its graph."""
    if not expected <= inputs.keys():
        found, due = ", ".join(sorted(inputs)), ", ".join(sorted(expected))
        raise EngineError(f"the network takes {due}; it was given {found}: reinstall the model")
    return {name: inputs[name] for name in expected}


def load_network(model: bytes, backend: str = "auto", threads: int | None = None) -> NamedEngine:
    """Load a float network.

    Parameters
    ----------
    model : bytes
        ONNX file of fixed shapes and one output.
    backend : str
        'auto' for the first of `FLOAT_BACKENDS` that is installed, or one of them.
    threads : int, optional
        Threads for one frame; by default `default_threads()`.

    Raises
    ------
    EngineError
        If there is no such backend, it is not installed, or it refuses the model.
    """
    count = default_threads() if threads is None else threads
    if count < 1:
        raise EngineError(f"threads is {count}; use 1 or more")
    if backend not in ("auto", *FLOAT_BACKENDS):
        raise EngineError(
            f"backend '{backend}' runs no float network; use auto, {', '.join(FLOAT_BACKENDS)}"
        )
    installed = [name for name in FLOAT_BACKENDS if importlib.util.find_spec(name) is not None]
    if backend == "auto" and not installed:
        raise EngineError("no inference backend is installed; pip install onnxruntime")
    chosen = installed[0] if backend == "auto" else backend
    if chosen not in installed:
        raise EngineError(f"backend '{chosen}' is missing; pip install {PACKAGES[chosen]}")
    logger.info("backend %s, %d threads", chosen, count)
    return (OrtNetwork if chosen == "onnxruntime" else OpenVinoNetwork)(model, count)

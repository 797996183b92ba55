"""ONNX Runtime's CUDA and TensorRT providers, for those who have `onnxruntime-gpu`.

TF32 is off: what an integer network computes in float32 must be exact. Nodes that a provider does
not take run on the next one, the CPU at last; a provider that does not start at all is an error
here, where ONNX Runtime itself would go on without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from edge_codec.errors import EngineError

PROVIDERS = {"ort-cuda": "CUDAExecutionProvider", "ort-tensorrt": "TensorrtExecutionProvider"}
"""Provider of each backend's name."""


def offered() -> tuple[str, ...]:
    """Return the backends that the installed ONNX Runtime has been built with."""
    providers = onnxruntime.get_available_providers()
    return tuple(name for name, provider in PROVIDERS.items() if provider in providers)


class OrtGpuEngine:
    """A network on one of ONNX Runtime's GPU providers.

    Parameters
    ----------
    model : bytes
        ONNX file.
    backend : {'ort-cuda', 'ort-tensorrt'}
    cache : Path
        Folder where the TensorRT provider keeps its engines and timings.

    Raises
    ------
    EngineError
        If the installed ONNX Runtime lacks the provider, the provider does not start, or the model
        is refused.
    """

    def __init__(self, model: bytes, backend: str, cache: Path) -> None:
        if backend not in offered():
            raise EngineError(
                f"the installed ONNX Runtime {onnxruntime.__version__} has no "
                f"{PROVIDERS[backend]}; pip install onnxruntime-gpu in place of onnxruntime"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Half of a network on the CPU would be no GPU backend; small shape arithmetic is.
        providers = provider_options(backend, cache)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"ONNX Runtime refuses the model: {error}") from error
        if PROVIDERS[backend] not in self._session.get_providers():
            raise EngineError(
                f"{PROVIDERS[backend]} did not start; check the NVIDIA driver and the CUDA "
                "libraries that this onnxruntime-gpu asks for"
            )
        self._input = self._session.get_inputs()[0].name
        self.name = f"onnxruntime {onnxruntime.__version__} {backend}"

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output for `tensor`; see `edge_codec.engine.Engine`."""
        try:
            result: NDArray[Any] = self._session.run(None, {self._input: tensor})[0]
        except Exception as error:  # the bindings raise classes of no common base
            raise EngineError(f"{self.name} failed on {tensor.shape}: {error}") from error
        return result


def provider_options(backend: str, cache: Path) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a backend, first the one that is asked for, with their options."""
    cuda = (PROVIDERS["ort-cuda"], {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if backend == "ort-cuda":
        return [cuda, cpu]
    folder = str(cache / "onnxruntime")
    tensorrt = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_int8_enable": "1",  # as the QuantizeLinear nodes say; without it they are ignored
        "trt_fp16_enable": "0",
    }
    return [(PROVIDERS["ort-tensorrt"], tensorrt), cuda, cpu]

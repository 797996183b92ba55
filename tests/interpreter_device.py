"""The device without a GPU, under the name by which tests know it."""

from edge_codec.bench.kernels.interpreter_device import InterpreterDevice, compile_nothing

__all__ = ["InterpreterDevice", "compile_nothing"]

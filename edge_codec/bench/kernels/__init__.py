"""Checks and timings of the GPU kernels: one module per kernel, of the same name."""

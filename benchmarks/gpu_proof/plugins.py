"""The assembly that travels in TensorRT engines, launched with exactly TensorRT's arguments.

TensorRT passes inputs, 32-bit scalars and outputs, and neither of the two pointers that Triton's
own launcher appends. Here the driver compiles the same text and is given the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu_proof.section import Row, Setting, SkippedError

LATENTS = ((1, 512, 12), (1000, 2048, 32), (4096, 8192, 64))
HEADS = ((8, 288, 288, 64), (3, 77, 130, 32), (2, 1, 1023, 128))


def section(setting: Setting) -> Iterator[Row]:
    """Yield a row per plugin and shape."""
    if setting.interpret:
        raise SkippedError("machine code needs a GPU")
    import torch

    from edge_codec.kernels.plugin import PluginTarget, ptx_version
    from edge_codec.runtime.cuda_device import open_cuda_device

    device = open_cuda_device()
    target = PluginTarget(device.capability, ptx_version(device.driver))
    generator = torch.Generator(device="cuda").manual_seed(setting.seed)
    for shape in LATENTS:
        for few in (True, False):
            yield _lookup(shape, few, target, generator)
    for heads in HEADS:
        yield _attention(heads, target, generator)


def _lookup(shape: tuple[int, int, int], few: bool, target: Any, generator: Any) -> Row:
    import torch

    from edge_codec.kernels.plugin_launch import lookup_launch
    from edge_codec.kernels.reference.codebook_lookup import count_ties

    rows, n_codes, dim = shape
    latents = torch.randn(rows, dim, generator=generator, device="cuda").half()
    codes = torch.randn(n_codes, dim, generator=generator, device="cuda").half()
    norms = 0.5 * codes.float().square().sum(1)
    tokens = torch.full((rows,), -1, dtype=torch.int32, device="cuda")
    launch = lookup_launch(rows, n_codes, dim, target.capability, few=few)
    _launch(launch, target, (latents, codes, norms), (tokens,))
    ties = count_ties(latents.cpu().numpy(), codes.cpu().numpy(), tokens.cpu().numpy())
    return {
        "plugin": "CodebookLookup",
        "shape": f"{rows}x{n_codes}x{dim}",
        "tactic": "few" if few else "many",
        "agreement": f"{ties} ties of {rows}",
    }


def _attention(shape: tuple[int, int, int, int], target: Any, generator: Any) -> Row:
    import torch

    from edge_codec.errors import EngineError
    from edge_codec.kernels.plugin_launch import attention_launch

    heads, n_queries, n_keys, dim = shape
    query, key, value = (
        torch.randn(1, heads, n, dim, generator=generator, device="cuda").half()
        for n in (n_queries, n_keys, n_keys)
    )
    out = torch.full_like(query, float("nan"))
    launch = attention_launch(heads, n_queries, n_keys, dim, target.capability)
    _launch(launch, target, (query, key, value), (out,))
    doubles = (tensor.double() for tensor in (query, key, value))
    exact = torch.nn.functional.scaled_dot_product_attention(*doubles)
    error = float((out.double() - exact).norm() / exact.norm())
    # Half precision keeps 11 bits: its own rounding of the result alone is about 2e-4.
    if not error < 2e-3:
        raise EngineError(f"attention of {shape} is off by {error:.2g} of its norm")
    return {
        "plugin": "ShortAttention",
        "shape": "x".join(map(str, shape)),
        "agreement": f"relative error {error:.1e}",
    }


def _launch(launch: Any, target: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Have the driver compile a plugin's assembly, and launch it as TensorRT would."""
    import torch
    from cuda.bindings import driver

    from edge_codec.kernels.aot import compile_kernel

    kernel = compile_kernel(launch.spec, target.capability, target.ptx_version)
    torch.cuda.synchronize()
    module = _call(driver.cuModuleLoadData(kernel.ptx.encode()))
    function = _call(driver.cuModuleGetFunction(module, kernel.symbol.encode()))
    values = [np.array(tensor.data_ptr(), np.uint64) for tensor in inputs]
    values += [np.array(scalar, np.int32) for scalar in launch.scalars]
    values += [np.array(tensor.data_ptr(), np.uint64) for tensor in outputs]
    addresses = np.array([value.ctypes.data for value in values], np.uint64)
    _call(
        driver.cuLaunchKernel(
            function,
            *launch.grid,
            *(kernel.num_warps * 32, 1, 1),
            kernel.shared_bytes,
            0,
            addresses.ctypes.data,
            0,
        )
    )
    torch.cuda.synchronize()
    _call(driver.cuModuleUnload(module))


def _call(result: Any) -> Any:
    """Return what a call of the driver gives, or raise its error."""
    from cuda.bindings import driver

    from edge_codec.errors import EngineError

    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise EngineError(f"the driver answers {status.name}")
    return values[0] if values else None

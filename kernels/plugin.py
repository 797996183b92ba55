"""Our kernels as plugins of TensorRT: compiled ahead of time, they travel inside the engine.

TensorRT 10.9 and newer takes PTX, a launch grid and scalar arguments from Python while it builds
an engine ("quick deployable plugins"); the machine that runs the engine needs neither Triton nor
Python for them. A node `edge_codec::<Name>` of the ONNX file (`edge_codec.export.custom_ops`)
becomes the plugin of that name. Older versions and TensorRT-RTX run the node's function body.

A plugin is one kernel launched once, and its arguments are the inputs, 32-bit scalars computed from
their shapes, and the outputs: the order that all our kernels have.

What each takes, anything else being an `EngineError` while the engine is built:

- `CodebookLookup`: latents (..., dim) and codes (n_codes, dim) float16, dim at most 128; norms
  (n_codes,) float32. One program searches all codes: a search that is divided among programs is two
  kernels. Tactic 1 has small tiles for few latents, tactic 2 large ones; TensorRT times both.
- `ShortAttention`: query (batch, heads, n_queries, dim), key and value (batch, heads, n_keys, dim)
  float16, dim 32 to 128; scores are divided by the root of dim.
"""
# No `from __future__ import annotations` here: TensorRT reads a plugin's annotations as types.

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_codec.errors import EngineError

if TYPE_CHECKING:
    from edge_codec.kernels.plugin_launch import Launch

NAMESPACE = "edge_codec"
NAMES = ("CodebookLookup", "ShortAttention")
MIN_TENSORRT = (10, 9)

PTX_VERSIONS = {
    (12, 4): 84,
    (12, 5): 85,
    (12, 8): 87,
    (12, 9): 88,
    (13, 0): 90,
    (13, 1): 91,
    (13, 2): 92,
}
"""Newest assembly, version times ten, that a driver of a CUDA version compiles."""

WARP = 32
MAX_SHARED = 48 * 1024  # more must be asked for, which no document says that TensorRT does
FEW, MANY = 1, 2
"""Tactics of the lookup."""


@dataclass(frozen=True, slots=True)
class PluginTarget:
    """What plugins are compiled for.

    Attributes
    ----------
    capability : int
        Compute capability times ten.
    ptx_version : int or None
        From `ptx_version`.
    """

    capability: int
    ptx_version: int | None = None


def ptx_version(driver: str) -> int | None:
    """Return the version of PTX, times ten, to compile for a driver.

    Parameters
    ----------
    driver : str
        CUDA version of the driver: '12.6'.

    Returns
    -------
    int or None
        None where the compiler's own version will do.

    Raises
    ------
    EngineError
        If the driver is older than the oldest that is known.
    """
    major, _, minor = driver.partition(".")
    found = (int(major), int(minor))
    if found > max(PTX_VERSIONS):
        return None
    known = [version for cuda, version in PTX_VERSIONS.items() if cuda <= found]
    if not known:
        raise EngineError(f"the NVIDIA driver is for CUDA {driver}; plugins need 12.4 or newer")
    return max(known)


def register_plugins(target: PluginTarget) -> None:
    """Register our plugins with the `tensorrt` that is installed; a second call does nothing.

    Parameters
    ----------
    target : PluginTarget
        This machine's GPU: TensorRT builds for no other.

    Raises
    ------
    EngineError
        If this TensorRT has no ahead-of-time plugins.
    """
    try:
        import tensorrt.plugin as trtp
    except ImportError as error:
        raise EngineError(f"this TensorRT takes no plugins from Python ({error})") from error
    if not hasattr(trtp, "aot_impl"):
        raise EngineError("this TensorRT has no ahead-of-time plugins; use 10.9 or newer")
    if hasattr(trtp.op, NAMESPACE):
        return
    _register_lookup(target)
    _register_attention(target)


def _register_lookup(target: PluginTarget) -> None:
    import tensorrt as trt
    import tensorrt.plugin as trtp

    from edge_codec.kernels.plugin_launch import lookup_launch

    name = f"{NAMESPACE}::CodebookLookup"

    @trtp.register(name, lazy_register=True)
    def describe(
        latents: trtp.TensorDesc, codes: trtp.TensorDesc, norms: trtp.TensorDesc
    ) -> trtp.TensorDesc:
        del codes, norms
        return trtp.from_shape_expr(tuple(latents.shape_expr)[:-1], dtype=trt.int32)

    @trtp.autotune(name)
    def tune(
        latents: trtp.TensorDesc,
        codes: trtp.TensorDesc,
        norms: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        del latents, codes, norms, outputs
        return [trtp.AutoTuneCombination("FP16, FP16, FP32, INT32", "LINEAR", [FEW, MANY])]

    @trtp.aot_impl(name)
    def compile_(
        latents: trtp.TensorDesc,
        codes: trtp.TensorDesc,
        norms: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]:
        del norms, outputs
        _require_half(trt, latents=latents, codes=codes)
        rows = trtp.ShapeExpr(1)
        for size in tuple(latents.shape_expr)[:-1]:
            rows *= size
        n_codes = _constant("number of codes", codes.shape_expr[0])
        dim = _constant("dim of the latents", latents.shape_expr[-1])
        launch = lookup_launch(rows, n_codes, dim, target.capability, few=tactic != MANY)
        return _compile(trtp, launch, target)


def _register_attention(target: PluginTarget) -> None:
    import tensorrt as trt
    import tensorrt.plugin as trtp

    from edge_codec.kernels.plugin_launch import attention_launch

    name = f"{NAMESPACE}::ShortAttention"

    @trtp.register(name, lazy_register=True)
    def describe(
        query: trtp.TensorDesc, key: trtp.TensorDesc, value: trtp.TensorDesc
    ) -> trtp.TensorDesc:
        del key, value
        return query.like()

    @trtp.autotune(name)
    def tune(
        query: trtp.TensorDesc,
        key: trtp.TensorDesc,
        value: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        del query, key, value, outputs
        return [trtp.AutoTuneCombination("FP16, FP16, FP16, FP16", "LINEAR", [FEW])]

    @trtp.aot_impl(name)
    def compile_(
        query: trtp.TensorDesc,
        key: trtp.TensorDesc,
        value: trtp.TensorDesc,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]:
        del outputs, tactic
        _require_half(trt, query=query, key=key, value=value)
        batch, heads, n_queries, _ = tuple(query.shape_expr)
        dim = _constant("dim of the heads", query.shape_expr[3])
        launch = attention_launch(
            batch * heads, n_queries, key.shape_expr[2], dim, target.capability
        )
        return _compile(trtp, launch, target)


def _compile(trtp: Any, launch: "Launch", target: PluginTarget) -> tuple[str, str, Any, Any]:
    """Return what TensorRT asks of an ahead-of-time plugin."""
    from edge_codec.kernels.aot import compile_kernel

    kernel = compile_kernel(launch.spec, target.capability, target.ptx_version)
    if kernel.shared_bytes > MAX_SHARED:
        raise EngineError(
            f"{kernel.name} takes {kernel.shared_bytes} bytes of shared memory on "
            f"sm_{target.capability}; a plugin has {MAX_SHARED}, build without Triton installed"
        )
    parameters = trtp.KernelLaunchParams()
    parameters.grid_x, parameters.grid_y, parameters.grid_z = launch.grid
    parameters.block_x = kernel.num_warps * WARP
    parameters.shared_mem = kernel.shared_bytes
    scalars = trtp.SymIntExprs(len(launch.scalars))
    for index, scalar in enumerate(launch.scalars):
        scalars[index] = trtp.SymInt32(scalar)
    return kernel.symbol, kernel.ptx, parameters, scalars


def _require_half(trt: Any, **tensors: Any) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != trt.float16:
            raise EngineError(f"{name} is {tensor.dtype}; the plugin takes float16")


def _constant(name: str, size: Any) -> int:
    if not size.is_constant:
        raise EngineError(f"the {name} must be fixed in the ONNX file")
    return int(size.constant_value())

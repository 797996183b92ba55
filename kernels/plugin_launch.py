"""How the plugins of `edge_codec.kernels.plugin` launch their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_codec.errors import EngineError
from edge_codec.kernels.attention import attention_kernel
from edge_codec.kernels.codebook_lookup import MAX_DIM
from edge_codec.kernels.codebook_search import nearest_f16_kernel
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config
from edge_codec.kernels.tensors import score_factor

HEAD_DIMS = range(32, 129)


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel and how it is launched; numbers may be TensorRT's expressions of shapes.

    Attributes
    ----------
    spec : KernelSpec
    grid : sequence of int or expression
        Programs along x, y and z.
    scalars : sequence of int or expression
        Arguments between inputs and outputs.
    """

    spec: KernelSpec
    grid: Sequence[Any]
    scalars: Sequence[Any]


def lookup_launch(rows: Any, n_codes: int, dim: int, capability: int, *, few: bool) -> Launch:
    """Return how the tokens of latents are found.

    Parameters
    ----------
    rows : int or expression
        Number of latents.
    n_codes, dim : int
    capability : int
        Compute capability times ten.
    few : bool
        Small tiles, for few latents.

    Raises
    ------
    EngineError
        If there are no codes, or dim is not 1 to 128.
    """
    if not 1 <= dim <= MAX_DIM or n_codes < 1:
        raise EngineError(f"{n_codes} codes of dim {dim}: use 1 or more of dim 1 to {MAX_DIM}")
    padded = max(16, _power_of_two(dim))
    tile = config("codebook_lookup", f"f16_d{padded}_{'few' if few else 'many'}", capability)
    block_m, block_n = tile.constants["BLOCK_M"], tile.constants["BLOCK_N"]
    spec = KernelSpec(
        name=f"codebook_lookup_plugin_d{dim}_{'few' if few else 'many'}",
        function=nearest_f16_kernel,
        signature={
            "latents": "*fp16",
            "codes": "*fp16",
            "norms": "*fp32",
            "n_rows": "i32",
            "n_codes": "i32",
            "codes_per_part": "i32",
            "tokens": "*i32",
        },
        constants={
            **dict.fromkeys(("scores", "gathered")),
            **tile.constants,
            "DIM": dim,
            "DIM_PADDED": padded,
            "SHORT": n_codes < block_n,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    whole = -(-n_codes // block_n) * block_n
    return Launch(spec, (_cdiv(rows, block_m), 1, 1), (rows, n_codes, whole))


def attention_launch(
    sequences: Any, n_queries: Any, n_keys: Any, dim: int, capability: int
) -> Launch:
    """Return how heads that lie one after the other attend: as sequences of one head each.

    Parameters
    ----------
    sequences, n_queries, n_keys : int or expression
    dim : int
    capability : int
        Compute capability times ten.

    Raises
    ------
    EngineError
        If dim is not 32 to 128.
    """
    if dim not in HEAD_DIMS:
        raise EngineError(f"heads of dim {dim}; the plugin takes {HEAD_DIMS[0]} to {HEAD_DIMS[-1]}")
    padded = _power_of_two(dim)
    tile = config("attention", f"f16_d{padded}", capability)
    strides = dict.fromkeys(("Q_STRIDE", "K_STRIDE", "V_STRIDE"), dim)
    spec = KernelSpec(
        name=f"attention_plugin_d{dim}",
        function=attention_kernel,
        signature={
            **dict.fromkeys(("q", "k", "v"), "*fp16"),
            **dict.fromkeys(("n_queries", "n_keys"), "i32"),
            "out": "*fp16",
        },
        constants={
            **dict.fromkeys(("key_mask", "q_bias", "v_bias")),
            **strides,
            **tile.constants,
            "HEADS": 1,
            "DIM": dim,
            "DIM_PADDED": padded,
            "SCALE": score_factor(None, dim),
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    grid = (_cdiv(n_queries, tile.constants["BLOCK_M"]), 1, sequences)
    return Launch(spec, grid, (n_queries, n_keys))


def _cdiv(number: Any, block: int) -> Any:
    """Divide and round up; an expression must not be negated."""
    return (number + (block - 1)) // block


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()

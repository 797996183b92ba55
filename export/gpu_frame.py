"""Builds files of whole frames on a GPU: both networks, and the kernels around them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import triton
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, load_token_model
from edge_codec.errors import EngineError
from edge_codec.export.gpu_engine import Compiler, build_engine, stored_kernel
from edge_codec.kernels import codebook_lookup, normalize, rans, token_rates
from edge_codec.kernels.aot import compile_kernel
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import config
from edge_codec.manifest import Manifest
from edge_codec.runtime.gpu_frame_file import (
    KERNELS,
    GpuFrameFile,
    read_frame_file,
    write_frame_file,
)

LEAST_DIM = 32
"""What the int8 search pads latents to, at least."""


def build_frame_file(
    encoder: bytes,
    decoder: bytes,
    codebook: NDArray[np.int8],
    tokens: TokenModel,
    capability: int,
    compiler: Compiler = compile_kernel,
) -> bytes:
    """Build what codes the base layer of a model's frames on an architecture.

    Parameters
    ----------
    encoder, decoder : bytes
        ONNX files.
    codebook : ndarray, shape (codes, dim), int8
        Only its shape is built in.
    tokens : TokenModel
        Only its sizes are built in.
    capability : int
        Compute capability times ten, one of `edge_codec.kernels.aot.ARCHITECTURES`.
    compiler : callable
        Makes machine code of a specification; tests have one that makes none.

    Raises
    ------
    EngineError
        If a network is no integer chain, the codebook is too small or too large for the search, or
        a kernel does not compile.
    """
    specs = _specs(codebook, tokens, capability)
    kernels = {}
    for name, spec in specs.items():
        compiled = compiler(spec, capability)
        kernels[name] = stored_kernel(name, KERNELS[name].function, spec, compiled)
    file = GpuFrameFile(
        encoder=build_engine(encoder, capability, compiler),
        decoder=build_engine(decoder, capability, compiler),
        kernels=kernels,
        capability=capability,
        compiler=f"triton {triton.__version__}",
    )
    data = write_frame_file(file)
    read_frame_file(data).engines()
    return data


def build_model_file(
    manifest: Manifest, capability: int, compiler: Compiler = compile_kernel
) -> bytes:
    """Build what codes frames of a model of the zoo; see `build_frame_file`.

    Raises
    ------
    EngineError
        If a file of the model is missing or altered, or as `build_frame_file`.
    """
    return build_frame_file(
        manifest.read("encoder.onnx"),
        manifest.read("decoder.onnx"),
        np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False),
        load_token_model(manifest.read("token_model.npz")),
        capability,
        compiler,
    )


def _specs(
    codebook: NDArray[np.int8], tokens: TokenModel, capability: int
) -> dict[str, KernelSpec]:
    known = {
        spec.name: spec
        for module in (codebook_lookup, normalize, rans, token_rates)
        for spec in module.specs(capability)
    }
    sizes = {
        "CLUSTERS": tokens.n_clusters,
        "LEAVES": tokens.n_leaves,
        "CLUSTER_BLOCK": triton.next_power_of_2(tokens.n_clusters),
        "LEAF_BLOCK": triton.next_power_of_2(tokens.n_leaves),
    }
    return {
        "normalize": known["normalize"],
        "denormalize": known["denormalize"],
        "nearest": _search(known["codebook_lookup_i8_d32"], codebook.shape, capability),
        "rates_key": _with(known["token_rates_key"], sizes),
        "rates_predicted": _with(known["token_rates_predicted"], sizes),
        "rans": known["rans_encode_l1"],
    }


def _with(spec: KernelSpec, constants: dict[str, int]) -> KernelSpec:
    return replace(spec, constants={**spec.constants, **constants})


def _search(spec: KernelSpec, shape: tuple[int, ...], capability: int) -> KernelSpec:
    """Return the search of a whole codebook by every program."""
    n_codes, dim = shape
    padded = max(LEAST_DIM, triton.next_power_of_2(dim))
    tile = config("codebook_lookup", f"i8_d{padded}_few", capability)
    # Beyond so many codes a program cannot tell all places apart; see `nearest_i8_kernel`.
    least, most = tile.constants["BLOCK_N"], tile.constants["BLOCK_N"] * 65536 // padded // 4
    if not least <= n_codes <= most:
        raise EngineError(f"a codebook of {n_codes} codes; the search takes {least} to {most}")
    spec = _with(spec, {"DIM": dim, "DIM_PADDED": padded, **tile.constants})
    return replace(spec, num_warps=tile.num_warps, num_stages=tile.num_stages)

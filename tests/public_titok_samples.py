"""Synthetic checkpoints with the names and shapes of the public TiTok ones.

Names and shapes as their code makes them: `modeling/titok.py`, `modeling/modules/blocks.py`,
`modeling/quantizer/quantizer.py` and `modeling/modules/maskgit_vqgan.py` of
https://github.com/bytedance/1d-tokenizer (of the pixel decoder a few tensors stand for all).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def block_shapes(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """A `ResidualAttentionBlock`: PyTorch's own attention and an MLP four times as wide."""
    return {
        f"{prefix}.ln_1.weight": (width,),
        f"{prefix}.ln_1.bias": (width,),
        f"{prefix}.attn.in_proj_weight": (3 * width, width),
        f"{prefix}.attn.in_proj_bias": (3 * width,),
        f"{prefix}.attn.out_proj.weight": (width, width),
        f"{prefix}.attn.out_proj.bias": (width,),
        f"{prefix}.ln_2.weight": (width,),
        f"{prefix}.ln_2.bias": (width,),
        f"{prefix}.mlp.c_fc.weight": (4 * width, width),
        f"{prefix}.mlp.c_fc.bias": (4 * width,),
        f"{prefix}.mlp.c_proj.weight": (width, 4 * width),
        f"{prefix}.mlp.c_proj.bias": (width,),
    }


def public_shapes(
    width: int = 512,
    depth: int = 8,
    tokens: int = 128,
    codes: int = 4096,
    legacy: bool = True,
    token_size: int = 12,
) -> dict[str, tuple[int, ...]]:
    """The tensors of a tokenizer for 256x256 pixels; the defaults are those of TiTok-S-128."""
    shapes: dict[str, tuple[int, ...]] = {
        "latent_tokens": (tokens, width),
        "encoder.patch_embed.weight": (width, 3, 16, 16),
        "encoder.patch_embed.bias": (width,),
        "encoder.conv_out.weight": (token_size, width, 1, 1),
        "encoder.conv_out.bias": (token_size,),
        "decoder.decoder_embed.weight": (width, token_size),
        "decoder.decoder_embed.bias": (width,),
        "decoder.mask_token": (1, 1, width),
        "quantize.embedding.weight": (codes, token_size),
    }
    for half in ("encoder", "decoder"):
        shapes[f"{half}.class_embedding"] = (1, width)
        shapes[f"{half}.positional_embedding"] = (257, width)
        shapes[f"{half}.latent_token_positional_embedding"] = (tokens, width)
        for norm in ("ln_pre", "ln_post"):
            shapes |= {f"{half}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for number in range(depth):
            shapes |= block_shapes(f"{half}.transformer.{number}", width)
    if legacy:
        shapes |= {
            "decoder.ffn.0.weight": (2 * width, width, 1, 1), "decoder.ffn.0.bias": (2 * width,),
            "decoder.ffn.2.weight": (1024, 2 * width, 1, 1), "decoder.ffn.2.bias": (1024,),
            "pixel_quantize.embedding.weight": (1024, 256),
            "pixel_decoder.conv_in.weight": (512, 256, 3, 3),
        }  # fmt: skip
    else:
        shapes |= {
            "decoder.ffn.0.weight": (768, width, 1, 1), "decoder.ffn.0.bias": (768,),
            "decoder.conv_out.weight": (3, 3, 3, 3), "decoder.conv_out.bias": (3,),
        }  # fmt: skip
    return shapes


def header_of(shapes: dict[str, tuple[int, ...]], kind: str = "F32") -> tuple[dict[str, Any], int]:
    """The header of tensors one after the other, and the bytes they take."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * SIZES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    return header, end


def write_safetensors(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_public(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Write random float32 tensors; return them."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.1, shape).astype("<f4") for name, shape in shapes.items()}
    header, _ = header_of(shapes)
    write_safetensors(path, header, b"".join(x.tobytes() for x in tensors.values()))
    return tensors


def write_sparse(path: Path, shapes: dict[str, tuple[int, ...]], kind: str = "BF16") -> None:
    """Write zeros, which take no room on the disk."""
    header, size = header_of(shapes, kind)
    write_safetensors(path, header, b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)

"""Public checkpoints give what fits, and say what was left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from public_titok_samples import (  # noqa: E402
    block_shapes,
    public_shapes,
    write_public,
    write_sparse,
)

from edge_codec.errors import SourceError, SpecError  # noqa: E402
from edge_codec.nn.titok import TiTok, TiTokConfig  # noqa: E402
from edge_codec.nn.titok_public import PublicWeights, load_public  # noqa: E402

WIDTH = 64


def network(**changes: int) -> TiTok:
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "heads": 1, "encoder_depth": 2, "decoder_depth": 2, "fine": 20,
             "middle": 72, "codes": 128}  # fmt: skip
    return TiTok(TiTokConfig(**{**sizes, **changes})).eval()


def small_shapes(**changes: int) -> dict[str, tuple[int, ...]]:
    return public_shapes(**{"width": WIDTH, "depth": 2, "tokens": 32, "codes": 128, **changes})


def load(model: TiTok, path: Path, **changes: int) -> tuple[PublicWeights, dict[str, np.ndarray]]:
    tensors = write_public(path / "model.safetensors", small_shapes(**changes))
    return load_public(model, path / "model.safetensors"), tensors


@torch.no_grad()
def test_blocks_compute_what_theirs_do(tmp_path: Path) -> None:
    model = network()
    found, tensors = load(model, tmp_path)
    given = {name: torch.from_numpy(value) for name, value in tensors.items()}
    tokens = torch.randn(2, 5, WIDTH)
    for half in ("encoder", "decoder"):
        prefix = f"{half}.transformer.1"
        attention = torch.nn.MultiheadAttention(WIDTH, 1, batch_first=True)
        attention.in_proj_weight.copy_(given[f"{prefix}.attn.in_proj_weight"])
        attention.in_proj_bias.copy_(given[f"{prefix}.attn.in_proj_bias"])
        attention.out_proj.weight.copy_(given[f"{prefix}.attn.out_proj.weight"])
        attention.out_proj.bias.copy_(given[f"{prefix}.attn.out_proj.bias"])

        def normed(x: torch.Tensor, name: str, prefix: str = prefix) -> torch.Tensor:
            scale, offset = given[f"{prefix}.{name}.weight"], given[f"{prefix}.{name}.bias"]
            return F.layer_norm(x, (WIDTH,), scale, offset)

        def linear(x: torch.Tensor, name: str, prefix: str = prefix) -> torch.Tensor:
            return F.linear(x, given[f"{prefix}.{name}.weight"], given[f"{prefix}.{name}.bias"])

        y = normed(tokens, "ln_1")
        y = tokens + attention(y, y, y, need_weights=False)[0]
        expected = y + linear(F.gelu(linear(normed(y, "ln_2"), "mlp.c_fc")), "mlp.c_proj")
        block = getattr(model, half).blocks[1]
        assert torch.allclose(block(tokens), expected, atol=1e-5)
    assert set(block_shapes("encoder.transformer.0", WIDTH)) <= set(found.taken)


@torch.no_grad()
def test_patches_of_gray_frames_are_embedded_as_theirs(tmp_path: Path) -> None:
    model = network()
    _, tensors = load(model, tmp_path)
    frame = torch.rand(2, 1, 128, 128) * 1.33
    planes = torch.cat([frame, torch.rand(2, 3, 128, 128)], 1)
    weight = torch.from_numpy(tensors["encoder.patch_embed.weight"])
    bias = torch.from_numpy(tensors["encoder.patch_embed.bias"])
    expected = F.conv2d(frame.expand(-1, 3, -1, -1), weight, bias, stride=16)
    assert torch.allclose(model.encoder.pyramid(planes)[2], expected, atol=2e-4)


@torch.no_grad()
def test_everything_else_that_fits_is_taken(tmp_path: Path) -> None:
    model = network()
    found, tensors = load(model, tmp_path, legacy=False)
    given = {name: torch.from_numpy(value) for name, value in tensors.items()}
    encoder, decoder = model.encoder, model.decoder
    positions = given["encoder.latent_token_positional_embedding"]
    assert torch.allclose(encoder.latents[0], given["latent_tokens"] + positions)
    assert torch.equal(decoder.latents[0], given["decoder.latent_token_positional_embedding"])
    assert torch.equal(encoder.head.weight, given["encoder.conv_out.weight"][:, :, 0, 0])
    assert torch.equal(decoder.embed.weight, given["decoder.decoder_embed.weight"])
    assert torch.equal(encoder.norm.weight, given["encoder.ln_post.weight"])
    assert torch.equal(decoder.norm.bias, given["decoder.ln_post.bias"])
    expected = F.normalize(given["quantize.embedding.weight"], dim=1)
    assert torch.allclose(model.codebook.vectors, expected)
    assert torch.equal(model.codebook.sums, model.codebook.vectors)
    square = given["decoder.positional_embedding"][1:].T.reshape(1, WIDTH, 16, 16)
    square = F.interpolate(square, (8, 8), mode="bicubic", align_corners=False)
    places = square.flatten(2).transpose(1, 2) + given["decoder.mask_token"]
    assert torch.allclose(decoder.places, places, atol=1e-6)
    assert sorted([*found.taken, *found.left]) == sorted(tensors)
    left = {name.partition(".")[2].partition(".")[0] for name in found.left}
    assert left == {"class_embedding", "ln_pre", "ffn", "conv_out"}
    assert "no counterpart" in found.summary()


def test_the_older_kind_keeps_its_head(tmp_path: Path) -> None:
    model = network()
    before = model.encoder.head.weight.clone()
    found, _ = load(model, tmp_path)
    assert torch.equal(model.encoder.head.weight, before)
    assert "order of latents" in found.left["encoder.conv_out.weight"]


def test_other_sizes_are_left_with_the_reason(tmp_path: Path) -> None:
    model = network(width=32, heads=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, tensors = load(model, tmp_path, tokens=16)
    assert sorted(found.taken) == ["quantize.embedding.weight"]
    assert len(found.left) == len(tensors) - 1
    assert "(128, 32)" in found.left["encoder.transformer.0.mlp.c_fc.weight"]
    for name, value in model.state_dict().items():
        assert name.startswith("codebook.") or torch.equal(value, before[name]), name


def test_depths_may_differ(tmp_path: Path) -> None:
    model = network(encoder_depth=1, decoder_depth=3)
    untouched = model.decoder.blocks[2].widen.weight.clone()
    found, _ = load(model, tmp_path)
    assert "encoder.transformer.1.mlp.c_fc.weight" in found.left
    assert "decoder.transformer.1.mlp.c_fc.weight" in found.taken
    assert torch.equal(model.decoder.blocks[2].widen.weight, untouched)


def test_all_blocks_of_the_small_public_model_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_sparse(path, public_shapes())
    model = network(width=512, heads=8, encoder_depth=8, decoder_depth=8, codes=4096)
    found = load_public(model, path)
    for half in ("encoder", "decoder"):
        for number in range(8):
            assert set(block_shapes(f"{half}.transformer.{number}", 512)) <= set(found.taken)
    assert not model.encoder.blocks[7].attention.key.weight.any()


def test_heads_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="2 heads"):
        load(network(heads=2), tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_public(path, {"weight": (3, 4)})
    with pytest.raises(SourceError, match="tokenizer of TiTok"):
        load_public(network(), path)

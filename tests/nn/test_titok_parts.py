"""Parts of the tokenizer against plain definitions."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812

from edge_codec.nn.titok_parts import (  # noqa: E402
    MASKED,
    STAGES,
    Attention,
    Block,
    Fusion,
    Painter,
    Pyramid,
    ShortcutIn,
    ShortcutOut,
    lowest_cosines,
    stage_of,
    warped,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@torch.no_grad()
def test_attention_is_that_of_pytorch() -> None:
    ours, theirs = Attention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    parts = [ours.query, ours.key, ours.value]
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.weight.copy_(ours.output.weight)
    theirs.out_proj.bias.copy_(ours.output.bias)
    queries, keys = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    assert torch.allclose(ours(queries, keys), theirs(queries, keys, keys)[0], atol=1e-6)
    bias = torch.tensor([0.0, 0.0, MASKED, MASKED, 0.0])
    kept = keys[:, [0, 1, 4]]
    assert torch.allclose(ours(queries, keys, bias), theirs(queries, kept, kept)[0], atol=1e-6)


@torch.no_grad()
def test_block_is_a_transformer_layer_with_normalization_first() -> None:
    ours = Block(8, 2)
    for parameter in ours.parameters():  # those that start as 0 must not hide anything
        parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    attention = ours.attention
    parts = [attention.query, attention.key, attention.value]
    theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.self_attn.out_proj.load_state_dict(attention.output.state_dict())
    theirs.norm1.load_state_dict(ours.norm_attention.state_dict())
    theirs.norm2.load_state_dict(ours.norm_mlp.state_dict())
    theirs.linear1.load_state_dict(ours.widen.state_dict())
    theirs.linear2.load_state_dict(ours.narrow.state_dict())
    tokens = torch.randn(2, 4, 8)
    assert torch.allclose(ours(tokens), theirs(tokens), atol=1e-5)


@pytest.mark.parametrize("kind", ["attention", "lstm"])
@torch.no_grad()
def test_fusion_begins_by_adding_nothing_but_a_constant(kind: str) -> None:
    fusion = Fusion(8, 2, 4, 3, 2, kind)
    tokens = torch.randn(2, 5, 8)
    added = fusion(tokens, torch.randn(2, 2, 4, 3), torch.ones(2, 2)) - tokens
    assert torch.allclose(added, fusion.attention.output.bias.expand_as(added), atol=1e-6)


@torch.no_grad()
def test_pyramid_has_three_scales_and_the_painter_begins_with_the_draft() -> None:
    pyramid, painter = Pyramid(4, 8, 8, 8), Painter(8, 8, 8)
    frame, draft = torch.rand(2, 2, 1, 32, 64)
    fine, middle, coarse = pyramid(frame.expand(-1, 4, -1, -1))
    assert fine.shape == (2, 8, 8, 16)
    assert middle.shape == (2, 8, 4, 8)
    assert coarse.shape == (2, 8, 2, 4)
    assert torch.allclose(painter(coarse, (fine, middle), frame, draft), draft, atol=1e-5)


def test_motion_fetches_pixels_from_where_it_says() -> None:
    frame = torch.rand(1, 1, 16, 24)
    motion = torch.zeros(1, 2, 2, 3)
    assert torch.allclose(warped(frame, motion), frame, atol=1e-5)
    motion[:, 0], motion[:, 1] = 2.0, -3.0
    moved = warped(frame, motion)
    assert torch.allclose(moved[..., 3:, :-2], frame[..., :-3, 2:], atol=1e-4)
    # Beyond the border its pixels go on.
    assert torch.allclose(moved[..., 0, :-2], frame[..., 0, 2:], atol=1e-4)


def test_the_lowest_cosines_are_orthonormal_and_begin_with_a_constant() -> None:
    images = lowest_cosines(32, 11)
    assert torch.allclose(images @ images.T, torch.eye(11), atol=1e-5)
    assert torch.allclose(images[0], images[0, :1].expand_as(images[0]), atol=1e-6)


@torch.no_grad()
def test_the_way_back_undoes_the_way_in_for_what_latents_can_say() -> None:
    into, back = ShortcutIn(128, 32, 12), ShortcutOut(128, 32, 12)
    latents = torch.randn(2, 32, 12)
    latents[..., -1] = 1.0
    age = torch.tensor([0, 5])
    frame = back(latents, age)
    assert frame.shape == (2, 1, 128, 128)
    assert torch.allclose(into(frame, age), latents, atol=1e-4)
    # A latent belongs to one stretch of pixels.
    other = latents.clone()
    other[:, 1] += F.pad(torch.ones(2, 11), (0, 1))
    changed = (back(other, age) - frame).abs() > 1e-6
    assert changed[:, :, :16, 32:64].any()
    changed[:, :, :16, 32:64] = False
    assert not changed.any()


def test_stages_take_turns_in_the_end() -> None:
    ages = torch.arange(STAGES + 6)
    stages = stage_of(ages).tolist()
    assert stages[:STAGES] == list(range(STAGES))
    assert stages[STAGES:] == [8, 9, 10, 11, 8, 9]

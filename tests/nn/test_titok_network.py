"""The tokenizer keeps its promises: shapes, what each half may know, and what is left unknown."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from titok_training_samples import tiny_network  # noqa: E402

from edge_codec.nn.titok import (  # noqa: E402
    GRAY,
    SIZES,
    Conditions,
    Past,
    TiTok,
    nothing_before,
)


def told(count: int, **changes: torch.Tensor) -> Conditions:
    nothing = Conditions(
        torch.ones(count, 1, 128, 128), torch.zeros(count, 1, 8, 8), torch.zeros(count, 16),
        torch.zeros(count, 12),
    )  # fmt: skip
    return dataclasses.replace(nothing, **changes)


def make(fusion: str = "attention") -> TiTok:
    torch.manual_seed(0)
    model = TiTok(tiny_network(fusion=fusion)).eval()
    for parameter in model.parameters():  # those that start as 0 must not hide anything
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("fusion", ["attention", "lstm", "none"])
@torch.no_grad()
def test_a_frame_becomes_tokens_and_a_frame(fusion: str) -> None:
    model = make(fusion)
    past = nothing_before(model.config, 2)
    coded = model(torch.rand(2, 1, 128, 128), past, told(2))
    assert coded.frame.shape == (2, 1, 128, 128)
    assert coded.tokens is not None
    assert coded.tokens.shape == (2, 32)
    assert torch.allclose(coded.latents.norm(dim=2), torch.ones(2, 32), atol=1e-5)
    assert torch.allclose(coded.codes, model.codebook.lookup(coded.tokens), atol=1e-6)
    later = past.after(coded.frame, coded.codes)
    assert later.known.tolist() == [[1, 0]] * 2
    assert later.age.tolist() == [1, 1]
    again = model(torch.rand(2, 1, 128, 128), later, told(2), cosine=0.9)
    assert again.tokens is None
    assert float(again.commitment) == 0


@torch.no_grad()
def test_frames_of_a_batch_do_not_see_each_other() -> None:
    model = make()
    frames = torch.rand(2, 1, 128, 128)
    past = nothing_before(model.config, 2).after(torch.rand(2, 1, 128, 128), torch.rand(2, 32, 12))
    both = model(frames, past, told(2))
    first = Past(past.frame[:1], past.codes[:1], past.known[:1], past.age[:1])
    alone = model(frames[:1], first, told(1))
    assert torch.allclose(both.frame[:1], alone.frame, atol=1e-5)


@torch.no_grad()
def test_the_encoder_sees_what_the_decoder_must_not() -> None:
    model = make()
    past = nothing_before(model.config, 1)
    plain = told(1)
    guided = told(1, heart=torch.rand(1, 1, 8, 8), anatomy=torch.rand(1, 16))
    frame, codes = torch.rand(1, 1, 128, 128), torch.rand(1, 32, 12)
    assert not torch.equal(model.encoder(frame, past, plain), model.encoder(frame, past, guided))
    assert torch.equal(model.decoder(codes, past, plain), model.decoder(codes, past, guided))
    facts = told(1, clinical=torch.rand(1, 12))
    assert not torch.equal(model.decoder(codes, past, plain), model.decoder(codes, past, facts))


@pytest.mark.parametrize("fusion", ["attention", "lstm"])
@torch.no_grad()
def test_codes_of_frames_that_are_not_known_change_nothing(fusion: str) -> None:
    model = make(fusion)
    past = nothing_before(model.config, 1)
    after = past.after(torch.rand(1, 1, 128, 128), torch.rand(1, 32, 12))
    codes = torch.rand(1, 32, 12)
    other = dataclasses.replace(after, codes=after.codes.clone())
    other.codes[:, 1] = torch.rand(1, 32, 12)
    assert torch.allclose(
        model.decoder(codes, after, told(1)), model.decoder(codes, other, told(1)), atol=1e-6
    )
    other.codes[:, 0] = torch.rand(1, 32, 12)
    assert not torch.allclose(
        model.decoder(codes, after, told(1)), model.decoder(codes, other, told(1)), atol=1e-6
    )


@torch.no_grad()
def test_what_is_remembered_moves_on() -> None:
    config = tiny_network()
    past = nothing_before(config, 1)
    assert float(past.frame.unique()) == pytest.approx(GRAY)
    for age in range(1, 4):
        past = past.after(torch.full((1, 1, 128, 128), float(age)), torch.full((1, 32, 12), age))
    assert past.codes[0, :, 0, 0].tolist() == [3, 2]
    assert past.known.tolist() == [[1, 1]]
    assert past.age.tolist() == [3]


def test_sizes_can_be_built() -> None:
    for config in SIZES.values():
        assert config.width % config.heads == 0
        assert config.grid**2 % config.tokens == 0

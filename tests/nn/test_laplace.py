"""Costs of symbols are those of a distribution, and rounding minds them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.laplace import (  # noqa: E402
    LARGEST_LOG_SCALE,
    SMALLEST_LOG_SCALE,
    choose_symbols,
    clip_log_scale,
    code,
    code_noisily,
    laplace_bits,
    noisy_bits,
    table_scale,
)


@pytest.mark.parametrize("scale", [0.04, 0.3, 1.0, 20.0])
def test_probabilities_sum_to_one(scale: float) -> None:
    symbols = torch.arange(-2000.0, 2001.0, dtype=torch.float64)
    bits = laplace_bits(symbols, torch.full_like(symbols, scale))
    assert float(torch.exp2(-bits).sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("scale", [0.05, 0.7, 8.0])
def test_cost_with_noise_is_the_same_at_integers_and_rises_between(scale: float) -> None:
    symbols = torch.arange(0.0, 6.0)
    scales = torch.full_like(symbols, scale)
    torch.testing.assert_close(noisy_bits(symbols, scales), laplace_bits(symbols, scales))
    between = torch.linspace(0.0, 3.0, 301)
    bits = noisy_bits(between, torch.full_like(between, scale))
    assert bool((bits.diff() >= -1e-6).all())
    assert float(bits.diff().max()) < 1.1 * 0.01 / scale / 0.693


def test_mean_feels_the_error_of_zero_symbols_and_the_value_that_of_others() -> None:
    value = torch.tensor([[[[0.0, 3.4]]]], requires_grad=True)
    mean = torch.full((1, 1, 1, 2), 0.3, requires_grad=True)
    coded = code(value, mean, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 2), torch.tensor(1e6))
    assert coded.symbols.tolist() == [[[[0.0, 3.0]]]]
    coded.latents.square().sum().backward()
    assert value.grad is not None
    assert mean.grad is not None
    assert mean.grad.flatten().tolist() == pytest.approx([0.6, 0.0])  # decoded: the mean, 3.3
    assert value.grad.flatten().tolist() == pytest.approx([0.0, 6.6])


def test_noise_lets_weak_latents_learn() -> None:
    value = torch.full((1, 1, 4, 4), 0.3, requires_grad=True)
    zeros = torch.zeros(1, 1, 4, 4)
    coded = code_noisily(value, zeros, torch.ones(1, 1, 1, 1), zeros - 1.0)
    coded.bits.sum().backward()
    assert value.grad is not None
    assert bool((value.grad != 0).all())
    assert float((coded.symbols - value).detach().abs().max()) <= 0.5


def test_costs_stay_finite_at_the_ends_of_the_table() -> None:
    for log_scale in (SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE):
        scale = torch.tensor([2.0**log_scale] * 3, requires_grad=True)
        bits = laplace_bits(torch.tensor([0.0, 1.0, 300.0]), scale)
        bits.sum().backward()
        assert bool(torch.isfinite(bits).all())
        assert scale.grad is not None
        assert bool(torch.isfinite(scale.grad).all())
    assert float(laplace_bits(torch.zeros(1), torch.tensor([2.0**SMALLEST_LOG_SCALE]))) < 1e-4


def test_rounding_is_nearly_the_best_choice() -> None:
    torch.manual_seed(0)
    weight = torch.tensor(8.66)
    scale = torch.exp2(torch.empty(4000).uniform_(-4.0, 2.0))
    value = (2 * scale + 0.5) * torch.randn(4000)

    def cost(symbols: torch.Tensor) -> torch.Tensor:
        return laplace_bits(symbols, scale) + weight * (value - symbols).square()

    chosen = choose_symbols(value, scale, weight)
    assert torch.equal(chosen, chosen.round())
    candidates = torch.stack([(value + shift).round() for shift in range(-2, 3)])
    best = torch.stack([cost(one) for one in (*candidates, torch.zeros_like(value))]).min(0).values
    plain = float(cost(value.round()).sum())
    assert float(cost(chosen).sum()) <= float(best.sum()) * 1.005
    assert float(cost(chosen).sum()) < 0.95 * plain


def test_high_weight_rounds_to_the_nearest() -> None:
    value = torch.tensor([-1.6, -0.51, 0.49, 0.51, 7.4])
    symbols = choose_symbols(value, torch.full_like(value, 0.1), torch.tensor(1e6))
    assert symbols.tolist() == [-2.0, -1.0, 0.0, 1.0, 7.0]


def test_scales_are_those_of_the_table() -> None:
    log_scale = torch.linspace(SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE, 5000)
    scales = table_scale(log_scale)
    assert len(scales.unique()) == 64
    assert float((torch.log2(scales) - log_scale).abs().max()) < 0.1


def test_clipped_scales_learn_to_come_back_and_no_further_out() -> None:
    x = torch.tensor([-9.0, -9.0, 0.0, 9.0, 9.0], requires_grad=True)
    clip_log_scale(x).backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]


def test_latents_come_back_from_symbols_and_gradients_pass() -> None:
    torch.manual_seed(0)
    value = torch.randn(1, 2, 3, 3, requires_grad=True)
    mean = torch.full((1, 2, 3, 3), 0.2, requires_grad=True)
    step = torch.full((1, 2, 1, 1), 0.25, requires_grad=True)
    log_scale = torch.zeros(1, 2, 3, 3, requires_grad=True)
    coded = code(value, mean, step, log_scale, torch.tensor(1e6))
    torch.testing.assert_close(coded.latents.detach(), coded.symbols.detach() * 0.25 + 0.2)
    assert float((coded.latents - value).detach().abs().max()) <= 0.125 + 1e-6
    (coded.latents.sum() + coded.bits.sum()).backward()
    for tensor in (value, mean, step, log_scale):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().sum()) > 0

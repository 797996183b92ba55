"""Tables over the quality index, and gates that can close and open again."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.quality import (  # noqa: E402
    ANCHORS,
    QualityTable,
    best_step,
    hard_gate,
    trade_off,
)


def test_trade_off_doubles_every_six_indices() -> None:
    values = trade_off(torch.tensor([0.0, 6.0, 12.0]))
    assert values.tolist() == pytest.approx([16.0, 32.0, 64.0])


def test_best_step_has_the_slope_of_the_trade_off() -> None:
    step = best_step(30.0)
    # R = -log2(D) / 2: the derivative of the rate by D at D = step^2 / 12.
    slope = 1 / (2 * math.log(2) * step**2 / 12)
    assert slope == pytest.approx(float(trade_off(torch.tensor(30.0))))


def test_table_is_interpolated_between_its_anchors() -> None:
    table = QualityTable(torch.arange(float(ANCHORS))[:, None].repeat(1, 3))
    values = table(torch.tensor([0.0, 3.5, 7.0, 63.0]))
    assert values.shape == (4, 3, 1, 1)
    assert values[:, 0, 0, 0].tolist() == pytest.approx([0.0, 0.5, 1.0, ANCHORS - 1.0])


def test_gate_closes_and_learns_to_open() -> None:
    x = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    y = hard_gate(x)
    assert y.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    y.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert x.grad is not None
    # Descent by 1 would push the first further down and the last further up: both stay.
    assert x.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]

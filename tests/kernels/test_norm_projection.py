"""LayerNorm fused with the linear layer behind it, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels.norm_projection import fold_norm, norm_projection  # noqa: E402
from edge_codec.kernels.reference import attention as reference  # noqa: E402

# Rows, width, outputs: single ones, a row and an output more than blocks, a width that is no
# multiple of a block.
SHAPES = [(1, 16, 1), (65, 100, 70), (7, 512, 65), (2, 192, 64)]


def random_layer(width: int, outputs: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(width)
    return {
        "weight": torch.randn((outputs, width), generator=generator) / width**0.5,
        "bias": torch.randn(outputs, generator=generator),
        "gamma": 1 + 0.2 * torch.randn(width, generator=generator),
        "beta": torch.randn(width, generator=generator),
    }


def random_rows(rows: int, width: int) -> Any:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn((rows, width), generator=generator)


def check(found: Any, x: Any, layer: Any, **more: Any) -> None:
    host = x.numpy(), layer.weight.numpy(), layer.bias.numpy()
    reference.check_bound(found.numpy(), reference.norm_projection(*host, **more))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_result_is_within_rounding(shape: tuple[int, int, int]) -> None:
    rows, width, outputs = shape
    layer = fold_norm(**random_layer(width, outputs))
    x = (random_rows(rows, width) * 3 + 1).half()
    out = torch.full((rows, outputs), float("nan")).half()
    assert norm_projection(x, layer, out=out) is out
    check(out, x, layer)
    assert torch.equal(norm_projection(x, layer), out)


def test_folding_is_layer_norm_and_linear() -> None:
    parts = random_layer(64, 40)
    layer, x = fold_norm(**parts), random_rows(9, 64).half()
    exact = {name: part.double() for name, part in parts.items()}
    normal = torch.nn.functional.layer_norm(x.double(), (64,), exact["gamma"], exact["beta"])
    expected = torch.nn.functional.linear(normal, exact["weight"], exact["bias"])
    found, _ = reference.norm_projection(x.numpy(), layer.weight.numpy(), layer.bias.numpy())
    # The folded weights are rounded to float16.
    terms = ((normal - exact["beta"]).abs() @ exact["weight"].abs().T).numpy()
    assert (np.abs(found - expected.numpy()) <= reference.HALF * terms + 1e-6).all()
    without = fold_norm(**{**parts, "bias": None})
    assert torch.allclose(without.bias + parts["bias"], layer.bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ratio", [1, 10, 100])
def test_a_large_mean_costs_less_than_the_results_rounding(ratio: int) -> None:
    layer = fold_norm(**random_layer(512, 64))
    x = ((random_rows(6, 512) + ratio) / 4).half()
    found = norm_projection(x, layer).double().numpy()
    expected, _ = reference.norm_projection(x.numpy(), layer.weight.numpy(), layer.bias.numpy())
    assert (np.abs(found - expected) <= reference.HALF * (np.abs(expected) + 1)).all()


def test_a_row_of_zeros_gives_the_bias() -> None:
    layer = fold_norm(**random_layer(48, 20))
    found = norm_projection(torch.zeros((3, 48)).half(), layer)
    assert torch.equal(found, layer.bias.half().expand(3, 20))


def test_an_outlier_in_front_does_not_harm_the_variance() -> None:
    layer = fold_norm(**random_layer(512, 64))
    x = random_rows(4, 512)
    x[:, 0] = torch.tensor([1000.0, -1000.0, 60_000.0, 30.0])
    check(norm_projection(x.half(), layer), x.half(), layer)


def test_eps_and_rows_that_lie_apart() -> None:
    layer = fold_norm(**random_layer(32, 10))
    wide = (random_rows(6, 96) * 1e-2).half().reshape(2, 3, 96)
    x = wide[..., 32:64]
    found = norm_projection(x, layer, eps=1e-3)
    assert found.shape == (2, 3, 10)
    check(found, x, layer, eps=1e-3)
    assert not torch.equal(norm_projection(x, layer), found)


def test_what_does_not_fit_is_refused() -> None:
    parts = random_layer(32, 10)
    layer, x = fold_norm(**parts), random_rows(4, 32).half()
    refused: list[tuple[str, Any, dict[str, Any]]] = [
        ("x", x.float(), {}),
        ("x", x[:, :31], {}),
        ("x", x.T.contiguous().T, {}),
        ("rows", x[:0], {}),
        ("eps", x, {"eps": 0.0}),
        ("out", x, {"out": torch.empty((4, 9)).half()}),
        ("on meta", x.to("meta"), {}),
    ]
    for name, rows, more in refused:
        with pytest.raises(EngineError, match=name):
            norm_projection(rows, layer, **more)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("gamma", {"gamma": parts["gamma"][1:]}),
        ("beta", {"beta": parts["beta"][1:]}),
        ("bias", {"bias": parts["bias"][1:]}),
        ("width", {name: parts[name][..., :8] for name in ("weight", "gamma", "beta")}),
        ("finite", {"gamma": parts["gamma"] * 1e6}),
    ]
    for name, part in wrong:
        with pytest.raises(EngineError, match=name):
            fold_norm(**{**parts, **part})

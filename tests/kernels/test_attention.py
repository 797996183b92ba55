"""Attention within the error that rounding explains, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.bench.kernels import attention as bench  # noqa: E402
from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels.attention import attention, specs  # noqa: E402
from edge_codec.kernels.reference import attention as reference  # noqa: E402

# Batch, queries, keys, heads, dimension: single ones, primes, dimensions that are no power of two,
# a key more than blocks, nearly the longest sequence.
SHAPES = [(1, 1, 1, 1, 32), (2, 67, 129, 1, 48), (1, 5, 7, 3, 33), (1, 2, 65, 1, 128)]
LONG = (1, 3, 1023, 1, 32)


def random(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).half()


def random_qkv(batch: int, n_queries: int, n_keys: int, heads: int, dim: int) -> tuple[Any, ...]:
    width = heads * dim
    return (
        random(batch, n_queries, width),
        random(batch, n_keys, width, seed=1),
        random(batch, n_keys, width, seed=2),
    )


def check(out: Any, q: Any, k: Any, v: Any, heads: int, **more: Any) -> None:
    host = {name: part.numpy() if torch.is_tensor(part) else part for name, part in more.items()}
    reference.check_bound(
        out.numpy(), reference.attention(q.numpy(), k.numpy(), v.numpy(), heads, **host)
    )


@pytest.mark.parametrize("shape", [*SHAPES, LONG], ids=str)
def test_result_is_within_rounding(shape: tuple[int, ...]) -> None:
    q, k, v = random_qkv(*shape)
    out = torch.full_like(q, float("nan"))
    assert attention(q, k, v, shape[3], out=out) is out
    check(out, q, k, v, shape[3])
    again = attention(q, k, v, shape[3])
    assert torch.equal(again, out)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_mask_and_biases(shape: tuple[int, ...]) -> None:
    batch, _, n_keys, heads, dim = shape
    q, k, v = random_qkv(*shape)
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand((batch, n_keys), generator=generator) < 0.5
    mask[:, -1] = True
    fused = {"key_mask": mask, "q_bias": random(heads * dim, seed=3)}
    fused["v_bias"] = random(heads * dim, seed=4)
    out = attention(q, k, v, heads, **fused)
    check(out, q, k, v, heads, **fused)
    fused["key_mask"] = mask.to(torch.uint8) * 7
    assert torch.equal(attention(q, k, v, heads, **fused), out)


def test_reference_is_torchs_attention() -> None:
    q, k, v = random_qkv(2, 5, 9, 3, 32)
    mask = torch.arange(9)[None] < torch.tensor([[9], [4]])
    expected, _ = reference.attention(q.numpy(), k.numpy(), v.numpy(), 3, mask.numpy(), scale=0.3)
    apart = [part.double().unflatten(-1, (3, 32)).transpose(1, 2) for part in (q, k, v)]
    attend = torch.nn.functional.scaled_dot_product_attention
    other = attend(*apart, attn_mask=mask[:, None, None], scale=0.3).transpose(1, 2).flatten(2)
    assert np.allclose(expected, other.numpy(), rtol=0, atol=1e-12)


def test_a_bias_of_the_keys_changes_nothing() -> None:
    q, _, v = random_qkv(1, 4, 6, 1, 32)
    k = torch.randint(-8, 8, (1, 6, 32)).half()  # so that a sum is exact
    bias = torch.randint(-8, 8, (32,)).half()
    one, _ = reference.attention(q.numpy(), k.numpy(), v.numpy(), 1)
    other, _ = reference.attention(q.numpy(), (k + bias).numpy(), v.numpy(), 1)
    assert np.allclose(one, other, rtol=0, atol=1e-12)


def test_slices_of_a_packed_projection_are_taken_as_they_are() -> None:
    packed = random(2, 19, 3 * 64)
    q, k, v = packed.chunk(3, dim=-1)
    assert not q.is_contiguous()
    expected = attention(q.contiguous(), k.contiguous(), v.contiguous(), 2)
    assert torch.equal(attention(q, k, v, 2), expected)
    single = packed[:, :1, :64]
    assert torch.equal(attention(single, k, v, 2), attention(single.contiguous(), k, v, 2))


def test_no_key_that_counts_gives_zero() -> None:
    q, k, v = random_qkv(2, 3, 70, 1, 32)
    mask = torch.zeros((2, 70), dtype=torch.bool)
    mask[1, 69] = True
    out = attention(q, k, v, 1, key_mask=mask, v_bias=torch.ones(32).half())
    assert not out[0].any()
    # A single key's weight is 1.
    assert torch.equal(out[1], (v[1, 69].float() + 1).half().expand(3, 32))


def test_keys_that_do_not_count_have_no_influence() -> None:
    q, k, v = random_qkv(1, 4, 90, 1, 32)
    mask = torch.arange(90)[None] % 3 == 0
    out = attention(q, k, v, 1, key_mask=mask)
    k[:, 1::3], k[:, 2::3], v[:, 1::3] = float("nan"), 60_000, -60_000
    assert torch.equal(attention(q, k, v, 1, key_mask=mask), out)


def test_large_scores_do_not_overflow() -> None:
    q, k, v = random_qkv(1, 20, 70, 1, 64)
    q, k = q * 3000, k * 3000
    out = attention(q, k, v, 1)
    check(out, q, k, v, 1)  # that it lies between the values
    nearest = (q[0].double() @ k[0].double().T).argmax(dim=1)
    assert torch.equal(out[0], v[0, nearest])


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:All-NaN")
def test_nan_stays_with_its_query() -> None:
    q, k, v = random_qkv(1, 9, 20, 1, 32)
    expected = attention(q, k, v, 1)
    q[0, 4, 3] = float("nan")
    out = attention(q, k, v, 1)
    assert out[0, 4].isnan().all()
    rest = torch.arange(9) != 4
    assert torch.equal(out[0, rest], expected[0, rest])


def test_scale() -> None:
    q, k, v = random_qkv(1, 9, 20, 1, 32)
    check(attention(q, k, v, 1, scale=1.7), q, k, v, 1, scale=1.7)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EngineError, match="scale"):
            attention(q, k, v, 1, scale=bad)


def test_nothing_is_allocated_when_out_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = random_qkv(1, 3, 5, 1, 32)
    out = torch.empty_like(q)
    monkeypatch.setattr(torch, "empty", None)
    attention(q, k, v, 1, out=out)


def test_unfit_tensors_are_refused() -> None:
    q, k, v = random_qkv(2, 6, 8, 2, 32)
    many = torch.zeros((1, 1025, 32), dtype=torch.float16)
    refused: list[tuple[str, Any, Any, Any, int, dict[str, Any]]] = [
        ("q", q.float(), k, v, 2, {}),
        ("q", q[0], k, v, 2, {}),
        ("q", q.transpose(0, 1).contiguous().transpose(0, 1), k, v, 2, {}),
        ("k", q, k[:1], v, 2, {}),
        ("v", q, k, v[:, :7], 2, {}),
        ("v", q, k, v.transpose(1, 2).contiguous().transpose(1, 2), 2, {}),
        ("v", q, k, v.to("meta"), 2, {}),
        ("heads", q, k, v, 0, {}),
        ("heads", q, k, v, 5, {}),
        ("dimension", q, k, v, 4, {}),
        ("dimension", q.repeat(1, 1, 5), k.repeat(1, 1, 5), v.repeat(1, 1, 5), 2, {}),
        ("batch", q[:0], k[:0], v[:0], 2, {}),
        ("keys", q, k[:, :0], v[:, :0], 2, {}),
        ("queries", many, many, many, 1, {}),
        ("key_mask", q, k, v, 2, {"key_mask": torch.ones((2, 7), dtype=torch.bool)}),
        ("key_mask", q, k, v, 2, {"key_mask": torch.ones((2, 8))}),
        ("q_bias", q, k, v, 2, {"q_bias": torch.zeros(64)}),
        ("v_bias", q, k, v, 2, {"v_bias": torch.zeros(32).half()}),
        ("out", q, k, v, 2, {"out": torch.empty((2, 6, 64))}),
        ("GPU", q.to("meta"), k.to("meta"), v.to("meta"), 2, {}),
    ]
    for name, queries, keys, values, heads, more in refused:
        with pytest.raises(EngineError, match=name):
            attention(queries, keys, values, heads, **more)


def test_reference_refuses_errors() -> None:
    bounded = np.array([1.0, 2.0]), np.array([0.1, 0.1])
    assert reference.check_bound(np.array([1.05, 2.0]), bounded) == pytest.approx(0.5)
    for wrong in ([1.2, 2.0], [np.nan, 2.0], [1.0, np.inf]):
        with pytest.raises(EngineError, match="rounding explains"):
            reference.check_bound(np.array(wrong), bounded)


def test_bench_cases_agree_and_detect_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    cases = list(bench.cases(torch.device("cpu"), small=True))
    for case in cases:
        assert "%" in case.check()
    assert cases[0].operations == 4 * 2 * 70 * 70 * 32
    assert cases[0].bytes_moved == 4 * 70 * 64 * 2
    for name in ("attention", "window_attention", "norm_projection"):
        monkeypatch.setattr(bench, name, lambda *_, **__: None)
    for case in cases:
        with pytest.raises(EngineError):
            case.check()


def test_bench_baselines_compute_the_same() -> None:
    torch.manual_seed(1)
    for case in bench.cases(torch.device("cpu"), small=True):
        out = case.run()
        for name, baseline in case.baselines.items():
            other = baseline()
            if name.startswith("unfold"):  # counts zeros beyond the border
                continue
            rows = other.transpose(1, 2).reshape(out.shape)
            # Torch rounds the normalized input, the weights and the sum to float16 as well.
            assert torch.allclose(rows.float(), out.float(), rtol=0, atol=1e-2), name


def test_ahead_of_time_names_are_unique() -> None:
    names = [spec.name for spec in specs(87)]
    assert len(set(names)) == len(names) == 4

"""Attention to windows of another map, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels.reference import attention as reference  # noqa: E402
from edge_codec.kernels.window_attention import window_attention  # noqa: E402

# Window, halo, rows, columns, dimension: maps smaller than a window, one position more than
# windows, halos beyond all borders, a key block more than the keys of a window.
SHAPES = [
    (4, 0, 4, 4, 32),
    (4, 1, 9, 7, 33),
    (8, 4, 9, 3, 32),
    (8, 16, 5, 6, 64),
    (16, 0, 3, 15, 32),
]


def random_maps(rows: int, columns: int, width: int, batch: int = 1) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(rows)
    shape = (batch, rows, columns, width)
    return tuple(torch.randn(shape, generator=generator).half() for _ in range(3))


def check(out: Any, maps: tuple[Any, ...], heads: int, window: int, halo: int) -> None:
    host = (part.numpy() for part in maps)
    reference.check_bound(
        out.numpy(), reference.window_attention(*host, heads=heads, window=window, halo=halo)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_result_is_within_rounding(shape: tuple[int, ...]) -> None:
    window, halo, rows, columns, dim = shape
    maps = random_maps(rows, columns, dim)
    out = torch.full_like(maps[0], float("nan"))
    assert window_attention(*maps, 1, window=window, halo=halo, out=out) is out
    check(out, maps, 1, window, halo)
    assert torch.equal(window_attention(*maps, 1, window=window, halo=halo), out)


def test_heads_batches_and_slices_of_a_packed_projection() -> None:
    packed = torch.cat(random_maps(5, 6, 64, batch=2), dim=-1)
    q, k, v = packed.chunk(3, dim=-1)
    out = window_attention(q, k, v, 2, window=4, halo=1)
    check(out, (q, k, v), 2, 4, 1)
    apart = (q.contiguous(), k.contiguous(), v.contiguous())
    assert torch.equal(window_attention(*apart, 2, window=4, halo=1), out)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_enlarged_window_counts_and_nothing_else() -> None:
    q, k, v = random_maps(8, 12, 32)
    inner = slice(None), slice(4, 8), slice(4, 8)
    expected = window_attention(q, k, v, 1, window=4, halo=1)[inner]
    # The window of rows and columns 4..7 sees rows 3..7, the map's last, and columns 3..8.
    outside = torch.ones((8, 12), dtype=torch.bool)
    outside[3:8, 3:9] = False
    k[:, outside], v[:, outside] = 100, float("nan")
    assert torch.equal(window_attention(q, k, v, 1, window=4, halo=1)[inner], expected)
    for row, column in ((3, 8), (7, 3)):
        spoiled = v.clone()
        spoiled[0, row, column] = float("nan")
        assert window_attention(q, k, spoiled, 1, window=4, halo=1)[inner].isnan().all()


def test_whole_map_is_plain_attention() -> None:
    maps = random_maps(4, 4, 32)
    out = window_attention(*maps, 1, window=4, halo=16)
    flat = (part.flatten(1, 2).numpy() for part in maps)
    reference.check_bound(out.flatten(1, 2).numpy(), reference.attention(*flat, heads=1))


def test_unfit_maps_are_refused() -> None:
    q, k, v = random_maps(4, 5, 64)
    refused: list[tuple[str, Any, Any, Any, dict[str, Any]]] = [
        ("q", q[0], k, v, {}),
        ("q", q.float(), k, v, {}),
        ("k", q, k[:, :3], v, {}),
        ("v", q, k, v.transpose(1, 2), {}),
        ("rows of v", q, k, v.transpose(1, 2).contiguous().transpose(1, 2), {}),
        ("heads", q, k, v, {"heads": 3}),
        ("dimension", q, k, v, {"heads": 4}),
        ("window", q, k, v, {"window": 6}),
        ("halo", q, k, v, {"halo": -1}),
        ("halo", q, k, v, {"halo": 17}),
        ("scale", q, k, v, {"scale": -1}),
        ("elements", q[:, :0], k[:, :0], v[:, :0], {}),
        ("out", q, k, v, {"out": torch.empty_like(q[:, 1:])}),
        ("GPU", q.to("meta"), k.to("meta"), v.to("meta"), {}),
    ]
    for name, queries, keys, values, more in refused:
        with pytest.raises(EngineError, match=name):
            window_attention(queries, keys, values, **{"heads": 2, **more})

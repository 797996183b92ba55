"""Codebook lookup: tokens of the nearest codes, of equal ones the first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from edge_codec.base.lookup import CodebookLookup  # noqa: E402
from edge_codec.bench.kernels import codebook_lookup as bench  # noqa: E402
from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels import codebook_lookup as module  # noqa: E402
from edge_codec.kernels.codebook_lookup import (  # noqa: E402
    code_norms,
    codebook_lookup,
    make_workspace,
)
from edge_codec.kernels.reference import codebook_lookup as reference  # noqa: E402

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "edge_codec" / "zoo" / "vqvae" / "codebook.npy"
# Latents, codes, dimension: single ones, fewer codes than a tile, a code more than tiles, primes,
# dimensions that are no power of two, more latents than a block.
SHAPES = [(1, 1, 1), (5, 3, 12), (37, 63, 2), (33, 64, 16), (40, 65, 33), (67, 197, 64)]
TYPES = [np.float16, np.int8]


def random_pair(shape: tuple[int, int, int], dtype: Any, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    n_latents, n_codes, dim = shape
    if dtype == np.int8:
        return (
            rng.integers(-128, 128, (n_latents, dim), np.int8),
            rng.integers(-128, 128, (n_codes, dim), np.int8),
        )
    return tuple(rng.normal(size=(n, dim)).astype(dtype) for n in (n_latents, n_codes))


def look_up(
    latents: NDArray[Any], codes: NDArray[Any], parts: int = 1, cosine: bool = False
) -> NDArray[np.int32]:
    """Tokens, found by `parts` programs per block, with the gathered codes checked."""
    x, c = torch.from_numpy(latents), torch.from_numpy(codes)
    workspace = None
    if parts > 1:
        workspace = torch.full((2, parts, len(x)), -1, dtype=torch.int32)
    out = torch.full((len(x),), -1, dtype=torch.int32)
    gathered = torch.full_like(x, -1)
    norms = None if cosine else code_norms(c)
    found = codebook_lookup(x, c, norms, out=out, gathered=gathered, workspace=workspace)
    assert found is out
    assert torch.equal(gathered.view(torch.uint8), c[out.long()].view(torch.uint8))
    return out.numpy()


def exact_tokens(latents: NDArray[np.int8], codes: NDArray[np.int8]) -> NDArray[np.int64]:
    """The definition, in 64-bit integers."""
    difference = latents[:, None].astype(np.int64) - codes[None].astype(np.int64)
    return np.square(difference).sum(axis=2).argmin(axis=1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES)
def test_tokens_are_those_of_the_nearest_codes(shape: tuple[int, int, int], dtype: Any) -> None:
    latents, codes = random_pair(shape, dtype)
    assert reference.count_ties(look_up(latents, codes), latents, codes) <= 1
    if dtype == np.int8:
        assert np.array_equal(look_up(latents, codes), exact_tokens(latents, codes))


@pytest.mark.parametrize("dtype", TYPES)
def test_more_latents_than_the_tables_few(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_LATENTS", 100)
    latents, codes = random_pair((131, 70, 8), dtype)
    assert reference.count_ties(look_up(latents, codes), latents, codes) <= 1


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", TYPES)
def test_lowest_index_wins_every_tie(dtype: Any, parts: int) -> None:
    # 27 different codes of 230: every latent has its nearest several times, in a group of four,
    # in a tile, in other tiles and in other parts. All sums are exact in float16 already.
    rng = np.random.default_rng(parts)
    codes = rng.integers(-1, 2, (230, 3)).astype(dtype)
    latents = rng.integers(-3, 4, (40, 3)).astype(dtype)
    expected = exact_tokens(latents.astype(np.int8), codes.astype(np.int8))
    assert np.array_equal(look_up(latents, codes, parts), expected)


@pytest.mark.parametrize("n_codes", [1, 2, 63, 64, 66, 130])
@pytest.mark.parametrize("dtype", TYPES)
def test_of_equal_codes_the_first_is_found(dtype: Any, n_codes: int) -> None:
    latents = random_pair((9, 1, 12), dtype)[0]
    codes = np.full((n_codes, 12), 3, dtype)
    assert not look_up(latents, codes).any()
    if n_codes > 64:
        assert not look_up(latents, codes, parts=2).any()


def test_lowest_index_wins_between_more_parts_than_a_block() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 2, (2200, 2)).astype(np.int8)
    latents = np.array([[1, 1], [0, -3]], np.int8)
    assert np.array_equal(look_up(latents, codes, parts=35), exact_tokens(latents, codes))


@pytest.mark.parametrize(("dtype", "parts"), [(np.float16, 3), (np.int8, 1)])
def test_every_code_can_be_found(dtype: Any, parts: int) -> None:
    codes = np.stack(np.divmod(np.arange(131), 12), axis=1).astype(dtype)
    latents = codes * dtype(4) if dtype == np.float16 else codes
    assert np.array_equal(look_up(latents, latents, parts), np.arange(131))


@pytest.mark.parametrize("dim", [31, 64, 128])
def test_extreme_integers_are_exact(dim: int) -> None:
    rng = np.random.default_rng(dim)
    latents = rng.choice(np.array([-128, 127], np.int8), (12, dim))
    codes = rng.choice(np.array([-128, 127], np.int8), (70, dim))
    codes[0], codes[69] = -128, 127
    latents[0], latents[1], latents[2] = -128, 127, 0
    assert np.array_equal(look_up(latents, codes), exact_tokens(latents, codes))
    # One step apart at the largest lengths.
    codes[5] = codes[69]
    codes[5, 0] = 126
    assert np.array_equal(look_up(latents, codes), exact_tokens(latents, codes))


def test_zoo_codebook_gives_the_codecs_tokens() -> None:
    codes = np.load(ZOO)
    rng = np.random.default_rng(1)
    near = codes[rng.integers(0, len(codes), 40)] + rng.integers(-9, 10, (40, 32))
    latents = np.concatenate([near.clip(-128, 127), rng.integers(-128, 128, (24, 32))])
    latents = latents.astype(np.int8)
    exhaustive = CodebookLookup(codes, clusters=64, probes=64)
    assert np.array_equal(look_up(latents, codes, parts=3), exhaustive.nearest(latents))


def test_large_magnitudes_do_not_overflow() -> None:
    latents, codes = random_pair((20, 80, 128), np.float16)
    latents, codes = latents.clip(-4, 4) * 15_000, codes.clip(-4, 4) * 15_000
    assert np.abs(latents).max() > 50_000
    assert reference.count_ties(look_up(latents, codes), latents, codes) <= 1


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")
def test_nan_and_infinity_stay_in_range() -> None:
    latents, codes = random_pair((12, 150, 16), np.float16)
    latents[3] = np.nan
    latents[4, 0] = np.inf
    latents[5, 0] = -np.inf
    x, c = torch.from_numpy(latents), torch.from_numpy(codes)
    norms = code_norms(c)
    spoiled = codes.copy()
    spoiled[:70:2, 1] = np.nan
    for parts in (1, 2):
        workspace = torch.empty((2, parts, 12), dtype=torch.int32) if parts > 1 else None
        tokens = codebook_lookup(x, c, norms, workspace=workspace).numpy()
        assert tokens[3] == 0
        assert np.array_equal(tokens, reference.codebook_lookup(latents, codes))
        tokens = codebook_lookup(x, torch.from_numpy(spoiled), norms, workspace=workspace).numpy()
        assert not np.isnan(spoiled[np.delete(tokens, 3)]).any()
        assert np.array_equal(tokens, reference.codebook_lookup(latents, spoiled))


def test_codes_of_unit_length_give_the_largest_cosine() -> None:
    latents, codes = random_pair((50, 140, 12), np.float16)
    codes = (codes / np.linalg.norm(codes.astype(float), axis=1, keepdims=True)).astype(np.float16)
    tokens = look_up(latents, codes, cosine=True)
    assert reference.count_ties(tokens, latents, codes, cosine=True) <= 1
    lengths = np.linalg.norm(latents.astype(float), axis=1, keepdims=True)
    cosines = latents.astype(float) / lengths @ codes.astype(float).T
    assert np.allclose(cosines[np.arange(50), tokens], cosines.max(axis=1), rtol=0, atol=1e-6)
    assert np.array_equal(look_up(latents * np.float16(0.25), codes, cosine=True), tokens)


def test_shapes_of_latents_are_kept() -> None:
    latents, codes = random_pair((24, 66, 12), np.float16)
    c = torch.from_numpy(codes)
    flat = codebook_lookup(torch.from_numpy(latents), c, code_norms(c))
    maps = codebook_lookup(torch.from_numpy(latents).reshape(2, 3, 4, 12), c, code_norms(c))
    assert maps.shape == (2, 3, 4)
    assert torch.equal(maps.flatten(), flat)


def test_nothing_is_allocated_when_out_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    x, c = (torch.from_numpy(part) for part in random_pair((3, 700, 4), np.float16))
    norms, out = code_norms(c), torch.empty(3, dtype=torch.int32)
    monkeypatch.setattr(module, "multiprocessors", lambda device: 8)
    workspace = make_workspace(x, c)
    assert workspace is not None
    assert workspace.shape == (2, 11, 3)
    monkeypatch.setattr(torch, "empty", None)
    codebook_lookup(x, c, norms, out=out, workspace=workspace)
    shared = out.clone()
    codebook_lookup(x, c, norms, out=out)
    assert torch.equal(out, shared)


def test_programs_share_a_search_only_where_many_would_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parts(n_latents: int, n_codes: int) -> int:
        latents = torch.zeros((n_latents, 12), dtype=torch.float16)
        workspace = make_workspace(latents, torch.zeros((n_codes, 12), dtype=torch.float16))
        return 1 if workspace is None else int(workspace.shape[1])

    monkeypatch.setattr(module, "multiprocessors", lambda device: 132)
    assert parts(32, 4096) == 64
    assert parts(32, 512) == 1
    assert parts(4096, 8192) == 8
    assert parts(65_536, 8192) == 1


def test_more_integer_codes_than_a_program_can_tell_apart() -> None:
    # Dimension 128 leaves 9 bits for a place: 128 tiles of 64 codes.
    latents, codes = random_pair((2, 8200, 128), np.int8)
    codes[8199], latents[0] = 100, 100
    x, c = torch.from_numpy(latents), torch.from_numpy(codes)
    tokens = codebook_lookup(x, c, code_norms(c))
    assert np.array_equal(tokens.numpy(), reference.codebook_lookup(latents, codes))
    assert int(tokens[0]) == 8199
    with pytest.raises(EngineError, match="make_workspace"):
        codebook_lookup(x, c, code_norms(c), out=tokens)


def test_unfit_tensors_are_refused() -> None:
    x = torch.zeros((4, 12), dtype=torch.float16)
    c = torch.zeros((70, 12), dtype=torch.float16)
    norms, out = code_norms(c), torch.empty(4, dtype=torch.int32)
    refused: list[tuple[str, Any, Any, Any, dict[str, Any]]] = [
        ("latents", x.float(), c, norms, {}),
        ("latents", x.char(), c, norms, {}),
        ("latents", x[:, :11], c, norms, {}),
        ("latents", x.T.contiguous().T, c, norms, {}),
        ("latents", x.to("meta"), c, norms, {}),
        ("number of latents", x[:0], c, norms, {}),
        ("codes", x.float(), c.float(), norms, {}),
        ("codes", x, c[0], norms, {}),
        ("codes", x, c[:0], norms[:0], {}),
        ("codes", x, c[::2], norms[:35], {}),
        ("dim", x.repeat(1, 11), c.repeat(1, 11), norms, {}),
        ("norms", x, c, norms[1:], {}),
        ("norms", x, c, norms.double(), {}),
        ("out", x, c, norms, {"out": out.long()}),
        ("out", x, c, norms, {"out": out[:3]}),
        ("gathered", x, c, norms, {"gathered": x.float()}),
        ("workspace", x, c, norms, {"workspace": out}),
        ("workspace", x, c, norms, {"workspace": torch.empty((2, 2, 5), dtype=torch.int32)}),
        ("GPU", x.to("meta"), c.to("meta"), norms.to("meta"), {}),
    ]
    for name, latents, codes, lengths, more in refused:
        with pytest.raises(EngineError, match=name):
            codebook_lookup(latents, codes, lengths, **more)


def test_codes_that_are_not_finite_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        codes = torch.ones((4, 2), dtype=torch.float16)
        codes[2, 1] = bad
        with pytest.raises(EngineError, match="NaN"):
            code_norms(codes)


def test_reference_counts_ties_and_refuses_errors() -> None:
    latents = np.array([[1, 0]], np.float16)
    # The second code is nearer by less than float32 can tell after summing 0.5 * 2048**2.
    codes = np.array([[1, 2048], [1, 2048], [1, 2047], [0, 2048]], np.float16)
    assert reference.count_ties(np.array([2]), latents, codes) == 0
    with pytest.raises(EngineError, match="token 0 scores"):
        reference.count_ties(np.array([0]), latents, codes)
    for outside in (-1, 4):
        with pytest.raises(EngineError, match="there are 4 codes"):
            reference.count_ties(np.array([outside]), latents, codes)
    close = np.array([[1, 2048], [1, -2048]], np.float16)
    assert reference.count_ties(np.array([1]), latents, close) == 1
    with pytest.raises(EngineError, match="token 1 scores"):  # equal codes: the first must win
        reference.count_ties(np.array([1]), latents, close[[0, 0]])
    with pytest.raises(EngineError, match="token 1 scores"):  # integers: no rounding
        reference.count_ties(np.array([1]), np.int8([[1, 0]]), np.int8([[1, 5], [1, -5]]))


def test_bench_cases_agree_and_detect_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    cases = list(bench.cases(torch.device("cpu"), small=True))
    assert {case.dtype for case in cases} == {"f16", "i8"}
    for case in cases:
        assert case.check()
        for baseline in case.baselines.values():
            assert baseline().shape == (int(case.shape.split("x")[0]),)
    first = cases[0]
    assert first.operations == 2 * 32 * 130 * 12
    assert first.bytes_moved == (32 + 130) * 12 * 2 + 130 * 4 + 32 * 4
    monkeypatch.setattr(bench, "codebook_lookup", lambda *_, **__: None)
    with pytest.raises(EngineError):
        first.check()


def test_compiled_loop_has_no_exchange_between_threads() -> None:
    script = """
import json, re
from edge_codec.kernels.aot import compile_kernel
from edge_codec.kernels.codebook_lookup import specs
report = []
for capability in (87, 90):
    spec = next(s for s in specs(capability) if s.name == "codebook_lookup_f16_d64")
    kernel = compile_kernel(spec, capability)
    lines = kernel.ptx.splitlines()
    products = [i for i, line in enumerate(lines) if "mma" in line and "sync.aligned" in line]
    start = max(i for i in range(products[0]) if re.match(r"\\$L", lines[i]))
    label = lines[start].split(":")[0]
    rest = range(products[-1], len(lines))
    stop = next(i for i in rest if "bra" in lines[i] and label in lines[i])
    loop = "\\n".join(lines[start:stop])
    report.append({
        "registers": kernel.registers, "spills": kernel.spill_bytes,
        "exchanges": len(re.findall(r"shfl.sync.bfly|st\\.shared|ld\\.shared", loop)),
        "maxima": len(re.findall(r"max\\.f32", loop)),
        "selections": len(re.findall(r"selp", loop)),
    })
print(json.dumps(report))
"""
    command = [sys.executable, "-c", script]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    orin, hopper = json.loads(done.stdout)
    for report in (orin, hopper):
        assert report["spills"] == report["exchanges"] == 0
        # 64 scores per thread: three maxima, then two selections, for each four of them.
        assert report["maxima"] == 48
        assert report["selections"] < 48
    assert hopper["registers"] <= 128  # two programs of 256 threads on a multiprocessor

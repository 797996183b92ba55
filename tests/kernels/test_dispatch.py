"""Torch custom ops: one result on CPU and GPU paths, sound for torch.compile, light to import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.kernels import dispatch  # noqa: E402
from edge_codec.kernels.dispatch import attention, codebook_lookup  # noqa: E402

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
    return torch.randn(*shape, generator=generator).to(dtype)


def norms_of(codes: torch.Tensor) -> torch.Tensor:
    if codes.dtype == torch.int8:
        return codes.int().square().sum(1, dtype=torch.int32)
    return (0.5 * codes.double().square().sum(1)).float()


def distances(latents: torch.Tensor, codes: torch.Tensor) -> np.ndarray:
    difference = latents.double()[..., None, :] - codes.double()
    return difference.square().sum(-1).numpy()


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 7), (1, 1)])
def test_lookup_finds_the_nearest_code(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    codes, latents = random(50, 12, dtype=dtype), random(*shape, 12, seed=1, dtype=dtype)
    tokens = codebook_lookup(latents, codes, norms_of(codes))
    assert tokens.dtype == torch.int32
    assert np.array_equal(tokens.numpy(), distances(latents, codes).argmin(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int8])
def test_lookup_on_the_gpu_path_is_the_same(dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    codes, latents = random(40, 16, dtype=dtype), random(2, 35, 16, seed=2, dtype=dtype)
    if dtype.is_floating_point:  # in eighths: sums are exact, whatever their order
        codes, latents = (torch.round(8 * each) / 8 for each in (codes, latents))
    codes = torch.cat([codes, codes])  # ties: the lowest index wins on both paths
    for norms in (norms_of(codes), None):
        expected = codebook_lookup(latents, codes, norms)
        assert torch.equal(dispatch._lookup_on_gpu(latents, codes, norms), expected)
        assert int(expected.max()) < 40
    strided = latents.transpose(0, 1)
    assert torch.equal(dispatch._lookup_on_gpu(strided, codes), codebook_lookup(strided, codes))


def test_lookup_without_norms_takes_the_largest_product() -> None:
    codes, latents = random(30, 8), random(64, 8, seed=1)
    expected = (latents.double() @ codes.double().T).argmax(1)
    assert torch.equal(codebook_lookup(latents, codes).long(), expected)


def test_lookup_in_parts_is_the_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, latents = random(30, 8), random(100, 8, seed=1)
    whole = codebook_lookup(latents, codes, norms_of(codes))
    monkeypatch.setattr(dispatch, "CHUNK_SCORES", 30 * 7)
    assert torch.equal(codebook_lookup(latents, codes, norms_of(codes)), whole)


def test_lookup_of_no_latents_is_no_tokens() -> None:
    for run in (codebook_lookup, dispatch._lookup_on_gpu):
        assert run(torch.zeros(0, 3, 8), torch.ones(4, 8), torch.ones(4)).shape == (0, 3)


@pytest.mark.parametrize(
    ("latents", "codes", "norms"),
    [
        (random(3, 8), random(4, 9), None),
        (random(3, 8), random(4, 2, 8), None),
        (random(3, 8), random(4, 8).half(), None),
        (random(3, 8), torch.empty(0, 8), None),
        (random(3, 8), random(4, 8), torch.zeros(5)),
        (random(3, 8), random(4, 8), torch.zeros(4, dtype=torch.float64)),
        (random(3, 8, dtype=torch.int8), random(4, 8, dtype=torch.int8), torch.zeros(4)),
    ],
)
def test_what_does_not_fit_a_lookup_is_refused(
    latents: torch.Tensor, codes: torch.Tensor, norms: torch.Tensor | None
) -> None:
    with pytest.raises(EngineError, match="expected"):
        codebook_lookup(latents, codes, norms)


def attention_inputs(
    dtype: torch.dtype, queries: int = 5, keys: int = 9, masked: bool = True
) -> tuple[torch.Tensor, ...]:
    query = random(2, 3, queries, 32, dtype=dtype)
    key, value = (random(2, 3, keys, 32, seed=s, dtype=dtype) for s in (1, 2))
    if not masked:
        return query, key, value
    mask = random(2, keys, seed=3) > 0
    mask[1] = False
    return query, key, value, mask


def plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> np.ndarray:
    q, k, v = (x.double().numpy() for x in (query, key, value))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    if mask is not None:
        weights *= mask.numpy()[:, None, None, :]
    return (weights @ v) / np.maximum(weights.sum(axis=3, keepdims=True), 1e-30)


# Rounding of inputs is shared; what is left is that of the result and of the products.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.02, torch.float16: 0.003}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_its_formula(masked: bool, dtype: torch.dtype) -> None:
    inputs = attention_inputs(dtype, masked=masked)
    found = attention(*inputs)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found.double().numpy(), plain_attention(*inputs), rtol=0, atol=TOLERANCE[dtype]
    )
    assert not masked or not found[1].any()


@pytest.mark.parametrize("masked", [False, True])
def test_attention_on_the_gpu_path_is_the_same(masked: bool) -> None:
    pytest.importorskip("triton")
    inputs = attention_inputs(torch.float16, masked=masked)
    found, expected = dispatch._attention_on_gpu(*inputs), attention(*inputs)
    assert found.stride() == expected.stride()
    np.testing.assert_allclose(found.double(), plain_attention(*inputs), rtol=0, atol=0.003)


def test_packed_projections_reach_the_kernel_as_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from edge_codec.kernels import attention as kernel

    packed = random(2, 7, 3, 2, 32, dtype=torch.float16)
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    launch, places = kernel.attention, []

    def watched(*rows: torch.Tensor, **options: object) -> torch.Tensor:
        places.extend(x.data_ptr() - packed.data_ptr() for x in rows[:3])
        return launch(*rows, **options)

    monkeypatch.setattr(kernel, "attention", watched)
    found = dispatch._attention_on_gpu(query, key, value)
    assert places == [0, 2 * 64, 4 * 64]  # bytes: no copies were made
    np.testing.assert_allclose(
        found.double(), plain_attention(query, key, value), rtol=0, atol=0.003
    )


@pytest.mark.parametrize("change", ["keys", "heads", "dtype", "ndim", "integers", "mask", "masks"])
def test_what_does_not_fit_attention_is_refused(change: str) -> None:
    query, key, value, mask = attention_inputs(torch.float32)
    wrong = {
        "keys": (query, key[:, :, :8], value, mask),
        "heads": (query[:, :2], key, value, mask),
        "dtype": (query, key.half(), value, mask),
        "ndim": (query[0], key[0], value[0], mask),
        "integers": (query.int(), key.int(), value.int(), mask),
        "mask": (query, key, value, mask[:, :8]),
        "masks": (query, key, value, mask.float()),
    }
    with pytest.raises(EngineError, match="expected"):
        attention(*wrong[change])


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_lookup_passes_torchs_own_checks(dtype: torch.dtype) -> None:
    codes = random(10, 8, dtype=dtype)
    arguments = (random(4, 5, 8, seed=1, dtype=dtype), codes, norms_of(codes))
    torch.library.opcheck(torch.ops.edge_codec.codebook_lookup.default, arguments)
    torch.library.opcheck(torch.ops.edge_codec.codebook_lookup.default, arguments[:2])


@pytest.mark.parametrize("masked", [False, True])
def test_attention_passes_torchs_own_checks(masked: bool) -> None:
    inputs = attention_inputs(torch.float32, masked=masked)
    torch.library.opcheck(torch.ops.edge_codec.attention.default, inputs)


def frames_of(dtype: type, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    return torch.from_numpy(rng.integers(limits.min // 8, limits.max // 8, shape).astype(dtype))


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    to_code = rng.integers(0, 256, 1 << 16).astype(np.uint8)
    to_sample = rng.integers(0, 1 << 16, 256).astype(np.uint16)
    return torch.from_numpy(to_code), torch.from_numpy(to_sample)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 17), (1, 16, 8)])
def test_normalize_and_back_on_both_paths(shape: tuple[int, int, int]) -> None:
    pytest.importorskip("triton")
    frames, (to_code, to_sample) = frames_of(np.uint16, *shape), tables()
    codes = dispatch.normalize(frames, to_code, 8)
    n, rows, columns = shape
    assert codes.shape == (n, rows + -rows % 8, columns + -columns % 8)
    assert torch.equal(codes[:, :rows, :columns], to_code[frames.int()])
    assert (codes[:, rows:, :] == codes[:, rows - 1 : rows, :]).all()
    assert torch.equal(dispatch._normalize_on_gpu(frames, to_code, 8), codes)
    back = dispatch.denormalize(codes, to_sample, rows, columns)
    expected = to_sample.numpy()[codes.numpy()[:, :rows, :columns]]
    assert np.array_equal(back.numpy(), expected)
    on_gpu = dispatch._denormalize_on_gpu(codes, to_sample, rows, columns)
    assert np.array_equal(on_gpu.numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 1, 1), np.int16), ((2, 7, 12), np.uint16), ((1, 4, 9), np.int32)]
)
def test_wavelet_and_back_on_both_paths(shape: tuple[int, int, int], dtype: type) -> None:
    pytest.importorskip("triton")
    frames = frames_of(dtype, *shape)
    bands = dispatch.wavelet_analyze(frames)
    assert sum(band.numel() for band in bands) == frames.numel()
    on_gpu = dispatch._wavelet_analyze_on_gpu(frames)
    assert all(torch.equal(a, b) for a, b in zip(on_gpu, bands, strict=True))
    for synthesize in (dispatch.wavelet_synthesize, dispatch._wavelet_synthesize_on_gpu):
        back = synthesize(*bands)
        assert back.dtype == torch.int32
        assert np.array_equal(back.numpy(), frames.numpy())


def test_exact_ops_pass_torchs_own_checks() -> None:
    ops = torch.ops.edge_codec
    frames = frames_of(np.int32, 2, 7, 12)
    torch.library.opcheck(ops.wavelet_analyze.default, (frames,))
    bands = dispatch.wavelet_analyze(frames)
    torch.library.opcheck(ops.wavelet_synthesize.default, bands)
    samples, (to_code, to_sample) = frames_of(np.uint16, 2, 9, 17), tables()
    torch.library.opcheck(ops.normalize.default, (samples, to_code, 8))
    codes = dispatch.normalize(samples, to_code)
    torch.library.opcheck(ops.denormalize.default, (codes, to_sample, 9, 17))


@pytest.mark.parametrize(
    "call",
    [
        lambda: dispatch.normalize(frames_of(np.int16, 1, 8, 8), tables()[0]),
        lambda: dispatch.normalize(frames_of(np.uint16, 8, 8), tables()[0]),
        lambda: dispatch.normalize(frames_of(np.uint16, 0, 8, 8), tables()[0]),
        lambda: dispatch.normalize(frames_of(np.uint16, 1, 8, 8), tables()[0][:100]),
        lambda: dispatch.denormalize(frames_of(np.uint8, 1, 8, 8), tables()[1], 9, 8),
        lambda: dispatch.denormalize(frames_of(np.uint8, 1, 8, 8), tables()[1], 8, 0),
        lambda: dispatch.denormalize(frames_of(np.uint8, 1, 8, 8), tables()[0], 8, 8),
        lambda: dispatch.wavelet_analyze(torch.zeros(1, 8, 8)),
        lambda: dispatch.wavelet_synthesize(*torch.zeros(4, 1, 8, 8)),
    ],
)
def test_what_does_not_fit_an_exact_op_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(EngineError, match="expected"):
        call()


def test_the_ops_need_no_triton_on_a_cpu() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from edge_codec.kernels.dispatch import attention, codebook_lookup\n"
        "print(codebook_lookup(torch.ones(2, 4), torch.ones(3, 4)).tolist())\n"
        "print(attention(*torch.ones(3, 1, 1, 1, 4)).tolist())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["[0, 0]", "[[[[1.0, 1.0, 1.0, 1.0]]]]"]

"""Token frequencies on the GPU, in Triton's interpreter: the integers and bytes of `TokenCoder`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, exp2_table, load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.errors import EngineError, FrameError
from edge_codec.io import open_source
from edge_codec.manifest import load_manifest
from edge_codec.runtime.models import load_model
from edge_codec.spec import ModelId

pytest.importorskip("triton")
torch = pytest.importorskip("torch")

from edge_codec.entropy.rans_reference import encode_pairs  # noqa: E402
from edge_codec.kernels import token_rates  # noqa: E402
from edge_codec.kernels.reference import token_rates as reference  # noqa: E402
from edge_codec.kernels.reference.rans import unpack_pairs  # noqa: E402
from edge_codec.kernels.tables import config  # noqa: E402

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "tiny.nii.gz"
NO_SHRINKING = (Phase.explicit, Phase.generate)  # it would take minutes in the interpreter
Frames = NDArray[np.uint16]


def random_model(seed: int, c: int, leaves: int, spread: int) -> TokenModel:
    rng = np.random.default_rng(seed)
    k = c * leaves
    shapes = [(c,), *[(k + 1, c)] * 3, *[(c + 1, c)] * 4, (c, leaves), *[(k, leaves)] * 3]
    tables = [rng.integers(-spread, spread + 1, shape, dtype=np.int16) for shape in shapes]
    return TokenModel(*tables, exp2_table())


def random_frames(seed: int, n: int, h: int, w: int, n_codes: int) -> tuple[Frames, Frames]:
    """Frames and their previous ones, in which neighbours often share a cluster."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-2, 3, (2, n, h, w)).cumsum(axis=3)
    frames, previous = ((steps + rng.integers(0, n_codes)) % n_codes).astype(np.uint16)
    return frames, previous


def tensor(frames: Frames | None) -> Any:
    return None if frames is None else torch.from_numpy(frames.astype(np.int32))


def gpu_pairs(frames: Frames, previous: Frames | None, model: TokenModel) -> NDArray[np.int32]:
    out = torch.full((*frames.shape, 2), -1, dtype=torch.int32)
    tables = token_rates.rate_tables(model, "cpu")
    token_rates.token_pairs(tensor(frames), tensor(previous), tables, out=out)
    result: NDArray[np.int32] = out.numpy()
    return result


def expected_bytes(frames: Frames, previous: Frames | None, model: TokenModel) -> list[bytes]:
    coder = TokenCoder(model)
    return [
        coder.encode(frame, None if previous is None else previous[i])
        for i, frame in enumerate(frames)
    ]


@pytest.fixture(scope="module")
def zoo() -> TokenModel:
    return load_token_model(load_manifest(ModelId.VQVAE).read("token_model.npz"))


@settings(derandomize=True, max_examples=25, deadline=None, phases=NO_SHRINKING)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([(1, 1), (1, 9), (9, 1), (3, 5), (8, 4), (64, 32)]),
    st.sampled_from([0, 40, 1500, 4000]),
    st.booleans(),
)
def test_pairs_are_those_of_the_definition(
    seed: int, shape: tuple[int, int, int], sizes: tuple[int, int], spread: int, key: bool
) -> None:
    model = random_model(seed, *sizes, spread)
    frames, previous = random_frames(seed, *shape, model.n_codes)
    before = None if key else previous
    pairs = gpu_pairs(frames, before, model)
    for i, frame in enumerate(frames):
        expected = reference.token_pairs(frame, None if before is None else before[i], model)
        np.testing.assert_array_equal(pairs[i], expected)


@pytest.mark.parametrize("key", [True, False])
def test_whole_frames_of_the_shipped_model(zoo: TokenModel, key: bool) -> None:
    for h, w in ((32, 32), (3, 65)):
        frames, previous = random_frames(h, 1, h, w, zoo.n_codes)
        before = None if key else previous
        pairs = gpu_pairs(frames, before, zoo)
        payload = encode_pairs(unpack_pairs(pairs.reshape(-1)), 1)
        assert [payload] == expected_bytes(frames, before, zoo)


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 1, 1), (1, 1, 9), (2, 9, 1), (1, 0, 4)])
def test_tokens_become_the_coders_bytes(
    zoo: TokenModel, shape: tuple[int, int, int], key: bool
) -> None:
    frames, previous = random_frames(9, *shape, zoo.n_codes)
    before = None if key else previous
    tables = token_rates.rate_tables(zoo, "cpu")
    payloads = token_rates.encode_tokens(tensor(frames), tensor(before), tables)
    assert payloads == expected_bytes(frames, before, zoo)


def test_a_real_hearts_tokens_become_the_coders_bytes(zoo: TokenModel) -> None:
    pytest.importorskip("onnxruntime")
    model = load_model(ModelId.VQVAE, backend="onnxruntime", threads=1)
    assert model is not None
    assert model.encoder is not None
    assert model.lookup is not None
    samples = np.stack([frame.samples for frame in open_source(EXAMPLE).frames()])
    codes = np.clip(samples.astype(np.int64) * 192 // int(samples.max()), 0, 255)
    latents = [model.encoder.run(frame[None, None].astype(np.uint8)) for frame in codes]
    tokens = model.lookup.nearest(np.concatenate(latents))
    assert len(np.unique(tokens)) > 50
    tables = token_rates.rate_tables(zoo, "cpu")
    # Every frame after the first one, each with its previous frame, in one launch.
    payloads = token_rates.encode_tokens(tensor(tokens[1:]), tensor(tokens[:-1]), tables)
    assert payloads == expected_bytes(tokens[1:], tokens[:-1], zoo)


def test_the_tiles_of_a_gpu_give_the_same(zoo: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, previous = random_frames(4, 1, 3, 3, zoo.n_codes)
    expected = gpu_pairs(frames, previous, zoo)
    monkeypatch.setattr(
        token_rates,
        "launch_config",
        lambda kernel, variant, function, device: config(kernel, variant, 87),
    )
    np.testing.assert_array_equal(gpu_pairs(frames, previous, zoo), expected)


def test_tokens_outside_of_the_codebook_are_refused_and_harmless() -> None:
    model = random_model(1, 8, 4, 900)
    tables = token_rates.rate_tables(model, "cpu")
    wild = torch.tensor([[[31, 300, -100], [2**31 - 1, -(2**31), 5]]], dtype=torch.int32)
    results = []
    for seed in (1, 2):
        filler = np.random.default_rng(seed).integers(-9999, 9999, tables.rows.numel() + 4096)
        around = torch.from_numpy(filler.astype(np.int16))
        rows = around[2048:-2048]
        rows.copy_(tables.rows)
        guarded = dataclasses.replace(tables, rows=rows)
        results.append(token_rates.token_pairs(wild, wild, guarded))
    assert torch.equal(*results)
    valid = torch.zeros_like(wild)
    with pytest.raises(FrameError, match="the codebook has 32 codes"):
        token_rates.encode_tokens(wild, valid, tables)
    with pytest.raises(FrameError, match="the codebook has 32 codes"):
        token_rates.encode_tokens(valid, -valid - 1, tables)


def test_misfit_tensors_are_refused() -> None:
    tables = token_rates.rate_tables(random_model(1, 8, 4, 900), "cpu")
    tokens = torch.zeros((2, 3, 4), dtype=torch.int32)
    with pytest.raises(EngineError, match="frames, h, w"):
        token_rates.token_pairs(tokens[0], None, tables)
    with pytest.raises(EngineError, match="tokens: int64"):
        token_rates.token_pairs(tokens.long(), None, tables)
    with pytest.raises(EngineError, match="previous: int32 of shape"):
        token_rates.token_pairs(tokens, tokens[:1], tables)
    with pytest.raises(EngineError, match="not contiguous"):
        token_rates.token_pairs(tokens.transpose(1, 2), None, tables)
    with pytest.raises(EngineError, match="out"):
        token_rates.token_pairs(tokens, None, tables, out=tokens)


def test_misfit_models_are_refused() -> None:
    model = random_model(1, 8, 4, 900)
    wrong = {
        "leaf_west": model.leaf_west[:-1],
        "cluster_west": model.cluster_west.astype(np.int32),
        "exp2": model.exp2[:-1],
    }
    for name, table in wrong.items():
        with pytest.raises(EngineError, match=f"{name} is"):
            token_rates.rate_tables(dataclasses.replace(model, **{name: table}), "cpu")
    with pytest.raises(EngineError, match="5000 clusters"):
        token_rates.rate_tables(
            dataclasses.replace(model, leaf_bias=np.zeros((5000, 1), np.int16)), "cpu"
        )

"""Tables of tokens, learned and rounded."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from edge_codec.base.titok.reading import read_codebook
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.base.titok.token_prior import TokenPrior, load_tables
from edge_codec.errors import SourceError
from edge_codec.training import titok_tables
from edge_codec.training.titok_tables import TokenDump, read_dump, rows_of, train_prior

SIZES = {"hidden": 8, "dim": 14, "passes": 1, "batch": 4}


def codebook() -> np.ndarray:
    codes = np.random.default_rng(0).normal(size=(4096, 12)).astype(np.float32)
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


def still_exams(exams: int = 12, frames: int = 4) -> TokenDump:
    """Exams of few tokens, each frame like the one before it."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, 40, (exams, 1, 32)) * 100
    change = rng.integers(0, 2, (exams, frames, 32)) * (rng.random((exams, frames, 32)) < 0.1)
    tokens = (first + change).reshape(-1, 32).astype(np.uint16)
    place = np.arange(exams * frames)
    return TokenDump(tokens, place % frames == 0, place // frames)


@pytest.fixture(scope="module")
def trained() -> titok_tables.FloatPrior:
    torch.set_num_threads(1)
    return train_prior(still_exams(), codebook(), **SIZES | {"passes": 5, "rate": 0.05})


def test_what_repeats_is_learned(trained):
    dump = still_exams()
    held_out = dump.take(dump.held_out)
    assert len(held_out.tokens) == 4
    assert titok_tables.payload_bytes(trained.tables(), held_out) < 36


def test_rounding_changes_little(trained):
    dump = still_exams()
    rows, stages = rows_of(dump)
    with torch.no_grad():
        bits = trained(rows[:4], stages[:4]).flatten(0, 1).numpy()
    prior = TokenPrior(trained.tables())
    codes = prior.codes[rows[:4].numpy()[:, trained.places.numpy()]].reshape(4, 32, -1)
    whole = [prior.logits(codes[i], int(stages[i]), slice(None)) for i in range(4)]
    assert np.abs(np.concatenate(whole) / 256 - bits).max() < 0.6


def test_rows_are_the_tokens_before(trained):
    tokens = np.arange(5 * 32).reshape(5, 32).astype(np.uint16)
    dump = TokenDump(tokens, np.array([True, False, False, True, False]), np.zeros(5, int))
    rows, stages = rows_of(dump)
    assert stages.tolist() == [0, 1, 2, 0, 1]
    assert np.array_equal(rows[2, 32:64], tokens[1])
    assert np.array_equal(rows[2, 64:96], tokens[0])
    assert (rows[3, 32:] == 4096).all()
    assert np.array_equal(rows[4, 32:64], tokens[3])
    assert (rows[4, 64:] == 4096).all()
    assert rows.shape == (5, 97)


def test_the_command(tmp_path, caplog):
    dump = still_exams(4, 2)
    np.savez(tmp_path / "t.npz", tokens=dump.tokens, first=dump.first, exam=dump.exam)
    np.save(tmp_path / "codebook.npy", codebook())
    with caplog.at_level(logging.INFO):
        titok_tables.main(
            ["--tokens", str(tmp_path / "t.npz"), "--codebook", str(tmp_path / "codebook.npy"),
             "--out", str(tmp_path / "m.npz"), "--passes", "1"]
        )  # fmt: skip
    assert json.loads(caplog.messages[-1])["held_out_payload_bytes_per_frame"] > 30
    tables = load_tables((tmp_path / "m.npz").read_bytes())
    coder = TokenCoder(TokenPrior(tables))
    payload = coder.encode(dump.tokens[0], True)
    assert np.array_equal(coder.decode(payload, True), dump.tokens[0])
    assert read_codebook((tmp_path / "codebook.npy").read_bytes()).shape == (4096, 12)


def test_what_is_no_dump_is_refused(tmp_path):
    dump = still_exams(1, 3)
    with pytest.raises(SourceError, match="expected"):
        TokenDump(dump.tokens[:, :31], dump.first, dump.exam)
    with pytest.raises(SourceError, match="writes one"):
        TokenDump(dump.tokens, ~dump.first, dump.exam)
    path = tmp_path / "t.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(SourceError, match="no dump"):
        read_dump(path)
    np.savez(path, tokens=dump.tokens)
    with pytest.raises(SourceError, match="no dump"):
        read_dump(path)

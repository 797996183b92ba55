"""Exams of made-up tokens, and weights of search that are random but always the same."""

import io

import numpy as np

from edge_codec.cli import Console, main
from edge_codec.retrieval.descriptor import DIM
from edge_codec.retrieval.disease_head import FEATURES, GROUPS
from edge_codec.retrieval.exam_tokens import CODES, TOKENS, ExamTokens
from edge_codec.retrieval.listener import AGES, CODE_DIM, KNOWN, WIDTH
from edge_codec.retrieval.token_reader import WEIGHTS
from edge_codec.retrieval.weights import make_search_model


def run_search(*arguments):
    """Run the command and return (status, stdout, stderr)."""
    console = Console(io.StringIO(), io.StringIO())
    status = main(["search", *map(str, arguments)], console)
    return status, console.out.getvalue(), console.err.getvalue()


def codebook():
    codes = np.random.default_rng(0).normal(size=(CODES, CODE_DIM)).astype(np.float32)
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


def make_exam(seed, n_slices=2, n_phases=5, told_group="", key_interval=32):
    tokens = np.random.default_rng(seed).integers(CODES, size=(n_slices, n_phases, TOKENS))
    keys = np.zeros((n_slices, n_phases), bool)
    keys[:, ::key_interval] = True
    return ExamTokens(tokens.astype(np.uint16), keys, told_group)


def altered(exam, seed, share):
    """Return an exam of which a share of the tokens is another."""
    chance = np.random.default_rng(seed)
    other = chance.integers(CODES, size=exam.tokens.shape).astype(np.uint16)
    hit = chance.random(exam.tokens.shape) < share
    return ExamTokens(np.where(hit, other, exam.tokens), exam.keys, exam.told_group)


def listener_steps():
    steps = np.random.default_rng(2).normal(size=(AGES, KNOWN + CODE_DIM + 1, KNOWN))
    steps[:, :KNOWN] *= 0.2  # what was known fades
    return steps.astype(np.float32)


def weight_arrays():
    chance = np.random.default_rng(1)
    arrays = {
        "listener_steps": listener_steps(),
        "frame_mean": np.zeros(WIDTH),
        "frame_axes": chance.normal(size=(WIDTH, DIM)),
        "slice_mean": np.zeros(WIDTH),
        "slice_axes": chance.normal(size=(WIDTH, DIM)),
        "head_mean": np.full(FEATURES, -3.0),
        "head_scale": np.ones(FEATURES),
        "head_spread": np.eye(FEATURES),
        "head_farthest": np.array(1000.0),
        "head_weights": chance.normal(size=(FEATURES, len(GROUPS))),
        "head_bias": chance.normal(size=len(GROUPS)),
    }
    for name, shape in WEIGHTS.items():
        arrays[f"reader_{name}"] = 0.2 * chance.normal(size=shape)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def search_model(name="weights"):
    return make_search_model(weight_arrays(), codebook(), name)


def describe(model, exam):
    return model.describer.describe(model.listener.listen(exam))

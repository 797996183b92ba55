"""Tokens of slices: coded, decoded, by whom, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_titok import DamagedTokensError, PlainTitok
from titok_samples import ToyEncoder, random_tables, toy_model, toy_spec

from edge_codec.base.titok.coder import Guidance, samples_of
from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.base.titok.products import Parts
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.base.titok.token_prior import TokenPrior, neighbor_places
from edge_codec.errors import BitstreamError, EngineError, FrameError
from edge_codec.runtime.phantom import heart
from edge_codec.training.titok_tables import pack_tables

TABLES = random_tables()
PRIOR = TokenPrior(TABLES)


def random_frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (count, 32)).astype(np.uint16)


def test_tokens_come_back_from_both_decoders():
    encoder, decoder, plain = TokenCoder(PRIOR), TokenCoder(PRIOR), PlainTitok(pack_tables(TABLES))
    for phase, tokens in enumerate(random_frames(5)):
        key = phase in (0, 3)
        payload = encoder.encode(tokens, key)
        assert np.array_equal(decoder.decode(payload, key), tokens)
        if phase in (2, 4):
            assert plain.decode(payload, key) == tokens.tolist()
        else:
            plain.frames = [tokens.tolist(), *([] if key else plain.frames[:1])]
            plain.age = 1 if key else plain.age + 1


def test_a_key_frame_needs_none_before_it():
    frames = random_frames(2, 1)
    encoder = TokenCoder(PRIOR)
    encoder.encode(frames[0], True)
    again = encoder.encode(frames[1], True)
    assert again == TokenCoder(PRIOR).encode(frames[1], True)
    assert np.array_equal(TokenCoder(PRIOR).decode(again, True), frames[1])


def test_tokens_are_chosen_by_nearness_and_by_what_they_cost():
    rng, thrift = np.random.default_rng(5), 0.02
    codebook = rng.standard_normal((4096, 12)).astype(np.float32)
    latents = rng.standard_normal((32, 12)).astype(np.float32)
    coder, nearness = TokenCoder(PRIOR), Parts(codebook.T)
    coder.encode(random_frames(1)[0], True)
    nearest = (latents @ codebook.T).argmax(axis=1)
    assert np.array_equal(coder.choose(latents, nearness, 0.0, False), nearest)
    around = np.concatenate([PRIOR.codes[rows] for rows in (nearest, random_frames(1)[0])])
    around = np.concatenate([around, np.zeros((33, 12), np.int8)])[neighbor_places()]
    logits = PRIOR.logits(around.reshape(32, -1), 1, slice(None))
    expected = (latents @ codebook.T + thrift / 256 * logits).argmax(axis=1)
    found = coder.choose(latents, nearness, thrift, False)
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, nearest)


def test_threads_code_side_by_side():
    frames = random_frames(40, 3)

    def payloads(number: int) -> list[bytes]:
        coder = TokenCoder(PRIOR)
        return [coder.encode(tokens, phase == 0) for phase, tokens in enumerate(frames[number::2])]

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(payloads, range(2))) == [payloads(0), payloads(1)]


def test_what_is_expected_takes_few_bytes():
    likely = random_tables(bias=np.eye(1, 4096, 77, dtype=np.int16)[0] * 30000)
    coder = TokenCoder(TokenPrior(likely))
    assert len(coder.encode(np.full(32, 77, np.uint16), True)) <= 1
    assert len(coder.encode(random_frames(1)[0], True)) > 60


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=90))
def test_whatever_is_no_payload_gives_tokens_or_an_error(payload):
    try:
        tokens = TokenCoder(PRIOR).decode(payload, True)
    except BitstreamError:
        return
    assert tokens.shape == (32,)
    assert tokens.max() < 4096


def test_damage_is_refused_by_both_decoders_or_by_none():
    payload = TokenCoder(PRIOR).encode(random_frames(1, 4)[0], True)
    rng = np.random.default_rng(0)
    refused = 0
    for index in range(6):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        damaged += bytes([1, 2, 3]) * (index % 2)
        try:
            expected = PlainTitok(pack_tables(TABLES)).decode(bytes(damaged), True)
        except DamagedTokensError:
            refused += 1
            with pytest.raises(BitstreamError):
                TokenCoder(PRIOR).decode(bytes(damaged), True)
        else:
            assert TokenCoder(PRIOR).decode(bytes(damaged), True).tolist() == expected
    assert refused >= 3


def test_nothing_follows_a_frame_that_failed():
    frames = random_frames(3, 2)
    encoder, decoder = TokenCoder(PRIOR), TokenCoder(PRIOR)
    payloads = [encoder.encode(tokens, i == 0) for i, tokens in enumerate(frames)]
    decoder.decode(payloads[0], True)
    with pytest.raises(BitstreamError):
        decoder.decode(payloads[1] + bytes(range(1, 10)), False)
    with pytest.raises(BitstreamError, match="before any key frame"):
        decoder.decode(payloads[2], False)
    decoder.decode(payloads[0], True)
    assert np.array_equal(decoder.decode(payloads[1], False), frames[1])


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(31, np.uint16), np.zeros(32, np.int64), np.full(32, 4096, np.uint16)],
    ids=["too few", "other type", "too large"],
)
def test_what_is_no_token_is_refused(wrong):
    with pytest.raises(FrameError, match="below 4096"):
        TokenCoder(PRIOR).encode(wrong, True)


def frames_of(rows: int, columns: int, count: int = 4) -> np.ndarray:
    return heart(count, rows, columns, np.dtype(np.uint16)).astype(np.uint32)


@pytest.mark.parametrize("size", [(40, 26), (1, 1), (200, 300), (128, 128)], ids=str)
def test_the_decoder_shows_what_the_encoder_shows(size):
    spec = toy_spec(*size, n_phases=9)
    encoder, decoder = toy_model().coder(spec), toy_model(encoder=None).coder(spec)
    for phase, frame in enumerate(np.minimum(frames_of(*size), spec.high)):
        payload, base = encoder.encode(frame, phase, phase in (0, 3))
        assert base.shape == size
        assert base.dtype == np.uint32
        assert base.max() <= spec.high
        assert np.array_equal(decoder.decode(payload, phase, phase in (0, 3)), base)


def test_samples_of_a_level_lie_in_the_window():
    spec = toy_spec(16, 16, window_low=100, window_high=1100, high=65535)
    level = np.full((16, 16), 0.5, np.float32)
    assert (samples_of(level, spec) == 600).all()
    assert (samples_of(level * 4000, spec) == 65535).all()
    assert (samples_of(-level, spec) == 0).all()


def test_a_group_begins_without_a_past():
    spec = toy_spec()
    frames = frames_of(40, 26, 3)
    coder = toy_model().coder(spec)
    first = coder.encode(frames[0], 0, True)
    coder.encode(frames[1], 1, False)
    again = coder.encode(frames[0], 2, True)
    assert again[0] == first[0]
    assert np.array_equal(again[1], first[1])
    assert coder.tokens is not None
    assert np.array_equal(coder.tokens, TokenCoder(PRIOR).decode(again[0], True))


def test_a_thrifty_encoder_takes_fewer_bytes_for_codes_that_are_nearly_as_near():
    spec, frame = toy_spec(), frames_of(40, 26, 1)[0]
    sizes, nearness = [], []
    for thrift in (0.0, 0.001, 0.01, 10.0):
        seen = []
        model = toy_model(thrift=thrift, encoder=Listening(seen))
        coder = model.coder(spec)
        sizes.append(len(coder.encode(frame, 0, True)[0]))
        nearness.append(float((seen[0][0] * model.codebook[coder.tokens]).sum(1).mean()))
    assert sizes == sorted(set(sizes), reverse=True)
    assert nearness == sorted(set(nearness), reverse=True)
    assert nearness[0] - nearness[1] < 0.05


class Listening(ToyEncoder):
    """Notes its latents."""

    def __init__(self, seen: list[np.ndarray]) -> None:
        self.seen = seen

    def run(self, inputs):
        self.seen.append(super().run(inputs))
        return self.seen[-1]


def test_facts_and_guidance_reach_the_encoder():
    frame = frames_of(40, 26, 1)[0]
    told = toy_spec(model_data=ClinicalFacts(group="DCM").pack())
    plain, other = (toy_model().coder(spec).encode(frame, 1, True) for spec in (toy_spec(), told))
    assert plain[0] != other[0]
    heart_map = Guidance(np.full((8, 8), 1, np.float32), np.zeros(16, np.float32))
    seen = []

    def guide(samples, spec):
        seen.append((samples.copy(), spec))
        return heart_map

    guided = toy_model(guide=guide).coder(toy_spec()).encode(frame, 1, True)
    assert guided[0] != plain[0]
    assert np.array_equal(seen[0][0], frame)


def test_several_slices_are_coded_each_by_itself():
    spec, model = toy_spec(), toy_model()
    frames = frames_of(40, 26, 2)
    alone = [model.coder(spec).encode(frame, 0, True) for frame in frames]
    coders = [model.coder(spec) for _ in frames]
    together = model.encode_frames(coders, list(frames), [0, 0], [True, True])
    for one, other in zip(alone, together, strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1])


def test_wrong_beginnings_are_refused():
    spec = toy_spec()
    frame = frames_of(40, 26, 1)[0]
    with pytest.raises(FrameError, match="begin with a key frame"):
        toy_model().coder(spec).encode(frame, 0, False)
    with pytest.raises(FrameError, match="crop or pad"):
        toy_model().coder(spec).encode(frame[:9], 0, True)
    with pytest.raises(EngineError, match="decoding only"):
        toy_model(encoder=None).coder(spec).encode(frame, 0, True)
    with pytest.raises(BitstreamError, match="before any key frame"):
        toy_model().coder(spec).decode(b"\1", 0, False)
    with pytest.raises(BitstreamError, match="group 9"):
        toy_model().coder(toy_spec(model_data=b"\x09" + bytes(6)))

"""The hybrid layer's decoder: against the plain one, on every kind of processor, on damage."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hybrid_samples import decoded, invented, moving_frames, native_modules
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_bins import DamagedError, Inventor
from plain_hybrid import PlainHybrid
from plain_units import INTER, INTRA, MERGE, SKIP

from edge_codec.errors import BitstreamError

MODULES = native_modules()
STREAMS = [(seed, *((64, 64), (72, 88), (33, 70))[seed % 3]) for seed in range(10)]
CONTEXTS = {
    "split", "split_before", "skip", "skip_before", "intra", "merge", "both", "residual",
    "split_transform", "coded_part", "coded_intra", "coded_around", "four_parts", "likely",
    "likely_index", "other_mode", "motion_some", "motion_more", ("motion_prefix", 0),
    ("motion_prefix", 1), "predictor", "reference", "merge_index", "last", "significant", "place",
    "greater", "greater_size", "filtered", "sign", "sine",
}  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: f"{s[0]}-{s[1]}x{s[2]}")
def test_made_up_streams_decode_as_plainly(stream):
    steps, _ = invented(*stream)
    for module in MODULES:
        coder = module.Coder(*stream[1:])
        for step in steps:
            np.testing.assert_array_equal(decoded(coder, step), step.frame)


def test_made_up_streams_use_all_of_the_syntax():
    plains = [invented(*stream)[1] for stream in STREAMS]
    assert {name[0] for plain in plains for name in plain.models.contexts} == CONTEXTS
    units = [u for p in plains for f in p.slots.values() for u in f.units.values()]
    modes = {(u.mode, u.log_side) for u in units}
    assert modes == set(itertools.product((SKIP, MERGE, INTER), (3, 4, 5, 6))) | {
        (INTRA, log_side) for log_side in (3, 4, 5)
    }
    assert {u.intra_mode for u in units if u.mode == INTRA} == set(range(35))
    assert {name[1] for p in plains for name in p.models.contexts if name[0] == "sign"} == set(
        range(16)
    )
    kinds = set().union(*(plain.filtered for plain in plains))
    assert kinds == set(itertools.product((True, False), range(5)))
    vectors = [part for u in units for part in u.motion.parts]
    assert {r for r, *_ in vectors} == {0, 1, 2, 3}
    assert {x & 3 for _, x, _ in vectors} == {y & 3 for _, _, y in vectors} == {0, 1, 2, 3}
    halves = {(x & 3 > 0, y & 3 > 0) for _, x, y in vectors}
    assert halves == set(itertools.product((False, True), repeat=2))
    assert max(abs(x) for _, x, _ in vectors) == 16383  # clamped


def test_levels_have_16_bits():
    words = {"greater": 0.95, "significant": 0.3, "coded_intra": 0.9, "split": 0.5, "bits": 0.8}
    largest, refused = 0, 0
    for seed in range(60):
        plain, inventor = PlainHybrid(16, 16), Inventor(seed, (0.3, 0.7), words)
        coder, out = MODULES[seed % len(MODULES)].Coder(16, 16), np.empty((16, 16), np.int16)
        try:
            payload = plain.invent(inventor, 40, True, (), 0)
        except DamagedError:  # a level that is too large
            refused += 1
            with pytest.raises(BitstreamError, match="damaged"):
                coder.decode(bytes([40]) + inventor.code(), True, (), 0)
            continue
        largest = max(largest, plain.levels.largest)
        coder.decode(payload, True, (), 0)
        coder.frame(0, out)
        np.testing.assert_array_equal(out, plain.frame(0))
    assert refused
    assert largest > 16384


@pytest.mark.parametrize(("quantizer", "shape"), [(45, (24, 36)), (66, (64, 72)), (90, (72, 88))])
@pytest.mark.parametrize("effort", [0, 1, 2])
def test_encoded_frames_decode_as_plainly(quantizer, shape, effort):
    plain = PlainHybrid(*shape)
    encoder, decoder = MODULES[-1].Coder(*shape), MODULES[0].Coder(*shape)
    ours, theirs = np.empty(shape, np.int16), np.empty(shape, np.int16)
    for i, samples in enumerate(moving_frames(*shape, 3)):
        references = tuple(range(i))[::-1]
        payload = encoder.encode(samples, quantizer, i == 0, references, i, effort, 0, None, 1)
        plain.decode(payload, i == 0, references, i)
        decoder.decode(payload, i == 0, references, i)
        encoder.frame(i, ours)
        decoder.frame(i, theirs)
        np.testing.assert_array_equal(ours, plain.frame(i))
        np.testing.assert_array_equal(theirs, plain.frame(i))


# ------------------------------------------------------------------------------------------ damage


def is_decoded(coder, payload, key, references, slot):
    """Whether the payload is decoded; if so, its pixels are in range."""
    out = np.empty((40, 72), np.int16)
    try:
        coder.decode(payload, key, references, slot)
    except BitstreamError:
        with pytest.raises(ValueError, match="holds no frame"):
            coder.frame(slot, out)
        return False
    coder.frame(slot, out)
    assert out.min() >= 0
    assert out.max() <= 4095
    return True


@functools.cache
def sound_payloads():
    """A key frame for slot 0, and two frames more for slots 1 and 2."""
    coder = MODULES[0].Coder(40, 72)
    return [
        coder.encode(samples, 70, i == 0, tuple(range(i)), i, 0, 0, None, 1)
        for i, samples in enumerate(moving_frames(40, 72, 3))
    ]


def open_coder(module, n=3):
    """A coder with the first frames."""
    coder = module.Coder(40, 72)
    for i, payload in enumerate(sound_payloads()[:n]):
        coder.decode(payload, i == 0, tuple(range(i)), i)
    return coder


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_random_payloads_are_refused_or_decoded(payload, key, references):
    for module in MODULES:
        coder = open_coder(module)
        is_decoded(coder, payload, key, tuple(references), 5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2), st.lists(st.integers(0, 2**16), max_size=4), st.integers(0, 2**16))
def test_damaged_payloads_are_refused_or_decoded_alike(frame, flips, size):
    payload = sound_payloads()[frame]
    damaged = bytearray(payload)
    for flip in flips:
        damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    damaged = bytes(damaged[: max(1, size % (2 * len(damaged)))])
    results = {
        is_decoded(open_coder(module, frame), damaged, frame == 0, tuple(range(frame)), frame)
        for module in MODULES
    }
    assert len(results) == 1
    assert damaged != payload or results == {True}


@pytest.mark.parametrize("stream", STREAMS[:4], ids=lambda s: f"{s[0]}-{s[1]}x{s[2]}")
def test_a_payload_ends_where_it_ends(stream):
    steps, _ = invented(*stream)
    key = steps[0]
    assert len(key.payload) > 9
    half = key.payload[: len(key.payload) // 2]
    for payload in (key.payload + b"\0\0", key.payload + bytes(99), half):
        with pytest.raises(DamagedError):
            PlainHybrid(*stream[1:]).decode(payload, True, (), 0)
        for module in MODULES:
            coder = module.Coder(*stream[1:])
            with pytest.raises(BitstreamError, match="damaged"):
                coder.decode(payload, True, (), 0)
            np.testing.assert_array_equal(decoded(coder, key), key.frame)


class HighCode(Inventor):
    """Begins with bins whose code is as high as can be."""

    def part(self, split, likely):
        return super().part(split, 0.0 if self.shifted < 4 else likely)


def test_a_code_is_below_its_range():
    side, words = 128, {"bits": 0.3, "greater": 0.2, "significant": 0.2, "last": 0.2}
    tastes = {**words, "split": 0.9, "skip": 0.6, "greater": 0.1}
    plain = PlainHybrid(side, side)
    payloads = [plain.invent(Inventor(1, [0.1], {"bits": 0.3, "greater": 0.2}), 40, True, (), 0)]
    payloads += [
        plain.invent(Inventor(1 + i, [0.9], tastes), 40, False, (i - 1,), i) for i in (1, 2)
    ]
    sound = plain.invent(HighCode(9, [0.5], words), 40, False, (2,), 3)
    high = sound[:1] + b"\xff" * 4 + sound[5:]  # the bins of both are the same
    coder = MODULES[0].Coder(side, side)
    for i, payload in enumerate(payloads):
        coder.decode(payload, i == 0, tuple(range(i))[-1:], i)
    with pytest.raises(BitstreamError, match="damaged"):
        coder.decode(high, False, (2,), 3)
    with pytest.raises(DamagedError):
        plain.decode(high, False, (2,), 3)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xff\0\0\0"])
def test_a_quantizer_is_one_of_128(payload):
    with pytest.raises(BitstreamError, match="damaged"):
        MODULES[0].Coder(8, 8).decode(payload, True, (), 0)


# --------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("side", [(0, 8), (8, 0), (65536, 1), (4097, 4097), (-1, 5)])
def test_sides_have_bounds(side):
    with pytest.raises(ValueError, match="expected 1 to 65535"):
        MODULES[0].Coder(*side)


@pytest.mark.parametrize("slot", [-1, 8])
def test_slots_have_bounds(slot):
    coder, payloads = open_coder(MODULES[0]), sound_payloads()
    with pytest.raises(ValueError, match="expected 0 to 7"):
        coder.decode(payloads[0], True, (), slot)
    with pytest.raises(ValueError, match="holds no frame"):
        coder.frame(slot, np.empty((40, 72), np.int16))


@pytest.mark.parametrize("references", [(), (3,), (4,), (8,), (-1,), (0, 1, 2, 0, 1), (0, 7)])
def test_references_are_kept_frames(references):
    coder, payloads = open_coder(MODULES[0]), sound_payloads()
    with pytest.raises(ValueError, match="expected 1 to 4 slots"):
        coder.decode(payloads[1], False, references, 3)
    coder.decode(payloads[0], True, references, 3)  # a key frame has none


@pytest.mark.parametrize("shape", [(40, 71), (72, 41), (1, 1)])
def test_frames_fit(shape):
    coder = open_coder(MODULES[0])
    with pytest.raises(ValueError, match="does not fit"):
        coder.frame(0, np.empty(shape, np.int16))
    with pytest.raises(ValueError, match="40 x 72"):
        coder.encode(np.zeros(shape, np.int16), 40, True, (), 0, 0, 0, None, 1)


@pytest.mark.parametrize("value", [-1, 4096, 32767, -32768])
def test_samples_have_12_bits(value):
    samples = np.zeros((40, 72), np.int16)
    samples[39, 71] = value
    with pytest.raises(ValueError, match="from 0 to 4095"):
        MODULES[0].Coder(40, 72).encode(samples, 40, True, (), 0, 0, 0, None, 1)


# ----------------------------------------------------------------------------------------- workers


def encoded(coder, mapper, threads, slot=0):
    """A key frame of several rows of largest blocks."""
    samples = moving_frames(150, 136, 1)[0]
    return coder.encode(samples, 70, True, (), slot, 0, 0, mapper, threads)


def test_workers_change_no_bit():
    alone = encoded(MODULES[0].Coder(150, 136), None, 1)
    assert encoded(MODULES[0].Coder(150, 136), map, 4) == alone
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            assert encoded(MODULES[0].Coder(150, 136), pool.map, 3) == alone


def test_what_no_worker_did_is_done_all_the_same():
    alone = encoded(MODULES[0].Coder(150, 136), None, 1)
    late = []

    def lazy(function, items):
        late.extend((function, item) for item in items)
        return ()

    coder = MODULES[0].Coder(150, 136)
    assert encoded(coder, lazy, 3) == alone
    assert len(late) == 3
    for function, item in late:
        function(item)  # too late: the frame is finished
    before, after = np.empty((2, 150, 136), np.int16)
    coder.frame(0, before)
    coder.decode(alone, True, (), 1)
    coder.frame(1, after)
    np.testing.assert_array_equal(before, after)


def test_errors_of_the_mapper_are_the_callers():
    def broken(function, items):
        raise KeyError("no threads")

    coder = MODULES[0].Coder(150, 136)
    with pytest.raises(KeyError, match="no threads"):
        encoded(coder, broken, 2)
    with pytest.raises(ValueError, match="holds no frame"):
        coder.frame(0, np.empty((150, 136), np.int16))
    assert encoded(coder, None, 1) == encoded(MODULES[0].Coder(150, 136), None, 1)


def test_a_coder_does_one_frame_at_a_time():
    coder = MODULES[0].Coder(150, 136)

    def curious(function, items):
        with pytest.raises(RuntimeError, match="at work"):
            coder.decode(b"\0", True, (), 1)
        return map(function, items)

    encoded(coder, curious, 2)

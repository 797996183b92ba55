"""The hybrid layer's encoder: any frame at any size, the same bits however it is run."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hybrid_samples import moving_frames, native_modules

MODULES = native_modules()
EFFORTS = (0, 1, 2)
SHAPES = ((1, 1), (7, 9), (65, 130))
TOP = 4095


def flat(shape):
    return [np.full(shape, value, np.int16) for value in (0, TOP, 2000)]


def checkered(shape):
    board = (np.indices(shape).sum(axis=0) % 2 * TOP).astype(np.int16)
    return [board, TOP - board, board]


def noisy(shape):
    generator = np.random.default_rng(7)
    return [generator.integers(0, TOP + 1, shape).astype(np.int16) for _ in range(3)]


def moving(shape):
    return list(moving_frames(*shape, 5))


def code(module, frames, quantizer, effort, mapper=None, threads=1):
    """Payloads and reconstructions of a group in low delay."""
    coder = module.Coder(*frames[0].shape)
    payloads, decoded = [], []
    for i, samples in enumerate(frames):
        references = tuple(range(i))[::-1][:4]
        payloads.append(
            coder.encode(
                samples, quantizer, i == 0, references, i, effort, min(i, 1), mapper, threads
            )
        )
        decoded.append(np.empty(samples.shape, np.int16))
        coder.frame(i, decoded[-1])
    return payloads, decoded


def decode(module, payloads, shape):
    coder = module.Coder(*shape)
    for i, payload in enumerate(payloads):
        coder.decode(payload, i == 0, tuple(range(i))[::-1][:4], i)
        out = np.empty(shape, np.int16)
        coder.frame(i, out)
        yield out


def error(frames, decoded):
    return float(np.mean((np.array(frames, np.float64) - np.array(decoded)) ** 2))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("quantizer", [36, 127])
@pytest.mark.parametrize("kind", [flat, checkered, noisy, moving])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoder_reconstructs_what_the_encoder_did(shape, kind, quantizer, effort):
    payloads, decoded = code(MODULES[-1], kind(shape), quantizer, effort)
    for ours, theirs in zip(decode(MODULES[-1], payloads, shape), decoded, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("kind", [noisy, moving])
def test_modules_encode_to_the_same_bits(kind, effort):
    frames = kind((72, 80))
    first, *others = (code(module, frames, 62, effort) for module in MODULES)
    for payloads, decoded in others:
        assert payloads == first[0]
        np.testing.assert_array_equal(decoded, first[1])


@pytest.mark.parametrize("effort", EFFORTS)
def test_threads_change_no_bit(effort):
    frames = moving((200, 72))  # costs follow the contexts, on one thread, in the first three
    alone, _ = code(MODULES[-1], frames, 58, effort)
    with ThreadPoolExecutor(2) as pool:
        together, _ = code(MODULES[-1], frames, 58, effort, pool.map, 2)
        crowded, _ = code(MODULES[-1], frames, 58, effort, pool.map, 16)
    mapped, _ = code(MODULES[-1], frames, 58, effort, map, 3)
    assert alone == together == crowded == mapped


@functools.cache
def sizes_and_errors(effort):
    frames = moving((96, 128))
    coded = [code(MODULES[-1], frames, quantizer, effort) for quantizer in range(30, 91, 12)]
    sizes = [sum(map(len, payloads)) for payloads, _ in coded]
    return sizes, [error(frames, decoded) for _, decoded in coded]


@pytest.mark.parametrize("effort", EFFORTS)
def test_coarser_quantizers_take_fewer_bits_and_more_error(effort):
    sizes, errors = sizes_and_errors(effort)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 10
    assert errors == sorted(errors)


@pytest.mark.parametrize("effort", EFFORTS)
def test_error_is_in_proportion_to_the_step(effort):
    frames = [1900 + samples // 20 for samples in noisy((64, 64))]
    for quantizer in (30, 42):
        delta = 2 ** ((quantizer - 24) / 6)
        _, decoded = code(MODULES[-1], frames, quantizer, effort)
        assert delta**2 / 60 < error(frames, decoded) < delta**2 / 4


def test_more_effort_pays():
    costs = []
    deltas = 2.0 ** ((np.arange(30, 91, 12) - 24) / 6)
    for effort in EFFORTS:
        sizes, errors = (np.array(values) for values in sizes_and_errors(effort))
        costs.append(np.sum(errors / deltas**2 * 5 * 96 * 128 + 0.1 * 8 * sizes))
    assert costs[2] < costs[1] < costs[0]


def test_a_frame_seen_before_costs_next_to_nothing():
    frame = moving((128, 128))[0]
    for effort in EFFORTS:
        payloads, decoded = code(MODULES[-1], [frame, frame, frame], 66, effort)
        assert len(payloads[2]) < 16 < len(payloads[0]) / 4
        np.testing.assert_array_equal(decoded[2], decoded[1])


def test_motion_is_found():
    generator = np.random.default_rng(3)
    rough = generator.integers(0, TOP, (40, 40))
    scene = np.kron(rough, np.ones((6, 6))).astype(np.float64)
    for axis in (0, 1):
        scene = sum(np.roll(scene, k, axis) for k in range(-3, 4)) / 7
    frames = [scene[20:148, 20 + 5 * i : 148 + 5 * i].astype(np.int16) for i in range(3)]
    for effort in EFFORTS:
        payloads, _ = code(MODULES[-1], frames, 60, effort)
        assert len(payloads[2]) < len(payloads[0]) / 8

"""Entropy coders, the residual layer, packets."""

# ruff: noqa: D103, D401 -- described as tests are

import numpy as np
import pytest

from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.entropy import rans
from edge_codec.entropy.cdf import normalize_counts
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.spec import Effort

COUNT = 1 << 16
EFFORTS = [Effort.FAST, Effort.DEFAULT]


@pytest.fixture(scope="module")
def static():
    """Symbols, contexts and the tables that they were drawn from."""
    rng = np.random.default_rng(0)
    cdfs = normalize_counts((rng.gamma(0.5, size=(64, 64)) * 1e6).astype(int))
    contexts = rng.integers(0, 64, COUNT).astype(np.uint16)
    slots = rng.integers(0, 65536, COUNT)
    symbols = np.zeros(COUNT, np.uint8)
    for context in range(64):
        chosen = contexts == context
        symbols[chosen] = np.searchsorted(cdfs[context], slots[chosen], side="right") - 1
    return symbols, cdfs, contexts


@pytest.fixture(scope="module")
def adaptive():
    """Symbols and contexts of an adaptive coder."""
    rng = np.random.default_rng(0)
    symbols = np.minimum(np.abs(rng.laplace(size=COUNT)) * 2, 15).astype(np.uint8)
    return symbols, rng.integers(0, 16, COUNT).astype(np.uint16), 16


def bench_rans_static_encode(benchmark, static):
    payload = benchmark(rans.encode_static, *static)
    assert np.array_equal(rans.decode_static(payload, COUNT, *static[1:]), static[0])


def bench_rans_static_decode(benchmark, static):
    payload = rans.encode_static(*static)
    assert np.array_equal(benchmark(rans.decode_static, payload, COUNT, *static[1:]), static[0])


def bench_rans_adaptive_encode(benchmark, adaptive):
    payload = benchmark(rans.encode_adaptive, *adaptive)
    assert np.array_equal(rans.decode_adaptive(payload, COUNT, *adaptive[1:]), adaptive[0])


def bench_rans_adaptive_decode(benchmark, adaptive):
    payload = rans.encode_adaptive(*adaptive)
    decoded = benchmark(rans.decode_adaptive, payload, COUNT, *adaptive[1:])
    assert np.array_equal(decoded, adaptive[0])


def coders(frames, effort):
    """Encoder and decoder of the frames' slice, lossless, one thread."""
    rows, columns = frames.shape[1:]
    arguments = (rows, columns, int(frames.max()), 0, False, map, effort)
    return ResidualEncoder(*arguments), ResidualDecoder(*arguments)


@pytest.mark.parametrize("effort", EFFORTS, ids=lambda effort: effort.name.lower())
def bench_residual_encode(benchmark, frames, effort):
    """A predicted frame, again and again: without `commit` the state stays as it is."""
    encoder, decoder = coders(frames, effort)
    payload, _ = encoder.encode(frames[0], None, True)
    encoder.commit()
    decoder.decode(payload, None, True)
    payload, _ = benchmark(encoder.encode, frames[1], None, False)
    assert np.array_equal(decoder.decode(payload, None, False), frames[1])


@pytest.mark.parametrize("effort", EFFORTS, ids=lambda effort: effort.name.lower())
def bench_residual_decode(benchmark, frames, effort):
    """A key frame, again and again: it needs nothing of what came before."""
    encoder, decoder = coders(frames, effort)
    payload, _ = encoder.encode(frames[0], None, True)
    assert np.array_equal(benchmark(decoder.decode, payload, None, True), frames[0])


@pytest.fixture(scope="module")
def packet():
    """As large as a lossless frame's."""
    payload = np.random.default_rng(0).bytes(32_000)
    return Packet(7, 1, 9, False, {LayerId.RESIDUAL: payload})


def bench_packet_pack(benchmark, packet):
    assert Packet.unpack(benchmark(packet.pack)) == packet


def bench_packet_unpack(benchmark, packet):
    assert benchmark(Packet.unpack, packet.pack()) == packet

"""The VQ-VAE: its networks on each CPU backend that is installed, codebook lookup, token coder."""

# ruff: noqa: D103, D401 -- described as tests are

import numpy as np
import pytest

from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import EngineError
from edge_codec.runtime.models import load_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec

BACKENDS = ("onnxruntime", "openvino", "native")


@pytest.fixture(scope="module", params=BACKENDS)
def model(request):
    """The shipped model, one thread."""
    try:
        return load_model(ModelId.VQVAE, backend=request.param, threads=1)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plain():
    """The same on the backend that every install has."""
    return load_model(ModelId.VQVAE, backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def codes(frames):
    """A frame as the encoder network gets it."""
    high = int(frames[0].max())
    return (frames[0] * 192 // high).astype(np.uint8)[None, None]


def bench_network_encoder(benchmark, model, plain, codes):
    assert np.array_equal(benchmark(model.encoder.run, codes), plain.encoder.run(codes))


def bench_network_decoder(benchmark, model, plain, codes):
    tokens = plain.lookup.nearest(plain.encoder.run(codes)[0]).astype(np.int32)[None]
    assert np.array_equal(benchmark(model.decoder.run, tokens), plain.decoder.run(tokens))


def bench_lookup(benchmark, plain, codes):
    latents = plain.encoder.run(codes)[0]
    tokens = benchmark(plain.lookup.nearest, latents)
    assert tokens.shape == (32, 32)
    assert np.array_equal(tokens, plain.lookup.nearest(latents))


def bench_tokens_encode(benchmark, plain, codes):
    tokens = plain.lookup.nearest(plain.encoder.run(codes)[0])
    payload = benchmark(plain.tokens.encode, tokens, tokens)
    assert np.array_equal(plain.tokens.decode(payload, 32, 32, tokens), tokens)


def bench_tokens_decode(benchmark, plain, codes):
    tokens = plain.lookup.nearest(plain.encoder.run(codes)[0])
    payload = plain.tokens.encode(tokens, tokens)
    assert np.array_equal(benchmark(plain.tokens.decode, payload, 32, 32, tokens), tokens)


def bench_frame_encode(benchmark, model, frames):
    """A whole frame of the base layer, from samples to packet."""
    rows, columns = frames.shape[1:]
    info = CineInfo(1, 0, rows, columns, np.dtype(np.uint32))
    spec = StreamSpec(info, 0, int(frames.max()), ModelId.VQVAE, (), None, 1, 0,
                      int(frames.max()))  # fmt: skip
    encoder = Encoder(spec, model)
    packet = benchmark(encoder.push, frames[0])
    assert Decoder(spec, model).push(packet).shape == (rows, columns)
    assert set(packet.layers) == {LayerId.BASE}

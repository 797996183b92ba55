"""Damaged layers behind right checksums: the coders refuse or decode, and never crash."""

import random
import zlib
from dataclasses import replace

import numpy as np
import pytest

from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder, Encoder, frame_check
from edge_codec.errors import BitstreamError, EngineError
from edge_codec.runtime.models import load_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec

INPUTS = 20_000


@pytest.mark.slow
@pytest.mark.parametrize("layer", [LayerId.BASE, LayerId.RESIDUAL])
@pytest.mark.parametrize("bound", [0, 5])
def test_hostile_payloads(layer, bound):
    model = load_model(ModelId.VQVAE, backend="onnxruntime", threads=1)
    rng = np.random.default_rng(13)
    frames = rng.integers(0, 900, (2, 16, 16)).astype(np.int16)
    info = CineInfo(1, 2, 16, 16, dtype=frames.dtype)
    spec = StreamSpec(
        info, 0, 900, model=ModelId.VQVAE, max_error=bound, window_low=0, window_high=800
    )
    encoder = Encoder(spec, model)
    packets = [encoder.push(frame) for frame in frames]
    chance = random.Random(bound)
    refused = 0
    for _ in range(INPUTS // 4):
        decoder = Decoder(spec, model)
        decoder.push(packets[0])
        payload = mutate(packets[1].layers[layer], chance)
        try:
            decoder.push(replace(packets[1], layers={**packets[1].layers, layer: payload}))
        except (BitstreamError, EngineError):
            refused += 1
    # What is left decodes to the same frame: flips in bits that the coder never reads.
    assert refused > INPUTS // 4 * 0.99


def mutate(payload, chance):
    """Flip, cut, splice or replace bytes of a payload."""
    data = bytearray(payload)
    for _ in range(chance.randint(1, 3)):
        kind = chance.randrange(4)
        position = chance.randrange(len(data)) if data else 0
        if kind == 0 and data:
            data[position] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[position:]
        elif kind == 2:
            data[position:position] = chance.randbytes(chance.randint(1, 9))
        elif data:
            data[position : position + 4] = chance.choice([b"\0\0\0\0", b"\xff\xff\xff\xff"])
    return bytes(data)


def test_frame_check_is_the_documented_one():
    # CRC-32/ISO-HDLC of 01 00 00 00 02 01 00 00.
    assert frame_check(np.array([[1, 258]], np.uint32)) == zlib.crc32(b"\1\0\0\0\2\1\0\0")

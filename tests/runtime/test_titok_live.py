"""Live streams of tokens: frames in, 32 tokens each out."""

from __future__ import annotations

import numpy as np
import pytest
from live_samples import no_thread_is_left

from edge_codec.base.titok.conditions import ClinicalFacts, unpack_facts
from edge_codec.base.titok.reading import load_prior
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder
from edge_codec.errors import SpecError
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.models import load_model
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import ModelId

__all__ = ["no_thread_is_left"]

IMAGES = heart(4, 48, 40, np.dtype(np.int16))


def test_a_stream_of_previews():
    sink = PacketList()
    options = LiveOptions(
        ModelId.TITOK, None, backend="onnxruntime", threads=1, budget_ms=0, key_interval=3
    )
    with Pipeline() as pipeline:
        stream = pipeline.open("s", options, [sink])
        for image in IMAGES:
            stream.push(image)
    spec = sink.segments[0].spec
    assert unpack_facts(spec.model_data) == ClinicalFacts()
    model = load_model(ModelId.TITOK, backend="onnxruntime", threads=1, decode_only=True)
    decoder, tokens = Decoder(spec, model), TokenCoder(load_prior())
    assert [packet.key for _, packet, _ in sink.sent] == [True, False, False, True]
    for _, packet, _ in sink.sent:
        assert set(packet.layers) == {LayerId.BASE, LayerId.LIVE}
        assert tokens.decode(packet.layers[LayerId.BASE], packet.key).shape == (32,)
        assert decoder.push(packet).shape == (48, 40)


def test_nothing_can_be_promised():
    with pytest.raises(SpecError, match="takes no bound"):
        LiveOptions(ModelId.TITOK, 0)

"""Groups without a base layer in a stream that has one: refused, decoded, previewed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_codec.base.hybrid.model import HybridModel
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import Decoder, Encoder
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.runtime.models import decoding_hashes, load_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec

PHASES, ROWS, COLUMNS, INTERVAL = 8, 24, 40, 4
MODELS = (ModelId.DWT_CAL, ModelId.VQVAE)


def make_spec(model=ModelId.DWT_CAL, max_error=0, **changes):
    info = CineInfo(1, PHASES, ROWS, COLUMNS, np.dtype(np.int16))
    return StreamSpec(
        info, 0, 999, model, decoding_hashes(model), max_error, key_interval=INTERVAL,
        window_high=999, **changes,
    )  # fmt: skip


def frames(seed=1):
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    rng = np.random.default_rng(seed)
    waves = [400 + 300 * np.sin((rows + t) / 5) * np.cos(columns / 7) for t in range(PHASES)]
    return [(wave + rng.normal(0, 20, wave.shape)).astype(np.int16) for wave in waves]


def encode(spec, *, empty):
    model = None if empty else load_model(spec.model)
    encoder = Encoder(spec, model, empty_base=empty)
    found = frames()
    return [encoder.push(found[encoder.next_phase()]) for _ in found]


def mixed(spec, *, first_is_empty):
    """Return packets of two groups, one of them without a base layer."""
    groups = [encode(spec, empty=first_is_empty), encode(spec, empty=not first_is_empty)]
    return [*groups[0][:INTERVAL], *groups[1][INTERVAL:]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("first_is_empty", [True, False])
@pytest.mark.parametrize("max_error", [0, 5])
def test_groups_decode_with_and_without_base(model, first_is_empty, max_error):
    spec = make_spec(model, max_error)
    decoder = Decoder(spec, load_model(model))
    for packet in mixed(spec, first_is_empty=first_is_empty):
        found = decoder.push(packet)
        error = np.abs(found.astype(int) - frames()[packet.phase_index])
        assert error.max() <= max_error


@pytest.mark.parametrize("first_is_empty", [True, False])
def test_groups_of_an_archive(first_is_empty):
    spec = make_spec(archive=True)
    decoder = Decoder(spec, HybridModel())
    for packet in mixed(spec, first_is_empty=first_is_empty):
        np.testing.assert_array_equal(decoder.push(packet), frames()[packet.phase_index])


def test_what_has_no_base_is_coded_as_in_a_stream_without_model():
    spec = make_spec()
    plain = Encoder(replace(spec, model=ModelId.NONE))
    for packet, frame in zip(encode(spec, empty=True), frames(), strict=True):
        assert packet.layers[LayerId.BASE] == b""
        residual = plain.push(frame).layers[LayerId.RESIDUAL]
        assert packet.layers[LayerId.RESIDUAL] == residual


def test_a_preview_is_the_base_or_the_frame_itself():
    spec = make_spec()
    whole = encode(spec, empty=False)
    base = Decoder(spec, HybridModel(), preview=True)
    bases = [base.push(packet) for packet in whole]
    decoder = Decoder(spec, HybridModel(), preview=True)
    shown = [decoder.push(packet) for packet in mixed(spec, first_is_empty=True)]
    np.testing.assert_array_equal(shown[:INTERVAL], frames()[:INTERVAL])
    np.testing.assert_array_equal(shown[INTERVAL:], bases[INTERVAL:])
    assert not np.array_equal(shown[INTERVAL:], frames()[INTERVAL:])


def test_an_encoder_that_leaves_base_layers_empty_begins_again():
    spec = make_spec()
    encoder = Encoder(spec, empty_base=True)
    first = [encoder.push(frame) for frame in frames()[:6]]
    encoder.restart()
    assert [encoder.push(frame) for frame in frames()[:6]] == first


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_a_group_that_is_half_without_base_is_damage(empty, preview):
    spec = make_spec()
    groups, others = encode(spec, empty=empty), encode(spec, empty=not empty)
    decoder = Decoder(spec, HybridModel(), preview)
    decoder.push(groups[0])
    with pytest.raises(BitstreamError, match="all base layers of a group are empty, or none"):
        decoder.push(others[1])
    with pytest.raises(BitstreamError, match="next key frame"):
        decoder.push(groups[1])
    decoder.push(others[INTERVAL])


def test_a_stream_of_a_base_alone_has_one_in_every_frame():
    spec = make_spec()
    packet = encode(spec, empty=True)[0]
    alone = replace(packet, layers={LayerId.BASE: b""})
    with pytest.raises(BitstreamError, match="lacks its base layer"):
        Decoder(make_spec(max_error=None), HybridModel()).push(alone)
    for wrong in (make_spec(max_error=None), make_spec(ModelId.NONE)):
        with pytest.raises(SpecError, match="can a base layer be empty"):
            Encoder(wrong, empty_base=True)

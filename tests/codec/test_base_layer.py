"""The codec over a base layer it knows nothing of: order, checks and the archive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_base import STEP, ToyModel

from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import BASE_CHECK, Decoder, Encoder, Resume, samples, slice_size
from edge_codec.errors import BitstreamError, EngineError, FrameError, SpecError
from edge_codec.group_order import coding_order
from edge_codec.spec import CineInfo, ModelId, StreamSpec

PHASES, SLICES, INTERVAL = 11, 2, 6
RNG = np.random.default_rng(4)
FRAMES = RNG.integers(-50, 900, (SLICES, PHASES, 9, 13)).astype(np.int16)
ORDER = [*coding_order(6), *(6 + place for place in coding_order(5))]


def make_spec(**options) -> StreamSpec:
    info = CineInfo(SLICES, PHASES, 9, 13, np.dtype(np.int16))
    options = {"archive": True, "key_interval": INTERVAL, "max_error": 0} | options
    return StreamSpec(info, low=-50, high=900, model=ModelId.DWT_CAL, **options)


def encode(spec: StreamSpec, model: ToyModel, turns: int = PHASES) -> list[Packet]:
    """Code the frames of both slices in turn, each in the order that the encoder tells."""
    encoder, packets = Encoder(spec, model), []
    for _ in range(turns):
        for index in range(SLICES):
            phase = encoder.next_phase(index)
            packets.append(encoder.push(FRAMES[index, phase], index))
    return packets


def test_an_archive_is_coded_in_its_order_and_comes_back():
    spec, encoding, decoding = make_spec(), ToyModel(), ToyModel()
    packets = encode(spec, encoding)
    assert list(range(PHASES)) != ORDER
    for index in range(SLICES):
        assert [p.phase_index for p in packets if p.slice_index == index] == ORDER
    assert [p.phase_index for p in packets if p.key] == [0, 0, 6, 6]
    decoder = Decoder(spec, decoding)
    for packet in packets:
        frame = decoder.push(packet)
        np.testing.assert_array_equal(frame, FRAMES[packet.slice_index, packet.phase_index])
    seen = [(phase, phase % INTERVAL == 0) for phase in ORDER]
    assert [coder.seen for coder in encoding.coders] == [seen, seen]
    # A key frame begins with a new coder, as it does after damage.
    assert [coder.seen for coder in decoding.coders[::SLICES]] == [seen[:6], seen[6:]]


def test_low_delay_counts_phases_in_rising_order():
    spec = make_spec(archive=False)
    model = ToyModel()
    packets = encode(spec, model)
    assert [p.phase_index for p in packets[::SLICES]] == list(range(PHASES))
    assert model.coders[1].seen == [(phase, phase % INTERVAL == 0) for phase in range(PHASES)]


def test_frames_of_several_slices_at_once_carry_their_phases():
    spec, model = make_spec(), ToyModel()
    encoder = Encoder(spec, model)
    encoder.push(FRAMES[1, 0], 1)
    packets = encoder.push_many([(0, FRAMES[0, 0]), (1, FRAMES[1, ORDER[1]])])
    assert [(p.slice_index, p.phase_index, p.key) for p in packets] == [
        (0, 0, True), (1, ORDER[1], False),
    ]  # fmt: skip
    assert [coder.seen[-1] for coder in model.coders] == [(ORDER[1], False), (0, True)]


def test_a_base_layer_alone_is_what_the_encoder_shows_to_its_watch():
    spec, shown = make_spec(max_error=None), []
    model = ToyModel()

    def watch(samples, base):
        shown.append((samples.copy(), base.copy()))

    encoder, decoder = Encoder(spec, model, watch=watch), Decoder(spec, ToyModel())
    for phase in ORDER:
        decoded = decoder.push(encoder.push(FRAMES[0, phase]))
        samples, base = shown.pop()
        np.testing.assert_array_equal(samples, FRAMES[0, phase] + 50)
        np.testing.assert_array_equal(base, samples // STEP * STEP)
        np.testing.assert_array_equal(decoded, base.astype(int) - 50)
    assert not shown


def test_the_model_is_given_the_mapper():
    spec, model = make_spec(), ToyModel()

    def mapper(function, items):
        return [function(item) for item in items]

    Encoder(spec, model, mapper).push(FRAMES[0, 0])
    assert model.mappers == [mapper]


def test_the_check_of_a_base_frame_takes_two_bytes_and_finds_other_arithmetic():
    spec = make_spec(max_error=None)
    packet = encode(spec, ToyModel(), 1)[0]
    layer = packet.layers[LayerId.BASE]
    assert layer[2] == 0  # the toy's own first byte, its phase

    class OtherModel(ToyModel):
        def coder(self, spec, mapper):
            coder = super().coder(spec, mapper)
            decode = coder.decode
            coder.decode = lambda *frame: decode(*frame) + np.uint32(1)
            return coder

    with pytest.raises(EngineError, match="base layer: the decoded frame is not the one"):
        Decoder(spec, OtherModel()).push(packet)
    short = replace(packet, layers={LayerId.BASE: layer[: BASE_CHECK.size - 1]})
    with pytest.raises(BitstreamError, match="lacks its base layer"):
        Decoder(spec, ToyModel()).push(short)


def test_a_lost_packet_of_an_archive_loses_its_group_and_no_more():
    spec = make_spec()
    packets = [p for p in encode(spec, ToyModel()) if p.slice_index == 0]
    decoder = Decoder(spec, ToyModel())
    for packet in packets[:2]:
        decoder.push(packet)
    for packet in packets[3:6]:
        with pytest.raises(BitstreamError, match="the packet before it is missing"):
            decoder.push(packet)
    for packet in packets[6:]:
        np.testing.assert_array_equal(decoder.push(packet), FRAMES[0, packet.phase_index])


def test_an_archive_has_key_frames_where_groups_begin_and_nowhere_else():
    spec = make_spec()
    encoder = Encoder(spec, ToyModel())
    assert encoder.push(FRAMES[0, 0], key=True).key
    with pytest.raises(FrameError, match="phase 3 of an archive cannot be a key frame"):
        encoder.push(FRAMES[0, 3], key=True)
    packet = encoder.push(FRAMES[0, 3])  # what was refused harmed nothing
    assert (packet.phase_index, packet.key) == (3, False)
    with pytest.raises(BitstreamError, match="phase 3 is a key frame within a group of 6"):
        Decoder(spec, ToyModel()).push(replace(packet, key=True))
    with pytest.raises(BitstreamError, match="phase 0 must be a key frame"):
        Decoder(spec, ToyModel()).push(replace(packet, phase_index=0))


def test_an_archive_goes_on_where_a_group_begins():
    spec = make_spec()
    encoder = Encoder(spec, ToyModel(), resume=Resume(13, {0: 6, 1: PHASES}))
    packet = encoder.push(FRAMES[0, 6])
    assert (packet.sequence, packet.phase_index, packet.key) == (13, 6, True)
    with pytest.raises(FrameError, match="all its phases"):
        encoder.next_phase(1)
    with pytest.raises(SpecError, match="cannot go on at phase 5"):
        Encoder(spec, ToyModel(), resume=Resume(5, {0: 5}))


def test_the_next_phase_of_slices_that_have_none():
    spec = make_spec()
    encoder = Encoder(spec, ToyModel())
    with pytest.raises(FrameError, match="slice 2 of a stream of 2"):
        encoder.next_phase(2)
    for _ in range(PHASES):
        encoder.push(FRAMES[0, encoder.next_phase()])
    with pytest.raises(FrameError, match="slice 0 has all its phases"):
        encoder.next_phase()
    assert encoder.next_phase(1) == 0
    encoder.restart()
    assert encoder.next_phase() == 0


def test_slices_count_as_what_their_models_take(monkeypatch):
    sizes = [slice_size(model, 9, 13) for model in sorted(ModelId)]
    none, tokens, hybrid, video, learned, preview, groups = sizes
    assert none <= tokens <= preview == groups < hybrid <= learned < video
    monkeypatch.setattr(samples, "MAX_OPEN_VOXELS", 2 * slice_size(ModelId.VQVAE, 9, 13))
    spec = make_spec()
    encoder, decoder = Encoder(spec, ToyModel()), Decoder(spec, ToyModel())
    packet = encoder.push(FRAMES[0, 0])
    decoder.push(packet)
    with pytest.raises(SpecError, match="exceed the limit"):
        encoder.push(FRAMES[1, 0], 1)
    with pytest.raises(BitstreamError, match="exceed the limit"):
        decoder.push(replace(packet, slice_index=1))

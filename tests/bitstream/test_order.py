from __future__ import annotations

import pytest
from stream_samples import make_packets, make_spec

from edge_codec.bitstream.order import PacketOrder, layers_due
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.short_packet import Place
from edge_codec.spec import ModelId

RESIDUAL = {LayerId.RESIDUAL: b"x"}


def after(*places: tuple[int, int]) -> PacketOrder:
    """An order that has accepted packets of these (slice, phase), with key interval 4."""
    order = PacketOrder(make_spec(2, 9, key_interval=4))
    for sequence, (slice_index, phase) in enumerate(places):
        order.accept(Packet(sequence, slice_index, phase, phase % 4 == 0, RESIDUAL))
    return order


def packet(slice_index: int, phase: int, **changes: object) -> Packet:
    fields = {"key": phase % 4 == 0, "layers": RESIDUAL} | changes
    return Packet(99, slice_index, phase, **fields)  # type: ignore[arg-type]


def test_packets_in_order_are_right() -> None:
    spec = make_spec(3, 7, rich=True, key_interval=3)
    order = PacketOrder(spec)
    for item in make_packets(spec):
        assert order.next_sequence == item.sequence
        for view in (item, item.head):
            assert order.misfit(view) is None
            assert order.break_of_chain(view) is None
            assert order.gap_before(view) is None
        order.accept(item)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (packet(2, 0), "slice 2, but the header says 2"),
        (packet(0, 9), "phase 9, but the header says 9"),
        (packet(0, 4, key=False), "phase 4 is no key frame, but must be one"),
        (packet(0, 4, layers={}), "demands"),
        (packet(0, 4, layers={LayerId.METADATA: b""}), "demands"),
    ],
)
def test_misfit(wrong: Packet, message: str) -> None:
    for view in (wrong, wrong.head):
        assert message in str(after().misfit(view))


@pytest.mark.parametrize("phase", [1, 3, 4, 5, 7])
def test_key_frame_fits_at_any_phase(phase: int) -> None:
    assert after().misfit(packet(0, phase, key=True)) is None
    assert after((0, 0)).break_of_chain(packet(0, phase, key=True)) is None


@pytest.mark.parametrize("layer", [LayerId.METADATA, LayerId.LIVE])
def test_layers_that_need_not_be_there(layer: LayerId) -> None:
    for view in (packet(0, 4, layers={layer: b"", **RESIDUAL}),):
        assert after().misfit(view) is None
        assert after().misfit(view.head) is None
    assert "demands" in str(after().misfit(packet(0, 4, layers={layer: b""})))


def test_phase_before_so_many_packets_is_a_misfit() -> None:
    order = PacketOrder(make_spec(1, 0, key_interval=1))
    assert "after only 3" in str(order.misfit(Packet(3, 0, 4, True, RESIDUAL)))
    assert order.misfit(Packet(4, 0, 4, True, RESIDUAL)) is None


@pytest.mark.parametrize("phase", [0, 1, 4])
def test_phase_that_does_not_rise_breaks_the_chain(phase: int) -> None:
    order = after((0, 0), (0, 1), (0, 2), (0, 3), (0, 4))
    assert "follows its phase 4" in str(order.break_of_chain(packet(0, phase)))


@pytest.mark.parametrize(("phase", "broken"), [(1, True), (2, False), (3, True), (4, False)])
def test_only_the_next_phase_or_a_key_frame_goes_on(phase: int, broken: bool) -> None:
    order = after((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert bool(order.break_of_chain(packet(0, phase))) is broken


def test_gap() -> None:
    order = after((0, 0), (0, 1))
    assert order.gap_before(packet(0, 2)) is None
    assert "phases 2 to 3 of slice 0" in str(order.gap_before(packet(0, 4)))
    assert "phases 0 to 3 of slice 1" in str(order.gap_before(packet(1, 4)))


def test_lost_packet_counts_but_is_no_base() -> None:
    order = after((0, 0))
    order.pass_by(packet(0, 1))
    assert order.next_sequence == 100
    assert order.break_of_chain(packet(0, 2)) is not None


def test_follow_is_the_next_frame_of_the_slice_or_of_the_next_one() -> None:
    order = after((0, 0), (1, 0), (0, 1))
    assert order.follow(False) == Place(3, 0, 2)
    assert order.follow(True) == Place(3, 1, 1)
    order = after((0, 0), (1, 0))
    assert order.follow(True) == Place(2, 0, 1)  # the first slice comes after the last
    assert order.follow(True, last=Place(7, 0, 3)) == Place(8, 1, 1)
    assert order.follow(False, last=Place(7, 0, 3)) == Place(8, 0, 4)
    assert order.follow(False) == Place(2, 1, 1)


def test_nothing_follows_where_nothing_is_or_all_is() -> None:
    assert after().follow(False) is None
    assert after().follow(True) is None
    full = after(*((0, phase) for phase in range(9)))
    assert full.follow(False) is None
    assert full.follow(True) == Place(9, 1, 0)


def test_packet_that_was_assumed_is_followed_and_is_not_decodable() -> None:
    order = after((0, 0), (0, 1))
    order.assume(Place(2, 0, 2))
    assert order.next_sequence == 2
    assert order.follow(False) == Place(3, 0, 3)
    assert order.break_of_chain(packet(0, 3)) is not None
    order.assume(Place(3, 1 << 31, 0))  # hostile
    assert order.follow(False) is not None


@pytest.mark.parametrize(
    ("model", "max_error", "due"),
    [
        (ModelId.NONE, 0, (1,)),
        (ModelId.DWT_CAL, None, (0,)),
        (ModelId.VQVAE, 2, (0, 1)),
        (ModelId.VIDEO, 0, (0, 1)),
    ],
)
def test_layers_due(model: ModelId, max_error: int | None, due: tuple[int, ...]) -> None:
    assert layers_due(make_spec(model=model, max_error=max_error)) == due


ARCHIVE = make_spec(2, 11, key_interval=6, model=ModelId.DWT_CAL, max_error=None, archive=True)
ORDER = [0, 3, 1, 2, 4, 5, 6, 8, 7, 9, 10]  # groups of 6 and 5 phases


def archive(*places: tuple[int, int]) -> PacketOrder:
    order = PacketOrder(ARCHIVE)
    for sequence, (slice_index, phase) in enumerate(places):
        order.accept(Packet(sequence, slice_index, phase, phase % 6 == 0, {LayerId.BASE: b""}))
    return order


def frame(phase: int, slice_index: int = 0, key: bool = False) -> Packet:
    return Packet(99, slice_index, phase, key, {LayerId.BASE: b""})


def test_frames_of_an_archive_come_in_the_order_of_coding() -> None:
    order = PacketOrder(ARCHIVE)
    for item in make_packets(ARCHIVE):
        assert order.misfit(item) is None
        assert order.break_of_chain(item) is None
        assert order.gap_before(item) is None
        order.accept(item)
    assert [p.phase_index for p in make_packets(ARCHIVE)[::2]] == ORDER


def test_archive_goes_on_at_its_next_frame_only() -> None:
    for turn in range(1, 6):
        order = archive(*((0, phase) for phase in ORDER[:turn]))
        assert order.next_phases == {0: ORDER[turn]}
        assert order.follow(False) == Place(turn, 0, ORDER[turn])
        for phase in range(1, 6):
            due = "" if phase == ORDER[turn] else None
            broken = order.break_of_chain(frame(phase))
            assert (broken is None) == (due is not None), (turn, phase)
        assert order.break_of_chain(frame(6, key=True)) is None


def test_archive_names_what_is_missing() -> None:
    order = archive((0, 0), (0, 3))
    assert "follows its phase 3" in str(order.break_of_chain(frame(0, key=True)))
    assert "phase 1 before it is lost" in str(order.break_of_chain(frame(2)))
    assert "4 frames of slice 0 before it" in str(order.gap_before(frame(6, key=True)))


def test_archive_has_no_key_frames_within_a_group() -> None:
    assert "only multiples" in str(archive().misfit(frame(3, key=True)))
    assert "must be one" in str(archive().misfit(frame(6)))
    early = Packet(0, 0, 3, False, {LayerId.BASE: b""})
    assert "after only 0" in str(archive().misfit(early))
    assert archive().misfit(Packet(1, 0, 3, False, {LayerId.BASE: b""})) is None

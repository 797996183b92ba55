from __future__ import annotations

import pytest
from stream_samples import make_packets, make_spec

from edge_codec.bitstream.order import PacketOrder
from edge_codec.bitstream.packet import LayerId, Packet

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

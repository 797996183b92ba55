import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_packets import LiveSource, decoded_files, live_spec

from benchmarks.loss_model import GilbertLoss
from benchmarks.lossy_link import Impairment
from benchmarks.simulated_path import SimulatedPath
from edge_codec.runtime.transport.conceal import ConcealingDecoder
from edge_codec.runtime.transport.stream_store import StreamStore
from edge_codec.runtime.transport.udp_options import UdpOptions

FRAME_NS = 20_000_000
GOOD = Impairment(delay_ns=1_000_000)
SPARSE = live_spec(key_interval=1000, rows=40, columns=60)  # several datagrams a packet


def loss(rate, burst=2.0, seed=0, **other):
    return Impairment(
        GilbertLoss.of_rate(rate, burst, seed), delay_ns=1_000_000, seed=seed, **other
    )


def transfer(consumer, source, count, there=GOOD, back=GOOD, options=None, lose=()):
    """Send frames of every slice in turn; those numbered in `lose` never leave the machine."""
    path = SimulatedPath(consumer, there, back, source.request_key, options)
    path.begin(source.spec)
    path.run(20_000_000)
    n_slices = source.spec.info.n_slices
    for number in range(count):
        packet = source.packet(number % n_slices)
        if number in lose:
            path.sender._transmit = lambda _: None
        path.send(packet)
        path.sender._transmit = path._send
        path.run(FRAME_NS // n_slices)
    path.end()
    return path


class Screen:
    def __init__(self):
        self.frames = []
        self.decoder = ConcealingDecoder(self.frames.append)

    def check(self, source):
        """Whatever is handed out as intact is what the encoder's decoder shows."""
        for shown in self.frames:
            if not shown.concealed:
                due = source.shown[shown.slice_index, shown.phase_index]
                assert (shown.frame == due).all()
        places = [(shown.slice_index, shown.phase_index) for shown in self.frames]
        assert len(set(places)) == len(places)

    def concealed(self, slice_index=0):
        return [
            shown.phase_index
            for shown in self.frames
            if shown.concealed and shown.slice_index == slice_index
        ]


def test_without_losses_everything_is_intact():
    source, screen = LiveSource(SPARSE), Screen()
    path = transfer(screen.decoder, source, 30)
    screen.check(source)
    assert (screen.decoder.intact, screen.decoder.concealed) == (30, 0)
    assert source.requests == []
    assert path.sender.acknowledged


NEVER_AGAIN = UdpOptions(retransmit=False)


def test_damage_lasts_from_the_loss_to_the_next_key_frame():
    source, screen = LiveSource(live_spec(key_interval=8)), Screen()
    source.request_key = lambda _: None
    transfer(screen.decoder, source, 40, options=NEVER_AGAIN, lose=[11])
    screen.check(source)
    assert screen.concealed() == [11, 12, 13, 14, 15]


def test_a_requested_key_frame_ends_the_damage_early():
    source, screen = LiveSource(SPARSE), Screen()
    transfer(screen.decoder, source, 40, options=NEVER_AGAIN, lose=[11])
    screen.check(source)
    assert 0 in source.requests
    assert screen.concealed()[0] == 11
    assert len(screen.concealed()) <= 3
    assert screen.decoder.intact == 40 - len(screen.concealed())


def test_damage_stays_within_its_slice():
    source, screen = LiveSource(live_spec(n_slices=3, key_interval=1000)), Screen()
    transfer(screen.decoder, source, 60, options=NEVER_AGAIN, lose=[16])  # slice 1, phase 5
    screen.check(source)
    assert screen.concealed(1)[0] == 5
    assert not screen.concealed(0)
    assert not screen.concealed(2)
    assert set(source.requests) == {1}


def test_what_is_lost_is_sent_again_in_time():
    source, screen = LiveSource(SPARSE), Screen()
    path = transfer(screen.decoder, source, 60, loss(0.05, seed=3), loss(0.05, seed=4))
    screen.check(source)
    assert path.there.lost > 5
    assert path.sender.counts.sent_again >= 5
    assert screen.decoder.intact == 60


def test_answers_are_never_more_than_was_sent():
    source, screen = LiveSource(SPARSE), Screen()
    path = transfer(screen.decoder, source, 60, loss(0.3, seed=5), loss(0.1, seed=6))
    counts = path.peer.counts
    assert 0 < counts.answered_bytes <= counts.received_bytes


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(0, 0.4),
    burst=st.floats(1, 5),
    seed=st.integers(0, 1 << 32),
    reorder=st.floats(0, 0.3),
    duplicate=st.floats(0, 0.3),
    corrupt=st.floats(0, 0.2),
    slices=st.integers(1, 3),
    retransmit=st.booleans(),
)
def test_what_is_intact_is_intact_whatever_the_link_does(
    rate, burst, seed, reorder, duplicate, corrupt, slices, retransmit
):
    there = loss(
        rate, burst, seed,
        reorder=reorder, reorder_ns=30_000_000, duplicate=duplicate, corrupt=corrupt,
    )  # fmt: skip
    source = LiveSource(live_spec(slices, key_interval=8, rows=30, columns=50), seed % 1000)
    screen = Screen()
    options = UdpOptions(retransmit=retransmit)
    transfer(screen.decoder, source, 30, there, there, options)
    screen.check(source)
    for slice_index in range(slices):
        shown = [frame for frame in screen.frames if frame.slice_index == slice_index]
        phases = [frame.phase_index for frame in shown]
        assert phases == sorted(phases)
        if phases:
            assert phases == list(range(phases[0], phases[-1] + 1))  # every phase, once


@settings(max_examples=15, deadline=None)
@given(
    rate=st.floats(0, 0.3),
    seed=st.integers(0, 1 << 32),
    slices=st.integers(1, 3),
    retransmit=st.booleans(),
)
def test_what_is_stored_is_whole_and_true_whatever_is_lost(rate, seed, slices, retransmit):
    source = LiveSource(live_spec(slices, key_interval=8), seed % 1000)
    with tempfile.TemporaryDirectory() as folder:
        store = StreamStore(Path(folder), "heart", b"session!")
        path = transfer(
            store, source, 45, loss(rate, seed=seed), GOOD, UdpOptions(retransmit=retransmit)
        )
        complete = path.peer is not None and path.peer.completed
        store.close()
        files = decoded_files(Path(folder) / "heart")
        counts = store.counts
        stored = [frame for frames in files.values() for frame in frames]
        sent = {frame.tobytes() for frame in source.shown.values()}
        assert len(stored) == counts.stored
        assert len({frame.tobytes() for _, frame in stored}) == len(stored)
        assert all(frame.tobytes() in sent for _, frame in stored)
        if complete:
            assert counts.stored + counts.lost + counts.skipped == 45


def test_a_loss_splits_the_files_of_its_slice_only():
    source = LiveSource(live_spec(2, key_interval=1000))
    with tempfile.TemporaryDirectory() as folder:
        store = StreamStore(Path(folder), "heart", b"session!")
        transfer(store, source, 60, options=NEVER_AGAIN, lose=[20])  # slice 0, phase 10
        store.close()
        files = decoded_files(Path(folder) / "heart")
    first, second = files.values()
    assert sum(packet.slice_index == 1 for packet, _ in first) == 30
    assert sum(packet.slice_index == 0 for packet, _ in first) == 10
    assert {packet.slice_index for packet, _ in second} == {0}
    assert second[0][0].key
    assert store.counts.lost == 1
    assert len(second) == 30 - 10 - 1 - store.counts.skipped


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_dead_link_ends_nothing_but_itself(direction):
    dead = Impairment(GilbertLoss(1, 0, 1, 1))
    source, screen = LiveSource(SPARSE), Screen()
    path = transfer(screen.decoder, source, 10, **{direction: dead})
    assert not path.sender.acknowledged
    assert screen.frames == []

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_packets import LiveSource, decoded_files, live_spec, with_phases

from edge_codec.bitstream.header import pack_header
from edge_codec.errors import FrameError, ProtocolError, SinkError
from edge_codec.runtime.frame_event import FrameOutcome
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.runtime.transport.forward_wire import Position
from edge_codec.runtime.transport.journal import Past, read_past
from edge_codec.runtime.transport.stream_store import StreamStore

SESSION = b"0123456789abcdef"
SPEC = live_spec(key_interval=1000)
HEADER = pack_header(SPEC)


def opened(folder, session=SESSION, **options):
    return StreamStore(folder, "heart", session, **options)


def put(store, source, slice_index=0):
    packet = source.packet(slice_index)
    return store.put(packet, packet.pack())


def journal(folder):
    lines = (folder / "heart" / "transport.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def killed(store):
    """Leave a store as kill -9 does: nothing is completed, locks and files are closed."""
    for run in store._runs:
        run.abort()
    store._journal.close()


def test_what_comes_whole_is_one_file(tmp_path):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    assert all(put(store, source) for _ in range(5))
    store.end(5)
    store.close()
    assert store.position == Position(0, 5, True)
    assert [len(frames) for frames in decoded_files(tmp_path / "heart").values()] == [5]
    assert [line["event"] for line in journal(tmp_path)] == ["session", "segment", "file", "end"]


def test_after_a_loss_a_file_begins_with_a_key_frame_and_new_numbers(tmp_path):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    for _ in range(4):
        put(store, source)
    source.packet()
    assert not put(store, source)
    assert store.keys_wanted == {0}
    source.request_key(0)
    assert put(store, source)
    assert store.keys_wanted == set()
    put(store, source)
    store.end(8)
    store.close()
    first, second = decoded_files(tmp_path / "heart").values()
    assert [packet.phase_index for packet, _ in first] == [0, 1, 2, 3]
    assert [(packet.sequence, packet.phase_index) for packet, _ in second] == [(0, 0), (1, 1)]
    assert (second[0][1] == source.shown[0, 6]).all()
    assert (store.counts.stored, store.counts.lost, store.counts.skipped) == (6, 1, 1)
    lost = next(line for line in journal(tmp_path) if line["event"] == "lost")
    assert (lost["first"], lost["end"]) == (4, 5)
    begun = [line for line in journal(tmp_path) if line["event"] == "file"][1]
    assert (begun["file"], begun["first_packet"], begun["phase"]) == ("0001.ecd", 6, 6)


def test_a_file_after_a_loss_holds_key_frames_wherever_the_sender_has_them(tmp_path):
    source, store = LiveSource(live_spec(key_interval=4)), opened(tmp_path)
    store.begin(0, pack_header(source.spec))
    put(store, source)
    for _ in range(5):
        source.packet()
    source.request_key(0)  # phase 6 becomes phase 0, and 8, a key frame, phase 2
    assert all(put(store, source) for _ in range(20))
    store.close()
    _, second = decoded_files(tmp_path / "heart").values()
    assert [packet.phase_index for packet, _ in second if packet.key] == [0, 2, 6, 10, 14, 18]


def test_a_slice_that_lost_its_beginning_gets_a_file_of_its_own(tmp_path):
    source, store = LiveSource(live_spec(2)), opened(tmp_path)
    store.begin(0, pack_header(source.spec))
    put(store, source, 0)
    for _ in range(3):
        source.packet(1)
    source.request_key(1)
    assert put(store, source, 1)
    assert put(store, source, 0)
    store.close()
    first, second = decoded_files(tmp_path / "heart").values()
    assert [(packet.slice_index, packet.phase_index) for packet, _ in first] == [(0, 0), (0, 1)]
    assert [(packet.slice_index, packet.phase_index) for packet, _ in second] == [(1, 0)]


def test_events_tell_what_became_of_every_packet(tmp_path):
    events = []
    source, store = LiveSource(SPEC), opened(tmp_path, listener=events.append)
    store.begin(0, HEADER)
    put(store, source)
    source.packet()
    put(store, source)
    store.close()
    assert [(event.sequence, event.outcome) for event in events] == [
        (0, FrameOutcome.SENT),
        (1, FrameOutcome.FAILED),
        (2, FrameOutcome.FAILED),
    ]
    assert [event.detail[:4] for event in events] == ["", "lost", "cann"]


def test_what_was_here_before_is_passed_over(tmp_path):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    packets = [source.packet() for _ in range(4)]
    for number in (0, 1, 2, 0, 1, 2, 3, 3):
        store.put(packets[number], packets[number].pack())
    store.end(4)
    store.end(4)
    store.close()
    assert (store.counts.stored, store.counts.skipped, store.counts.lost) == (4, 0, 0)
    assert len(decoded_files(tmp_path / "heart")["0000.ecd"]) == 4


def test_a_huge_loss_is_one_line_and_few_events(tmp_path):
    events = []
    source, store = LiveSource(SPEC), opened(tmp_path, listener=events.append)
    store.begin(0, HEADER)
    put(store, source)
    store.skip(1 << 31)
    store.close()
    assert store.counts.lost == (1 << 31) - 1
    assert len(events) == 257
    assert len(journal(tmp_path)) == 5


@pytest.mark.parametrize("lost", [(), (3,), (0,), (2, 3, 7), (9,)])
@pytest.mark.parametrize("stop", [1, 4, 6, 10])
@pytest.mark.parametrize("slices", [1, 2])
def test_a_receiver_that_was_killed_knows_where_it_stopped(tmp_path, lost, stop, slices):
    source, store = LiveSource(live_spec(slices, key_interval=4)), opened(tmp_path)
    header = pack_header(source.spec)
    store.begin(0, header)
    packets = [source.packet(number % slices) for number in range(12)]
    for packet in packets[:stop]:
        if packet.sequence not in lost:
            store.put(packet, packet.pack())
    before = store.position
    killed(store)
    again = opened(tmp_path)
    assert again.name == "heart"
    assert again.position == before
    again.begin(0, header)
    for packet in packets[stop:]:
        if packet.sequence not in lost:
            again.put(packet, packet.pack())
    again.end(12)
    again.close()
    files = decoded_files(tmp_path / "heart")
    frames = [frame.tobytes() for frames in files.values() for _, frame in frames]
    assert len(set(frames)) == len(frames) >= 12 - 8 * len(lost)
    assert set(frames) <= {frame.tobytes() for frame in source.shown.values()}
    if not lost:
        assert len(frames) == 12
        assert list(files) == ["0000.ecd"]


def test_a_segment_that_was_complete_is_not_begun_again(tmp_path):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    put(store, source)
    store.end(1)
    store.close()
    again = opened(tmp_path)
    assert again.position == Position(0, 1, True)
    with pytest.raises(ProtocolError, match="segment 0 after segment 0"):
        again.begin(0, HEADER)
    again.begin(1, HEADER)
    again.close()


def test_a_killed_segment_gets_its_index_when_the_next_begins(tmp_path):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    put(store, source)
    killed(store)
    again, source = opened(tmp_path), LiveSource(SPEC)
    again.begin(1, HEADER)
    put(again, source)
    again.close()
    assert [len(frames) for frames in decoded_files(tmp_path / "heart").values()] == [1, 1]


def test_another_session_never_touches_the_folder(tmp_path):
    first = opened(tmp_path)
    first.begin(0, HEADER)
    put(first, LiveSource(SPEC))
    second = opened(tmp_path, b"another session!")
    second.begin(0, HEADER)
    put(second, LiveSource(SPEC, seed=1))
    first.close()
    second.close()
    assert second.name == "heart." + b"another session!".hex()[:8]
    assert len(decoded_files(tmp_path / "heart")["0000.ecd"]) == 1


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "heart").mkdir()
    (tmp_path / "heart" / "0000.ecd").write_bytes(b"precious")
    store = opened(tmp_path)
    store.begin(0, HEADER)
    put(store, LiveSource(SPEC))
    store.close()
    assert store.name == "heart." + SESSION.hex()[:8]
    assert (tmp_path / "heart" / "0000.ecd").read_bytes() == b"precious"
    assert len(list((tmp_path / "heart").iterdir())) == 1


def test_a_known_number_of_phases_is_kept_where_nothing_is_lost(tmp_path):
    source, store = LiveSource(with_phases(SPEC, 3)), opened(tmp_path, sync=SyncPolicy(packets=1))
    store.begin(0, pack_header(source.spec))
    for _ in range(3):
        put(store, source)
    store.end(3)
    store.close()
    ((packet, _), *_) = decoded_files(tmp_path / "heart")["0000.ecd"]
    assert packet.phase_index == 0


def test_many_files_are_not_open_at_once(tmp_path):
    source, store = LiveSource(live_spec(12, key_interval=1000)), opened(tmp_path)
    store.begin(0, pack_header(source.spec))
    for slice_index in range(12):
        put(store, source, slice_index)
    for slice_index in range(11):  # each loses one, and goes on in a file of its own
        for _ in range(2):
            source.packet(slice_index)
            source.request_key(slice_index)
            put(store, source, slice_index)
    assert len(store._runs) <= 8
    store.close()
    assert sum(map(len, decoded_files(tmp_path / "heart").values())) == store.counts.stored == 34


def test_what_does_not_fit_is_refused_and_nothing_moves(tmp_path):
    store, source = opened(tmp_path), LiveSource(live_spec(2))
    with pytest.raises(ProtocolError, match="no segment"):
        put(store, source)
    store.begin(0, HEADER)
    with pytest.raises(FrameError, match="outside the stream"):
        put(store, source, 1)
    assert store.position == Position(0, 0)
    store.close()


def test_a_full_disk_is_reported_and_the_rest_is_whole(tmp_path, monkeypatch):
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    put(store, source)

    def full(*_):
        raise SinkError("no space left")

    monkeypatch.setattr(store._runs[0], "put", full)
    with pytest.raises(SinkError):
        put(store, source)
    assert store.position == Position(0, 1)
    monkeypatch.undo()
    store.close()
    assert len(decoded_files(tmp_path / "heart")["0000.ecd"]) == 1


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.one_of(
    st.binary(max_size=40),
    st.sampled_from(["session", "segment", "file", "lost", "skipped", "end"]).map(
        lambda kind: json.dumps({"event": kind, "packet": 3}).encode()
    ),
    st.integers(0, 9).map(lambda n: json.dumps(
        {"event": "lost", "first": n, "end": n + 2, "segment": 0}).encode()),
), max_size=12))  # fmt: skip
def test_any_journal_is_read(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("journal")
    (folder / "transport.jsonl").write_bytes(b"\n".join(lines))
    assert isinstance(read_past(folder), Past)


def test_a_line_of_the_journal_that_was_cut_does_not_spoil_the_next(tmp_path):
    store = opened(tmp_path)
    store.close()
    with (tmp_path / "heart" / "transport.jsonl").open("a") as file:
        file.write('{"event": "seg')
    source, store = LiveSource(SPEC), opened(tmp_path)
    store.begin(0, HEADER)
    put(store, source)
    store.close()
    past = read_past(tmp_path / "heart")
    assert (past.session, past.segment, past.files) == (SESSION.hex(), 0, ["0000.ecd"])
    lines = (tmp_path / "heart" / "transport.jsonl").read_text().splitlines()
    assert json.loads(lines[2])["event"] == "resumed"


def test_a_journal_that_is_written_in_part_is_an_error(tmp_path, monkeypatch):
    store, write = opened(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:9]))
    with pytest.raises(SinkError, match="make room"):
        store.begin(0, HEADER)
    monkeypatch.undo()
    store.begin(0, HEADER)
    store.close()
    assert read_past(tmp_path / "heart").segment == 0


def test_what_was_told_of_packets_that_are_sent_again_does_not_count_twice(tmp_path):
    """The disk kept the journal, but not the last packets: power loss with a relaxed --fsync."""
    source, store = LiveSource(live_spec(2, key_interval=1000)), opened(tmp_path)
    header = pack_header(source.spec)
    store.begin(0, header)
    packets = [source.packet(i % 2) for i in range(12)]
    for packet in [*packets[:7], *packets[9:]]:
        store.put(packet, packet.pack())
    path = tmp_path / "heart" / "0000.ecd"
    killed(store)
    with path.open("rb+") as file:
        file.truncate(len(header) + sum(len(packet.pack()) for packet in packets[:5]))
    store = opened(tmp_path)
    assert store.position == Position(0, 5)
    store.begin(0, header)
    for packet in packets[5:]:
        assert store.put(packet, packet.pack())
    killed(store)
    assert opened(tmp_path).position == Position(0, 12)


def test_a_file_where_the_folder_should_be_is_left_alone(tmp_path):
    (tmp_path / "heart").write_text("mine")
    store = opened(tmp_path)
    assert store.name == f"heart.{SESSION.hex()[:8]}"
    store.close()
    assert (tmp_path / "heart").read_text() == "mine"

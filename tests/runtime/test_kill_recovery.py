"""Kill -9 at random moments, a hundred times: see `benchmarks/kill_recovery.py` for what is proven.

The rounds run in a process of their own, which forks its children and has no threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import kill_recovery
from benchmarks.kill_recovery import POLICIES, KilledError, LiveSource, Stream
from edge_codec.codec import Resume

ROUNDS = 100
REPOSITORY = Path(kill_recovery.__file__).parent.parent


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_that_was_sent(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill_recovery", "--rounds", str(ROUNDS), "--json",
         "--folder", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["recovered"] == row["rounds"] == ROUNDS
    assert row["sent_and_lost"] == 0
    assert row["packets_sent"] > ROUNDS // 4
    assert set(row["frames_in_the_end"]) == set(POLICIES)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def source() -> LiveSource:
    return LiveSource.sample()


@pytest.fixture
def stream(tmp_path: Path, source: LiveSource) -> Stream:
    """A stream of five packets that was cut after them."""
    stream = Stream(tmp_path, "packet", source)
    sink, _ = stream.open()
    for _, packet in zip(range(5), source.packets(Resume()), strict=False):
        sink.send(packet, packet.pack())
    sink.abort()
    return stream


def test_check_passes_what_is_right(stream: Stream) -> None:
    for reported in (5, 4):  # the last one may have been in flight
        stream.check(reported)
    assert stream.whole == 5
    assert stream.complete() == 9


def test_check_finds_a_packet_that_was_sent_and_lost(stream: Stream) -> None:
    with pytest.raises(KilledError, match="5 packets are whole, 6 were sent"):
        stream.check(6)


def test_check_finds_packets_from_nowhere(stream: Stream) -> None:
    with pytest.raises(KilledError, match="5 packets are whole, 3 were sent"):
        stream.check(3)


def test_check_finds_other_voxels(stream: Stream) -> None:
    stream.source = LiveSource(stream.source.voxels[:, ::-1], stream.source.spec)
    with pytest.raises(KilledError, match="other voxels"):
        stream.check(5)


def test_complete_finds_damage(stream: Stream) -> None:
    stream.check(5)
    data = bytearray(stream.path.read_bytes())
    data[-10] ^= 1
    stream.path.write_bytes(data)
    with pytest.raises(KilledError, match="4 packets are whole, 5 were sent"):
        stream.check(5)

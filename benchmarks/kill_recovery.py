"""Kill a writing process again and again, and prove each time what is left.

    python -m benchmarks.kill_recovery --rounds 100 --json --results FILE.jsonl

In each round a child goes on with a live stream of real frames (`FileSink`, under one policy of
forcing packets onto the disk after the other), says over a pipe which packets `send` has taken, and
is killed with SIGKILL after a random time; in every other round its writes are short and slow, so
that many are cut halfway. Then every packet that it reported must be there, and at most the one in
flight beside them; the file must be right up to its cut, and the new frames must decode to their
source bit for bit. In the end each stream is completed, verified, and decoded as a whole.

This shows what a crash costs. A loss of power costs what was not forced onto the disk; no process
can show that of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo import SAMPLE
from benchmarks.record import append_record, describe_machine
from edge_codec.bitstream.container import StreamReader, WholePart, find_whole_part
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.bitstream.verify import verify
from edge_codec.cine import Cine
from edge_codec.codec import Decoder, Encoder, Resume
from edge_codec.io import open_source
from edge_codec.runtime import stream_file
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.stream_file import FileSink
from edge_codec.runtime.sync_policy import SyncPolicy
from edge_codec.spec import Effort, StreamSpec

POLICIES = {
    "none": SyncPolicy.NONE,
    "seconds": SyncPolicy(seconds=0.05),
    "packets": SyncPolicy(packets=4),
    "packet": SyncPolicy.EVERY_PACKET,
}
LONGEST_S = 0.12  # of a child's life; its first frame takes some 10 ms of it
COUNTED = ("sent and lost", "packet in flight kept", "cut in a packet", "cut in the header")
REPORT = struct.Struct("<I")


class KilledError(Exception):
    """What must hold after a kill does not."""


class SlowFile(FileIO):
    """Takes a page at a time and sleeps before it, as a slow disk does."""

    def write(self, data: Any) -> int:
        """Write the begin of `data`."""
        time.sleep(0.0002)
        return super().write(memoryview(data)[:4096])


@dataclass
class LiveSource:
    """The sample as an endless live stream: its slices in turn, its phases in a loop."""

    voxels: np.ndarray
    spec: StreamSpec

    @classmethod
    def sample(cls) -> LiveSource:
        """Load the cine that the repository holds."""
        cine = Cine.from_source(open_source(SAMPLE))
        low, high = int(cine.voxels.min()), int(cine.voxels.max())
        info = replace(cine.info, n_phases=0, trigger_time_ms=())
        return cls(cine.voxels, StreamSpec(info, low, high, effort=Effort.FAST, key_interval=8))

    def frame(self, slice_index: int, phase: int) -> np.ndarray:
        """Return the frame that a phase of the live stream has."""
        return self.voxels[slice_index, phase % self.voxels.shape[1]]

    def packets(self, resume: Resume) -> Iterator[Packet]:
        """Encode on from where a stream was cut, for ever."""
        encoder = Encoder(self.spec, resume=resume)
        phases = [resume.next_phases.get(i, 0) for i in range(self.spec.info.n_slices)]
        while True:
            slice_index = phases.index(min(phases))
            packet = encoder.push(self.frame(slice_index, phases[slice_index]), slice_index)
            note = LiveNote(Policy.ADAPTIVE, time.time_ns(), 0, 0).pack()
            yield replace(packet, layers={**packet.layers, LayerId.LIVE: note})
            phases[slice_index] += 1


@dataclass
class Stream:
    """One stream of the test, and what is known of it."""

    folder: Path
    name: str
    source: LiveSource
    whole: int = 0  # packets known to be there
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / self.name / "0000.ecd"

    def open(self) -> tuple[FileSink, Resume]:
        """Begin the stream, or go on with it."""
        sink = FileSink(self.folder, sync=POLICIES[self.name], resume=True)
        segment = Segment(self.name, 0, self.source.spec)
        resume = sink.resume_point(segment) or Resume()
        sink.begin(segment)
        return sink, resume

    def write_until_killed(self, pipe: int, slow: bool) -> None:
        """Append packets and report each: what the child does."""
        if slow:
            stream_file.FileIO = SlowFile
        sink, resume = self.open()
        for packet in self.source.packets(resume):
            sink.send(packet, packet.pack())
            os.write(pipe, REPORT.pack(packet.sequence))

    def check(self, reported: int) -> None:
        """Prove what must hold after a kill; `reported` packets are known to be sent."""
        part = self._whole_part()
        whole = part.sequence if part else 0
        due = max(self.whole, reported)
        self._count("sent and lost", max(0, due - whole))
        if not due <= whole <= due + 1:
            raise KilledError(f"{self.name}: {whole} packets are whole, {due} were sent")
        if part is None:
            self._count("cut in the header", 1)
            return
        with self.path.open("rb") as file:
            before_cut = [p for p in verify(file).problems if p.offset < part.end]
            if any("no footer" not in problem.what for problem in before_cut):
                raise KilledError(f"{self.name}: damage before the cut: {before_cut}")
            self._compare(StreamReader(file, recover=True), self.whole, whole)
        self._count("cut in a packet", part.given_up > 0)
        self._count("packet in flight kept", whole > due)
        self.whole = whole

    def complete(self) -> int:
        """Go on for a last time, end the stream, and check all of it; return its frames."""
        sink, resume = self.open()
        for packet, _ in zip(self.source.packets(resume), range(4), strict=False):
            sink.send(packet, packet.pack())
        sink.end()
        with self.path.open("rb") as file:
            report = verify(file)
            if not report.ok or report.packets != resume.sequence + 4:
                raise KilledError(f"{self.name}: {report.packets} packets, {report.problems}")
            self._compare(StreamReader(file), 0, report.packets)
        return report.packets

    def _whole_part(self) -> WholePart | None:
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            return find_whole_part(file)

    def _compare(self, reader: StreamReader, first: int, end: int) -> None:
        """Decode packets `first` to `end`; the first of each slice must be a key frame."""
        decoder = Decoder(reader.spec)
        found = 0
        for packet in reader.packets():
            if not first <= packet.sequence < end:
                continue
            found += 1
            frame = decoder.push(packet)
            if not np.array_equal(frame, self.source.frame(packet.slice_index, packet.phase_index)):
                raise KilledError(f"{self.name}: packet {packet.sequence} decodes to other voxels")
        if found != end - first:
            raise KilledError(f"{self.name}: {found} of packets {first} to {end} are decodable")

    def _count(self, what: str, number: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + int(number)


def run(rounds: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill so many children; return what was found.

    Raises
    ------
    KilledError
        If anything was lost but the packet in flight, or is not what it was.
    """
    rng = random.Random(seed)
    source = LiveSource.sample()
    streams = [Stream(folder, name, source) for name in POLICIES]
    recovered = sent = 0
    for number in range(rounds):
        stream = streams[number % len(streams)]
        slow = number // len(streams) % 2 == 1
        reported = kill_once(stream, slow, rng.uniform(0.0, LONGEST_S))
        stream.check(reported[-1] + 1 if reported else 0)
        recovered += 1
        sent += len(reported)
    frames = {stream.name: stream.complete() for stream in streams}
    counted = {
        what.replace(" ", "_"): sum(stream.counts.get(what, 0) for stream in streams)
        for what in (
            "sent and lost",
            "packet in flight kept",
            "cut in a packet",
            "cut in the header",
        )
    }
    return {
        "rounds": rounds,
        "seed": seed,
        "recovered": recovered,
        "packets_sent": sent,
        **counted,
        "frames_in_the_end": frames,
    }


def kill_once(stream: Stream, slow: bool, seconds: float) -> list[int]:
    """Let a child write for some time and kill it; return the numbers of the packets it sent."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            stream.write_until_killed(writing, slow)
        except BaseException:  # nothing of the parent may go on in the child
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        reports = pipe.read()
    if not os.WIFSIGNALED(status):
        raise KilledError(f"{stream.name}: the child failed before it was killed")
    return [number for (number,) in REPORT.iter_unpack(reports)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=5, help="of the times of the kills")
    parser.add_argument("--folder", type=Path, help="on the disk to try; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        start = time.perf_counter()
        try:
            row = run(options.rounds, options.seed, Path(folder))
        except KilledError as error:
            print(error, file=sys.stderr)
            return 1
        row["seconds"] = round(time.perf_counter() - start, 1)
    if options.results:
        append_record(options.results, "kill_recovery", row, describe_machine())
    if options.json:
        print(json.dumps(row))
    else:
        print(*(f"{name}: {value}" for name, value in row.items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

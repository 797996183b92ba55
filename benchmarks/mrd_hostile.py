"""Hostile sessions against a live MRD server: no crash, no hang, no growth.

    python -m benchmarks.mrd_hostile --inputs 100000 [--results benchmarks/results/mrd.jsonl]

Each input is a valid session of three images, mutated: bytes flipped, inserted, removed, repeated,
sizes overwritten, messages left out, swapped or cut, or garbage from the start. Most go through
socket pairs, every twentieth through TCP; some peers vanish without reading. A valid session in
between every 500 must come back byte for byte. The run fails where a session reports a defect or
does not end, or where threads, files or memory are left behind.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import re
import resource
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.record import append_record, describe_machine
from edge_codec.cine import Cine
from edge_codec.runtime.access import Access
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.malloc_arenas import use_one_arena
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.protocol import (
    Message,
    MessageId,
    config_file_message,
    pack_message,
    text_message,
)
from edge_codec.runtime.mrd.returns import AnswerMode
from edge_codec.runtime.mrd.scanner import scanner_images, xml_header
from edge_codec.runtime.mrd.server import MrdServer, ServeOptions
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import Effort

TCP_EVERY = 20
VALID_EVERY = 500
STORE_EVERY = 10  # goes to a server that stores
PEERS = 4
HANG_S = 60.0
STEPS = 10  # memory is measured after each of them; the first is warm-up
BLOCKS_LIMIT = 0.01  # growth of what Python has allocated, from the first step to the last
RESIDENT_LIMIT = 0.03  # of resident memory over the second half: until then malloc spreads out
LIMITS = Limits(
    max_connections=16 * PEERS,
    first_message_s=5.0,
    idle_s=5.0,
    message_s=5.0,
    send_s=5.0,
    linger_s=0.5,
    max_image_bytes=1 << 20,
    max_frame_voxels=1 << 16,
    max_open_voxels=1 << 18,
    max_streams=16,
)
NUMBERS = (0, 1, 2, 127, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def main() -> None:
    """Run and report; the exit status says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results" / "mrd.jsonl"
    )
    options = parser.parse_args()
    use_one_arena()  # as `edge-codec serve` does
    logging.disable(logging.WARNING)  # every hostile session is one
    row = measure(options.inputs, options.seed)
    print(row)
    append_record(options.results, "mrd_hostile", row, describe_machine())
    if not row["ok"]:
        sys.exit(1)


class Attack:
    """Many peers against one server.

    Parameters
    ----------
    server, storing : MrdServer
        What is attacked: one that answers with decoded images, and one that stores.
    seed : int
        Of the mutations.
    """

    def __init__(self, server: MrdServer, storing: MrdServer, seed: int) -> None:
        self._servers = server, storing
        self._seed = seed
        self.messages = make_session()
        self.wrong: list[str] = []
        self.hung = 0

    def run(self, first: int, last: int) -> None:
        """Hold the sessions of a range, from several peers at a time."""
        numbers = iter(range(first, last))
        lock = threading.Lock()

        def peer() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self.hold(number)

        threads = [threading.Thread(target=peer) for _ in range(PEERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def hold(self, number: int) -> None:
        """Hold one session."""
        generator = random.Random(self._seed * 1_000_003 + number)
        valid = number % VALID_EVERY == 0
        data = b"".join(self.messages)
        if not valid:
            data = mutate(self.messages, generator)
        answer = self._talk(data, number, vanish=not valid and generator.random() < 0.05)
        if valid and answer != b"".join(self.messages[2:]):
            self.wrong.append(f"session {number}: {len(answer)} bytes came back, not the images")

    def _talk(self, data: bytes, number: int, *, vanish: bool) -> bytes:
        server = self._servers[number % STORE_EVERY == 1]
        if number % TCP_EVERY > 1:
            near, far = socket.socketpair()
            server.adopt(far, "pair")
        else:
            near = socket.create_connection(server.address, HANG_S)
        near.settimeout(HANG_S)
        parts = []
        with near:
            try:
                near.sendall(data)
                if vanish:
                    return b""
                near.shutdown(socket.SHUT_WR)
                while part := near.recv(1 << 16):
                    parts.append(part)
            except TimeoutError:
                self.hung += 1
            except OSError:
                pass  # the server hung up first, as it may
        return b"".join(parts)


def make_session() -> list[bytes]:
    """Return the messages of a valid session."""
    y, x = np.mgrid[:12, :10]
    voxels = np.stack(
        [(900 * np.exp(-((y - 6) ** 2 + (x - 5) ** 2) / (9.0 + n))) for n in range(3)]
    )
    cine = Cine.from_array(voxels.astype(np.uint16), spacing_mm=(8.0, 1.5, 1.5))
    waveform = struct.pack("<H6xQIIIHHfHH", 1, 0, 7, 1, 0, 4, 2, 2500.0, 0, 0) + bytes(32)
    messages = [
        config_file_message("edge-codec"),
        text_message(MessageId.HEADER, xml_header(cine.info, "hostile")),
        *scanner_images(cine),
        Message(MessageId.WAVEFORM, waveform),
        Message(MessageId.CLOSE),
    ]
    return [pack_message(message) for message in messages]


def mutate(messages: list[bytes], generator: random.Random) -> bytes:
    """Return a hostile session."""
    kind = generator.random()
    if kind < 0.05:
        return generator.randbytes(generator.randrange(3000))
    parts = list(messages)
    if kind < 0.25:  # messages left out, swapped, repeated
        for _ in range(generator.randrange(1, 4)):
            place = generator.randrange(len(parts))
            if generator.random() < 0.5 and len(parts) > 1:
                del parts[place]
            else:
                parts.insert(place, generator.choice(messages))
    data = bytearray(b"".join(parts))
    if kind >= 0.2:
        for _ in range(generator.randrange(1, 6)):
            mutate_bytes(data, generator, len(parts[0]))
    if generator.random() < 0.3:
        del data[generator.randrange(len(data) + 1) :]
    return bytes(data)


def mutate_bytes(data: bytearray, generator: random.Random, config_size: int) -> None:
    """Change some bytes, seldom of the long config message."""
    if len(data) < 8:
        return
    start = 0 if generator.random() < 0.05 else min(config_size, len(data) - 8)
    place = generator.randrange(start, len(data) - 4)
    kind = generator.randrange(5)
    if kind == 0:
        data[place] = generator.randrange(256)
    elif kind == 1:
        data[place:place] = generator.randbytes(generator.randrange(1, 30))
    elif kind == 2:
        del data[place : place + generator.randrange(1, 300)]
    elif kind == 3:
        data[place:place] = data[place : place + generator.randrange(1, 600)]
    else:
        data[place : place + 4] = struct.pack("<I", generator.choice(NUMBERS))


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What there is to judge after an attack.

    Attributes
    ----------
    attack : Attack
        It, with what it saw.
    ends : Counter of str
        How sessions ended.
    states : list of dict
        What was left behind after each step, as `left_behind` says.
    seconds : float
        How long the attack took.
    idle : bool
        Whether all sessions ended after each step.
    refused : int
        Connections that were refused.
    """

    attack: Attack
    ends: Counter[str]
    states: list[dict[str, float]]
    seconds: float
    idle: bool
    refused: int

    @property
    def growth(self) -> float:
        """How much more Python has allocated after the last step than after the first."""
        return self.states[-1]["python_blocks"] / self.states[0]["python_blocks"] - 1

    @property
    def late_growth(self) -> float:
        """How much more memory is resident after the last step than after half of them."""
        return self.states[-1]["resident_mb"] / self.states[STEPS // 2 - 1]["resident_mb"] - 1

    @property
    def defects(self) -> int:
        """Sessions that ended in a defect."""
        return sum(count for end, count in self.ends.items() if "defect" in end)

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        before, after = self.states[0], self.states[-1]
        return (
            self.idle
            and not self.attack.wrong
            and not self.attack.hung
            and not self.defects
            and self.growth < BLOCKS_LIMIT
            and self.late_growth < RESIDENT_LIMIT
            and after["threads"] <= before["threads"]
            and after["files"] <= before["files"]
        )


def measure(inputs: int, seed: int) -> dict[str, object]:
    """Attack, and return what was left behind."""
    found = attack_servers(inputs, seed)
    return {
        "ok": found.ok,
        "inputs": inputs,
        "seed": seed,
        "seconds": found.seconds,
        "sessions_per_s": inputs / found.seconds,
        "warm_up_inputs": inputs // STEPS,
        "resident_mb_after_each_step": [state["resident_mb"] for state in found.states],
        "before": found.states[0],
        "after": found.states[-1],
        "python_blocks_growth": found.growth,
        "resident_growth_of_second_half": found.late_growth,
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "defects": found.defects,
        "hung": found.attack.hung,
        "refused": found.refused,
        "wrong": found.attack.wrong[:10],
        "valid_sessions": -(-inputs // VALID_EVERY),
        "ends": dict(found.ends.most_common(40)),
    }


def attack_servers(inputs: int, seed: int) -> Aftermath:
    """Hold so many sessions against two servers that are made for it."""
    ends: Counter[str] = Counter()

    def on_session(report: SessionReport) -> None:
        # Numbers differ; the kind of error is what is counted.
        ends[re.sub(r"[0-9]+", "N", report.error)[:60] or "no error"] += 1

    live = LiveOptions(effort=Effort.FAST, threads=1)
    local, nobody = ("127.0.0.1", 0), Access()
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline() as first,
        Pipeline() as second,
    ):
        answering = ServeOptions(live, AnswerMode.DECODED, limits=LIMITS)
        keeping = ServeOptions(live, AnswerMode.ORIGINAL, Path(folder), limits=LIMITS)
        with (
            MrdServer(local, answering, nobody, first, (), on_session) as server,
            MrdServer(local, keeping, nobody, second, (), on_session) as storing,
        ):
            attack = Attack(server, storing, seed)
            idle, states, start = True, [], time.monotonic()
            for step in range(STEPS):
                attack.run(step * inputs // STEPS, (step + 1) * inputs // STEPS)
                idle = idle and server.wait_idle(HANG_S) and storing.wait_idle(HANG_S)
                states.append(left_behind())
                print(f"{step + 1} of {STEPS}: {states[-1]}", file=sys.stderr, flush=True)
            seconds = time.monotonic() - start
            refused = server.counts["refused"] + storing.counts["refused"]
    return Aftermath(attack, ends, states, seconds, idle, refused)


def left_behind() -> dict[str, float]:
    """Return what a leak would add to."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    return {
        "resident_mb": int(resident[1]) * 1024 / 1e6 if resident else 0.0,
        "python_blocks": sys.getallocatedblocks(),
        "threads": threading.active_count(),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
    }


if __name__ == "__main__":
    main()

"""Afterwards: packets are decoded, timed if that is asked for, and compared with the exam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.latency.clock import Clock
from edge_codec.bench.latency.drive import LoopFrame
from edge_codec.bench.latency.log import FrameLog
from edge_codec.bench.latency.stores import Store, Wanted
from edge_codec.bitstream.packet import Packet
from edge_codec.codec import Decoder
from edge_codec.errors import EdgeCodecError
from edge_codec.io.samples import to_integers
from edge_codec.spec import StreamSpec

SAMPLED_GROUPS = 8
MAX_FAILURES = 5


def sampled(frames: int, n_slices: int, key_interval: int) -> Wanted:
    """Return which packets of a stream are checked when not all are: whole groups, evenly spread.

    Parameters
    ----------
    frames : int
        How many frames the stream will have.
    n_slices : int
        Over how many slices they are spread.
    key_interval : int
        Phases of a group, which decodes on its own.

    Returns
    -------
    callable
        (slice, phase) -> whether it is checked; about `SAMPLED_GROUPS` groups are.
    """
    groups = -(-frames // (n_slices * key_interval)) * n_slices
    step = max(1, groups // SAMPLED_GROUPS)
    if n_slices > 1 and step % n_slices == 0:
        step += 1  # else only slice 0 would ever be looked at

    def wanted(slice_index: int, phase_index: int) -> bool:
        return (phase_index // key_interval * n_slices + slice_index) % step == 0

    return wanted


@dataclass(slots=True)
class CheckResult:
    """What came of it.

    Attributes
    ----------
    frames : int
        Packets decoded and compared.
    largest_error : int
        Largest difference found, in stored units; 0 where the stream promises nothing.
    failures : list of str
        What was wrong, the first few.
    n_failures : int
        How often.
    decode_ns : list of int
        Latency of decoding, of each packet of a frame that counts.
    """

    frames: int = 0
    largest_error: int = 0
    failures: list[str] = field(default_factory=list)
    n_failures: int = 0
    decode_ns: list[int] = field(default_factory=list)

    def fail(self, what: str) -> None:
        """Note a failure."""
        self.n_failures += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(what)


class Checker:
    """Decodes the packets of a stream and compares them.

    Parameters
    ----------
    store : Store
        Where they are.
    frames : sequence of LoopFrame
        What was pushed, again and again.
    make_decoder : callable
        From a segment's description to its decoder.
    clock : Clock
        Time.
    rate : float
        Packets per second; 0 for one after the other.
    """

    def __init__(
        self,
        store: Store,
        frames: list[LoopFrame],
        make_decoder: Callable[[StreamSpec], Decoder],
        clock: Clock,
        rate: float = 0.0,
    ) -> None:
        self._store = store
        self._frames = frames
        self._make_decoder = make_decoder
        self._clock = clock
        self._interval_ns = 1e9 / rate if rate else 0.0
        self._decoders: dict[int, Decoder] = {}

    def run(self, log: FrameLog, wanted: Wanted, name: str) -> CheckResult:
        """Check those packets of a stream that are wanted, in the order they were coded in."""
        result = CheckResult()
        numbers = np.flatnonzero(log.phases[: log.n_pushed] >= 0)
        chosen = [
            int(number)
            for number in numbers
            if wanted(int(log.slices[number]), int(log.phases[number]))
        ]
        start_ns = self._clock.now_ns()
        for place, number in enumerate(chosen):
            key = tuple(int(log_of[number]) for log_of in (log.segment, log.slices, log.phases))
            due_ns = start_ns + round(place * self._interval_ns)
            try:
                self._check(number, key, due_ns, log, result)
            except EdgeCodecError as error:
                result.fail(f"{name} segment {key[0]}, slice {key[1]}, phase {key[2]}: {error}")
        return result

    def _check(
        self,
        number: int,
        key: tuple[int, ...],
        due_ns: int,
        log: FrameLog,
        result: CheckResult,
    ) -> None:
        segment, slice_index, phase_index = key
        if segment not in self._decoders:
            self._decoders[segment] = self._make_decoder(self._store.spec(segment))
        packet = self._store.read(segment, slice_index, phase_index)
        decoded, taken_ns = self._decode(self._decoders[segment], packet, due_ns)
        if number >= log.warmup:
            result.decode_ns.append(taken_ns)
        spec = self._decoders[segment].spec
        source = self._frames[number % len(self._frames)]
        error = largest_error(source.samples, decoded, spec)
        result.frames += 1
        if spec.max_error is None:
            return  # no promise; that it decodes to what the encoder saw, its CRC has told
        result.largest_error = max(result.largest_error, error)
        if error > spec.max_error:
            result.fail(
                f"slice {slice_index}, phase {phase_index}: a voxel is off by {error}, "
                f"{spec.max_error} is promised"
            )

    def _decode(self, decoder: Decoder, packet: Packet, due_ns: int) -> tuple[NDArray[Any], int]:
        if not self._interval_ns:
            due_ns = self._clock.now_ns()
        self._clock.sleep_until(due_ns)
        decoded = decoder.push(packet)
        return decoded, self._clock.now_ns() - due_ns


def largest_error(source: NDArray[Any], decoded: NDArray[Any], spec: StreamSpec) -> int:
    """Return the largest difference of a decoded frame from its source, in coded units."""
    expected = to_integers(source, spec.info.sample_format)
    # All lie within 2**32 of each other, so that differences are exact also where uint64 wraps.
    return int(np.abs(expected.astype(np.int64) - decoded.astype(np.int64)).max())


def joined(results: Iterable[CheckResult]) -> CheckResult:
    """Return the results of several streams as one."""
    whole = CheckResult()
    for result in results:
        whole.frames += result.frames
        whole.largest_error = max(whole.largest_error, result.largest_error)
        whole.n_failures += result.n_failures
        whole.failures = (whole.failures + result.failures)[:MAX_FAILURES]
        whole.decode_ns += result.decode_ns
    return whole

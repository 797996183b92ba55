"""What losses on the way cost: real cine frames through encoder, UDP, a lossy link, and decoder.

    python -m benchmarks.loss --results benchmarks/results/loss.jsonl

The sample's two slices are sent in turn at the stated rate, their phases over and over, lossless.
The link is simulated on a clock of its own (losses in bursts by Gilbert's model, a constant delay
in each direction); sender, receiver and codec are the real ones. Every frame that is handed out as
intact is compared with the original. A frame whose turn it was and which is lost, or depends on a
lost one, is shown as the slice's last one: its PSNR is that of the repeated frame against the one
that should have been shown, with the maximum of the exam as the peak. A hole is so many frames of
one slice in a row, from the loss to the next frame that is intact. `link_ms` is from sending to
handing out, of frames that are intact, in steps of 1 ms.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks.demo import SAMPLE
from benchmarks.record import append_record, describe_machine
from edge_codec.codec import Encoder
from edge_codec.runtime.transport.conceal import ConcealingDecoder, ShownFrame
from edge_codec.runtime.transport.loss_model import GilbertLoss
from edge_codec.runtime.transport.lossy_link import Impairment
from edge_codec.runtime.transport.simulated_path import SimulatedPath
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.spec import CineInfo, Effort, StreamSpec

RATES = (0.0, 0.001, 0.01, 0.05)
REPAIRS = ((True, True), (False, True), (False, False))  # retransmission, requests for key frames
RUN_ON_NS = 500_000_000  # the path is run on at the end, so that the last frames arrive


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=150, help="of each slice")
    parser.add_argument("--fps", type=float, default=30.0, help="frames of each slice per second")
    parser.add_argument("--burst", type=float, default=3.0, help="mean datagrams lost in a row")
    parser.add_argument("--delay-ms", type=float, default=2.0, help="in each direction")
    parser.add_argument("--key-interval", type=int, default=32)
    parser.add_argument("--effort", default="fast", choices=["fast", "default", "best"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    machine = describe_machine()
    frames = read_frames()
    for rate in RATES:
        for retransmit, request_keys in REPAIRS if rate else REPAIRS[:1]:
            row = measure(frames, options, rate, retransmit, request_keys)
            print(row, flush=True)
            if options.results:
                append_record(options.results, "loss", row, machine)


def read_frames() -> NDArray[np.int16]:
    """Return the sample, shape (slice, phase, row, column)."""
    return np.asanyarray(nib.load(SAMPLE).dataobj).transpose(2, 3, 1, 0)


def measure(
    cine: NDArray[np.int16],
    options: argparse.Namespace,
    rate: float,
    retransmit: bool,
    request_keys: bool,
) -> dict[str, Any]:
    """Send the frames once over a link that loses so many datagrams; return one row."""
    n_slices, n_phases = cine.shape[:2]
    spec = _spec(cine, options)
    encoder = Encoder(spec)
    wanted: set[int] = set()
    shown: list[tuple[int, int, bool]] = []
    errors: list[float] = []
    sent_ns: dict[tuple[int, int], int] = {}
    delays_ns: list[int] = []

    def show(frame: ShownFrame) -> None:
        original = cine[frame.slice_index, frame.phase_index % n_phases]
        if not frame.concealed and not np.array_equal(frame.frame, original):
            raise SystemExit("a frame that was handed out as intact is not the original")
        if frame.concealed:
            errors.append(float(np.square(frame.frame.astype(float) - original).mean()))
        else:
            delays_ns.append(path.now_ns - sent_ns[frame.slice_index, frame.phase_index])
        shown.append((frame.slice_index, frame.phase_index, frame.concealed))

    def request_key(slice_index: int | None) -> None:
        if request_keys:
            wanted.update(range(n_slices) if slice_index is None else [slice_index])

    decoder = ConcealingDecoder(show)
    path = SimulatedPath(
        decoder, _link(rate, options, 0), _link(rate, options, 1), request_key,
        UdpOptions(retransmit=retransmit),
    )  # fmt: skip
    path.begin(spec)
    sizes = []
    for phase in range(options.frames):
        for slice_index in range(n_slices):
            key = slice_index in wanted
            wanted.discard(slice_index)
            packet = encoder.push(cine[slice_index, phase % n_phases], slice_index, key=key)
            sizes.append(packet.head.size)
            sent_ns[slice_index, packet.phase_index] = path.now_ns
            path.send(packet)
            path.run(round(1e9 / options.fps / n_slices))
    path.end()
    path.run(RUN_ON_NS)
    holes = list(_holes(shown))
    sent, counts = path.sender.counts, path.peer.counts if path.peer else None
    return {
        "datagram_loss": rate,
        "mean_burst": options.burst,
        "retransmission": retransmit,
        "key_requests": request_keys,
        "delay_ms": options.delay_ms,
        "fps": options.fps,
        "key_interval": options.key_interval,
        "effort": options.effort,
        "shape": list(cine.shape[2:]),
        "frames": options.frames * n_slices,
        "packet_bytes_mean": float(np.mean(sizes)),
        "datagrams": path.there.carried,
        "datagrams_lost": path.there.lost,
        "sent_again": sent.sent_again,
        "key_frames_requested": sent.key_requests,
        "answered_bytes_per_sent_byte": counts.answered_bytes / sent.sent_bytes if counts else 0,
        "link_ms_p50_p99_max": [float(np.percentile(delays_ns, p)) / 1e6 for p in (50, 99, 100)],
        "intact": decoder.intact,
        "concealed": decoder.concealed,
        "never_shown": options.frames * n_slices - decoder.intact - decoder.concealed,
        "holes": len(holes),
        "hole_frames_mean": float(np.mean(holes)) if holes else 0.0,
        "hole_frames_max": max(holes, default=0),
        "concealed_psnr_db": _psnr(errors, float(cine.max())),
    }


def _spec(cine: NDArray[np.int16], options: argparse.Namespace) -> StreamSpec:
    info = CineInfo(cine.shape[0], 0, *cine.shape[2:], np.dtype(np.int16))
    spec = StreamSpec(info, int(cine.min()), int(cine.max()), key_interval=options.key_interval)
    return replace(spec, effort=Effort[options.effort.upper()])


def _link(rate: float, options: argparse.Namespace, direction: int) -> Impairment:
    loss = GilbertLoss.of_rate(rate, options.burst, options.seed + 1000 * direction)
    return Impairment(loss, delay_ns=round(1e6 * options.delay_ms))


def _holes(shown: list[tuple[int, int, bool]]) -> Iterator[int]:
    """Yield the length of each row of concealed frames of a slice."""
    for slice_index in {place[0] for place in shown}:
        own = (concealed for index, _, concealed in shown if index == slice_index)
        for concealed, group in groupby(own):
            if concealed:
                yield sum(1 for _ in group)


def _psnr(errors: list[float], peak: float) -> float | None:
    mean = float(np.mean(errors)) if errors else 0.0
    return 10 * math.log10(peak * peak / mean) if mean else None


if __name__ == "__main__":
    main()

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
from benchmarks.loss_model import GilbertLoss
from benchmarks.lossy_link import Impairment
from benchmarks.record import append_record, describe_machine
from benchmarks.simulated_path import SimulatedPath
from edge_codec.codec import Encoder
from edge_codec.runtime.transport.conceal import ConcealingDecoder, ShownFrame
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
    transfer = Transfer(cine, options, rate, retransmit, request_keys)
    transfer.run()
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
        **transfer.figures(),
    }


class Transfer:
    """The frames of an exam on their way from the encoder to the display.

    Parameters
    ----------
    cine : ndarray, shape (slice, phase, row, column), int16
        The frames.
    options : argparse.Namespace
        How many of them, how often, and what the link does but for its losses.
    rate : float
        Share of the datagrams that are lost, 0 to below 1.
    retransmit, request_keys : bool
        How losses are repaired.
    """

    def __init__(
        self,
        cine: NDArray[np.int16],
        options: argparse.Namespace,
        rate: float,
        retransmit: bool,
        request_keys: bool,
    ) -> None:
        self._cine = cine
        self._n_slices, self._n_phases = cine.shape[:2]
        self._options = options
        self._request_keys = request_keys
        self._wanted: set[int] = set()
        self._shown: list[tuple[int, int, bool]] = []
        self._errors: list[float] = []
        self._sent_ns: dict[tuple[int, int], int] = {}
        self._delays_ns: list[int] = []
        self._sizes: list[int] = []
        self._encoder = Encoder(_spec(cine, options))
        self._decoder = ConcealingDecoder(self._show)
        self._path = SimulatedPath(
            self._decoder, _link(rate, options, 0), _link(rate, options, 1), self._request_key,
            UdpOptions(retransmit=retransmit),
        )  # fmt: skip

    def run(self) -> None:
        """Send everything, slice after slice, and let it arrive."""
        self._path.begin(self._encoder.spec)
        for phase in range(self._options.frames):
            for slice_index in range(self._n_slices):
                self._send(slice_index, phase % self._n_phases)
                self._path.run(round(1e9 / self._options.fps / self._n_slices))
        self._path.end()
        self._path.run(RUN_ON_NS)

    def figures(self) -> dict[str, Any]:
        """Return what became of the frames."""
        frames = self._options.frames * self._n_slices
        path, decoder, holes = self._path, self._decoder, list(_holes(self._shown))
        sent = path.sender.counts
        answered = path.peer.counts.answered_bytes if path.peer else 0
        link_ms = [float(np.percentile(self._delays_ns, p)) / 1e6 for p in (50, 99, 100)]
        return {
            "frames": frames,
            "packet_bytes_mean": float(np.mean(self._sizes)),
            "datagrams": path.there.carried,
            "datagrams_lost": path.there.lost,
            "sent_again": sent.sent_again,
            "key_frames_requested": sent.key_requests,
            "answered_bytes_per_sent_byte": answered / sent.sent_bytes,
            "link_ms_p50_p99_max": link_ms,
            "intact": decoder.intact,
            "concealed": decoder.concealed,
            "never_shown": frames - decoder.intact - decoder.concealed,
            "holes": len(holes),
            "hole_frames_mean": float(np.mean(holes)) if holes else 0.0,
            "hole_frames_max": max(holes, default=0),
            "concealed_psnr_db": _psnr(self._errors, float(self._cine.max())),
        }

    def _send(self, slice_index: int, phase: int) -> None:
        key = slice_index in self._wanted
        self._wanted.discard(slice_index)
        packet = self._encoder.push(self._cine[slice_index, phase], slice_index, key=key)
        self._sizes.append(packet.head.size)
        self._sent_ns[slice_index, packet.phase_index] = self._path.now_ns
        self._path.send(packet)

    def _show(self, frame: ShownFrame) -> None:
        original = self._cine[frame.slice_index, frame.phase_index % self._n_phases]
        if not frame.concealed and not np.array_equal(frame.frame, original):
            raise SystemExit("a frame that was handed out as intact is not the original")
        if frame.concealed:
            self._errors.append(float(np.square(frame.frame.astype(float) - original).mean()))
        else:
            sent_ns = self._sent_ns[frame.slice_index, frame.phase_index]
            self._delays_ns.append(self._path.now_ns - sent_ns)
        self._shown.append((frame.slice_index, frame.phase_index, frame.concealed))

    def _request_key(self, slice_index: int | None) -> None:
        if self._request_keys:
            every = range(self._n_slices)
            self._wanted.update(every if slice_index is None else [slice_index])


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

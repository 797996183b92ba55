"""`edge-codec serve`: take images from scanners, code them live, answer, store, forward."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_codec.commands.coding_options import (
    add_model_options,
    chosen_bound,
    chosen_rate,
    positive,
    refuse_groups,
)
from edge_codec.commands.listening import (
    add_access_options,
    add_telemetry_options,
    open_access,
    open_telemetry,
)
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.runtime.live_options import LiveOptions
    from edge_codec.runtime.mrd.server import MakeSink, ServeOptions
    from edge_codec.runtime.mrd.session import SessionReport
    from edge_codec.runtime.packet_sink import PacketSink

SHAPE = 256, 256  # that the capacity is measured for
RATE_HZ = 30.0
CAPACITY_S = 0.25


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--listen", default="127.0.0.1:9002", metavar="HOST:PORT",
        help="where to listen; port 0 for any; beyond this machine only with --token-file",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="store streams in this folder")
    parser.add_argument(
        "--answer", default="original", choices=["original", "decoded", "packets", "none"],
        help="what a scanner gets back: its image once it is coded, what a receiver will see, the "
        "packets, or nothing",
    )  # fmt: skip
    _add_coding(parser)
    _add_storing(parser)
    _add_access(parser)
    _add_watching(parser)


def _add_coding(parser: argparse.ArgumentParser) -> None:
    promise = parser.add_mutually_exclusive_group()
    promise.add_argument(
        "--lossless", action="store_true",
        help="every voxel comes back exactly (the default without --model)",
    )  # fmt: skip
    promise.add_argument(
        "--max-error", type=int, metavar="N", help="no voxel is off by more than N stored units"
    )
    add_model_options(parser)
    parser.add_argument(
        "--effort", default="default", metavar="fast|default|best",
        help="how hard to work for a small stream while there is time",
    )  # fmt: skip
    parser.add_argument(
        "--policy", default="adaptive", choices=["strict-lossless", "adaptive", "drop-oldest"],
        help="what to do when time is short; drop-oldest is for looking only",
    )  # fmt: skip
    parser.add_argument(
        "--budget-ms", type=float, default=10.0, metavar="MS", help="deadline of a frame, 0: none"
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="frames that are coded at a time"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads for one frame")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="as for compress")


def _add_storing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fsync", default="none", metavar="none|interval|packet",
        help="when packets are forced onto the disk; interval: every second",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true", help="go on with sessions that are in the folder already"
    )
    parser.add_argument(
        "--forward",
        metavar="URL",
        help="send packets to a second machine too: HOST:PORT, tls://HOST:PORT, udp://HOST:PORT",
    )
    parser.add_argument(
        "--forward-token-file", type=Path, metavar="FILE", help="what that machine demands"
    )
    parser.add_argument(
        "--forward-tls-ca", type=Path, metavar="FILE", help="use TLS to it, and trust these"
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    add_access_options(parser, "scanners must show")
    parser.add_argument(
        "--max-connections", type=positive, default=16, metavar="N", help="at a time"
    )
    parser.add_argument("--once", action="store_true", help="end after the first session")


def _add_watching(parser: argparse.ArgumentParser) -> None:
    add_telemetry_options(parser)
    parser.add_argument("--live", action="store_true", help="show figures in the terminal")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Serve until interrupted, then complete what was begun."""
    from edge_codec.runtime.access import check_listen, parse_address
    from edge_codec.runtime.malloc_arenas import use_one_arena
    from edge_codec.runtime.mrd.server import MrdServer
    from edge_codec.runtime.pipeline import Pipeline

    use_one_arena()
    address = parse_address(options.listen)
    access = open_access(options)
    check_listen(address[0], access)
    serve_options = _serve_options(options)
    ended = threading.Event()

    def on_session(report: SessionReport) -> None:
        if options.once and report.name:
            ended.set()

    print(_capacity(serve_options.live, options.workers), file=console.err, flush=True)
    with contextlib.ExitStack() as stack:
        telemetry = open_telemetry(options, console.err if options.live else None)
        listener = None
        if telemetry is not None:
            stack.callback(telemetry.close)
            listener = telemetry.record
        pipeline = stack.enter_context(Pipeline(workers=options.workers, listener=listener))
        if telemetry is not None:
            telemetry.watch_depths(pipeline.depths)
        server = stack.enter_context(
            MrdServer(address, serve_options, access, pipeline, _sinks(options), on_session)
        )
        host, port = server.address
        print(f"listening at {host}:{port}", file=console.out, flush=True)
        # An interrupt ends the wait; leaving the block completes what was received.
        with contextlib.suppress(KeyboardInterrupt):
            ended.wait()
    return ExitStatus.OK


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    from edge_codec.runtime.mrd.limits import Limits
    from edge_codec.runtime.mrd.returns import AnswerMode
    from edge_codec.runtime.mrd.server import ServeOptions
    from edge_codec.runtime.sync_policy import parse_sync

    return ServeOptions(
        live=_live_options(options),
        answer=AnswerMode(options.answer),
        folder=options.out,
        sync=parse_sync("1s" if options.fsync == "interval" else options.fsync),
        resume=options.resume,
        limits=Limits(max_connections=options.max_connections),
    )


def _live_options(options: argparse.Namespace) -> LiveOptions:
    from edge_codec.runtime.live_options import LiveOptions, parse_policy
    from edge_codec.runtime.options import parse_effort, parse_model

    refuse_groups(options)
    model = parse_model(options.model)
    return LiveOptions(
        model=model,
        max_error=chosen_bound(options, model),
        effort=parse_effort(options.effort),
        backend=options.backend,
        threads=options.threads,
        policy=parse_policy(options.policy),
        budget_ms=options.budget_ms,
        rate=chosen_rate(options),
    )


def _sinks(options: argparse.Namespace) -> Sequence[MakeSink]:
    if options.forward is None:
        return ()
    from edge_codec.runtime.access import load_token
    from edge_codec.runtime.transport.forward_options import ForwardOptions, WhenGone
    from edge_codec.runtime.transport.open_forward import open_forward

    token_file, ca_file = options.forward_token_file, options.forward_tls_ca
    forward = ForwardOptions(
        token=None if token_file is None else load_token(token_file),
        # What is on this disk is not lost where the other machine is gone.
        when_gone=WhenGone.FAIL if options.out is None else WhenGone.GO_ON,
    )

    def make(stream: str) -> PacketSink:
        del stream  # the sink hears of it with the first segment
        return open_forward(options.forward, forward, ca_file=ca_file)

    make("")  # an address that cannot be is found before the first scanner comes
    return (make,)


def _capacity(live: LiveOptions, workers: int) -> str:
    """Measure what this machine holds, and say it."""
    import numpy as np

    from edge_codec.runtime.admission import measure_capacity

    capacity = measure_capacity(
        live, SHAPE, np.dtype(np.int16), workers=workers, seconds=CAPACITY_S
    )
    parts = [
        f"{capacity.streams_at(RATE_HZ, rung)} with effort {rung.effort.name.lower()} "
        f"({rung.frames_per_s:.0f} frames/s, p99 {rung.p99_ms:.1f} ms)"
        for rung in capacity.rungs
    ]
    rows, columns = SHAPE
    return (
        f"edge-codec: this machine holds so many streams of {rows}x{columns} at {RATE_HZ:g} "
        f"frames/s: {', '.join(parts)}"
    )

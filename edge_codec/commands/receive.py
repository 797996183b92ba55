"""`edge-codec receive`: take packets that a server forwards, and store them."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_codec.commands.coding_options import positive
from edge_codec.commands.listening import (
    add_access_options,
    add_telemetry_options,
    open_access,
    open_telemetry,
)
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_codec.cli import Console
    from edge_codec.runtime.frame_event import FrameEvent
    from edge_codec.runtime.transport.receiver_options import ReceiverOptions
    from edge_codec.runtime.transport.tcp_receive import PacketReceiver
    from edge_codec.runtime.transport.udp_receive import UdpReceiver

_TICK_S = 0.05


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--listen", default="127.0.0.1:9003", metavar="HOST:PORT",
        help="where to listen; port 0 for any; beyond this machine only with --token-file",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="store streams in this folder"
    )
    parser.add_argument(
        "--udp", action="store_true", help="over UDP: on time rather than whole; losses are noted"
    )
    add_access_options(parser, "senders must know")
    parser.add_argument(
        "--fsync", default="none", metavar="none|packet|N|Ns",
        help="when packets are forced onto the disk: each, every N, every N seconds",
    )  # fmt: skip
    parser.add_argument("--max-senders", type=positive, default=32, metavar="N", help="at a time")
    parser.add_argument("--once", action="store_true", help="end after the first whole segment")
    add_telemetry_options(parser)
    parser.add_argument("--json", action="store_true", help="print address and result as JSON")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Receive until interrupted, then complete what has come."""
    from edge_codec.runtime.sync_policy import parse_sync
    from edge_codec.runtime.transport.receiver_options import ReceiverOptions

    receiver_options = ReceiverOptions(
        access=open_access(options), sync=parse_sync(options.fsync), max_peers=options.max_senders
    )
    options.out.mkdir(parents=True, exist_ok=True)
    counts = _Counts()
    with contextlib.ExitStack() as stack:
        telemetry = open_telemetry(options)
        if telemetry is not None:
            stack.callback(telemetry.close)

        def listener(event: FrameEvent) -> None:
            counts.add(event)
            if telemetry is not None:
                telemetry.record(event)

        # An interrupt ends the wait; leaving the block completes what was received.
        with (
            contextlib.suppress(KeyboardInterrupt),
            _open(options, receiver_options, listener) as receiver,
        ):
            host, port = receiver.address
            said = {"listening": f"{host}:{port}", "udp": options.udp}
            text = json.dumps(said) if options.json else f"listening at {host}:{port}"
            print(text, file=console.out, flush=True)
            while not (options.once and receiver.completed):
                time.sleep(_TICK_S)
    fields = {
        "streams": sorted(counts.streams),
        "stored_packets": counts.stored,
        "stored_bytes": counts.stored_bytes,
        "lost_packets": counts.lost,
    }
    if options.json:
        print(json.dumps(fields), file=console.out, flush=True)
    else:
        print(
            f"stored {counts.stored} packets ({counts.stored_bytes} bytes) of "
            f"{len(counts.streams)} streams, {counts.lost} lost or not decodable",
            file=console.out,
            flush=True,
        )
    return ExitStatus.OK


class _Counts:
    """What came in all."""

    def __init__(self) -> None:
        self.streams: set[str] = set()
        self.stored = self.stored_bytes = self.lost = 0
        self._lock = threading.Lock()  # each sender has a thread

    def add(self, event: FrameEvent) -> None:
        with self._lock:
            self.streams.add(event.stream)
            self.stored += event.packet_bytes > 0
            self.stored_bytes += event.packet_bytes
            self.lost += event.packet_bytes == 0


def _open(
    options: argparse.Namespace,
    receiver_options: ReceiverOptions,
    listener: Callable[[FrameEvent], None],
) -> PacketReceiver | UdpReceiver:
    from edge_codec.runtime.access import parse_address
    from edge_codec.runtime.transport.tcp_receive import PacketReceiver
    from edge_codec.runtime.transport.udp_receive import UdpReceiver

    address = parse_address(options.listen)
    if options.udp:
        return UdpReceiver(address, options.out, receiver_options, listener=listener)
    return PacketReceiver(address, options.out, receiver_options, listener)

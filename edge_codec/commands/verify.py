"""`edge-codec verify`: check every byte of a stream."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edge_codec.commands.compress import promise_text
from edge_codec.commands.report import add_output_options, progress, show
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.runtime.progress import Progress


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, help="the stream, .ecd")
    parser.add_argument(
        "--decode", action="store_true", help="also decode every frame and check it"
    )
    parser.add_argument(
        "--backend", default="auto", metavar="NAME",
        help="auto, openvino, onnxruntime, triton, tensorrt, ort-cuda or ort-tensorrt",
    )  # fmt: skip
    add_output_options(parser)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Check and report; the exit status says whether the stream is whole."""
    from edge_codec.bitstream.verify import verify

    with options.source.open("rb") as file:
        report = verify(file)
        frames = report.packets
        if report.ok and options.decode:
            frames = _decode(file, options.backend, progress(options, console))
    fields = {
        "source": str(options.source),
        "whole": report.ok,
        "promise": promise_text(report.spec) if report.spec else None,
        "packets": report.packets,
        "decoded_frames": frames if options.decode else None,
        "problems": [f"byte {problem.offset}: {problem.what}" for problem in report.problems],
    }
    show(fields, options, console)
    return ExitStatus.OK if report.ok else ExitStatus.DAMAGED


def _decode(file: BinaryIO, backend: str, wrap: Progress) -> int:
    """Decode every frame; the codec compares each with the checksum the encoder wrote."""
    from edge_codec.bitstream.container import StreamReader
    from edge_codec.codec import Decoder
    from edge_codec.runtime.models import check_hashes, load_model

    reader = StreamReader(file)
    check_hashes(reader.spec)
    decoder = Decoder(reader.spec, load_model(reader.spec.model, backend=backend, decode_only=True))
    frames = 0
    for packet in wrap(reader.packets(), None, "verify"):
        decoder.push(packet)
        frames += 1
    return frames

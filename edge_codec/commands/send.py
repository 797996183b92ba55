"""`edge-codec send`: a cine to an MRD server, as a scanner would send it."""

from __future__ import annotations

import argparse
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.coding_options import positive
from edge_codec.commands.report import show
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.io import FrameSource
    from edge_codec.runtime.mrd.client import MrdClient
    from edge_codec.runtime.mrd.comparison import AnswerCheck, Comparison
    from edge_codec.runtime.mrd.protocol import ImageMessage


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", type=Path, help=".nii, .nii.gz, .npy, .h5 of ISMRMRD, .dcm or a DICOM folder"
    )
    parser.add_argument("address", help="the server, HOST:PORT")
    parser.add_argument(
        "--rate", type=float, default=0.0, metavar="FPS",
        help="frames a second; without it as fast as the server takes them",
    )  # fmt: skip
    parser.add_argument("--as", dest="protocol", default="mrd", choices=["mrd"], help="as what")
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="times to send it")
    parser.add_argument(
        "--measurement", default="", metavar="NAME", help="measurement ID: the server's file name"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="what the server demands; use with TLS"
    )
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="use TLS, and trust the certificates in FILE"
    )
    parser.add_argument(
        "--check", action="store_true",
        help="end with status 7 unless every image comes back exactly as it was sent",
    )  # fmt: skip
    parser.add_argument(
        "--series", metavar="UID", help="which series of a DICOM folder, or group of a .h5"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Send, compare, report."""
    from edge_codec.io import open_source
    from edge_codec.runtime.access import client_context, load_token, parse_address
    from edge_codec.runtime.mrd.client import MrdClient
    from edge_codec.runtime.mrd.comparison import AnswerCheck
    from edge_codec.runtime.mrd.scanner import scanner_images, xml_header

    source = open_source(options.source, series=options.series)
    images = list(scanner_images(source))
    token = None if options.token_file is None else load_token(options.token_file)
    tls = None if options.tls_ca is None else client_context(options.tls_ca)
    check = AnswerCheck()
    start = time.monotonic()
    with MrdClient(parse_address(options.address), check.take, token=token, tls=tls) as client:
        client.begin(xml_header(source.info, options.measurement))
        failure = _send(client, check, images, options)
    result = check.finish()
    for text in dict.fromkeys(result.texts):  # what ends the session is raised below
        print(f"server: {text}", file=console.err)
    show(_fields(result, source, time.monotonic() - start), options, console)
    if failure is not None:
        raise failure
    if options.check and not result.all_exact:
        return ExitStatus.UNVERIFIED
    return ExitStatus.OK


def _send(
    client: MrdClient, check: AnswerCheck, images: list[ImageMessage], options: argparse.Namespace
) -> Exception | None:
    """Send all images, each at its time; return what ended it early."""
    from edge_codec.errors import ProtocolError

    begun_ns = time.monotonic_ns()
    numbers = count()
    try:
        for _ in range(options.repeat):
            for image in images:
                due_ns = time.monotonic_ns()
                if options.rate > 0:
                    due_ns = begun_ns + round(next(numbers) * 1e9 / options.rate)
                    time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
                check.expect(image, due_ns)
                client.send(image)
        client.finish()
    except ProtocolError as error:
        return error
    return None


def _fields(result: Comparison, source: FrameSource, seconds: float) -> dict[str, Any]:
    import numpy as np

    latency = np.array(result.latency_ms or [np.nan])
    p50, p90, p99, p99_9 = np.percentile(latency, [50, 90, 99, 99.9])
    info = source.info
    return {
        "slices_phases_rows_columns": [info.n_slices, info.n_phases, *info.frame_shape],
        "images": result.sent,
        "answered": result.answered,
        "exact": result.exact,
        "missing": result.missing,
        "max_error": result.max_error,
        "check": "every image came back exactly" if result.all_exact else "not exact",
        "errors": result.errors,
        "frames_per_s": result.sent / seconds,
        **{
            name: float(value) if result.latency_ms else None
            for name, value in (
                ("round_trip_p50_ms", p50),
                ("round_trip_p90_ms", p90),
                ("round_trip_p99_ms", p99),
                ("round_trip_p99_9_ms", p99_9),
                ("round_trip_max_ms", latency.max()),
            )
        },
    }

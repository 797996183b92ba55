"""`edge-codec decompress`: a stream back into a cine file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_codec.commands.compress import add_run_options, promise_text
from edge_codec.commands.report import add_output_options, progress, show
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, help="the stream, .ecd")
    parser.add_argument(
        "target", type=Path, help=".nii, .nii.gz, .npy, .dcm, or a folder for DICOM"
    )
    parser.add_argument(
        "--preview", action="store_true", help="decode the base layer only: lossy, quick"
    )
    parser.add_argument(
        "--recover",
        action="store_true",
        help="decode what a damaged stream still holds; missing frames get its lowest value",
    )
    add_run_options(parser)
    add_output_options(parser)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Decompress and report."""
    from edge_codec.runtime.files import decompress_file
    from edge_codec.runtime.options import DecompressOptions

    report = decompress_file(
        options.source,
        options.target,
        DecompressOptions(
            preview=options.preview,
            recover=options.recover,
            backend=options.backend,
            threads=options.threads,
            force=options.force,
        ),
        progress(options, console),
    )
    fields = {
        "target": str(options.target),
        "frames": report.frames,
        "promise": promise_text(report.spec, preview=options.preview),
        "frame_ms_median": float(np.median(report.frame_ms)) if report.frame_ms else None,
        "frame_ms_max": float(np.max(report.frame_ms)) if report.frame_ms else None,
        "missing_frames": len(report.missing),
    }
    show(fields, options, console)
    for damage in report.damage:
        print(f"edge-codec: {damage}", file=console.err)
    return ExitStatus.RECOVERED if report.damage or report.missing else ExitStatus.OK

"""`edge-codec decompress`: a stream back into a cine file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_codec.commands.compress import add_run_options, promise_text
from edge_codec.commands.report import add_output_options, progress, show
from edge_codec.errors import SpecError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, help="the stream, .ecd")
    parser.add_argument(
        "target",
        type=Path,
        help=".nii, .nii.gz, .npy, .dcm, or a folder for DICOM; .mp4, .mkv, .webm or .ivf: a slice "
        "of a stream of --model video, for players",
    )
    parser.add_argument(
        "--slice", type=int, metavar="N", help="which slice a file for players shows, from 0 on"
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="decode the base layer only: lossy, quick; frames without one are decoded whole. Of "
        "titok: frames as they were painted, without refining the whole cine",
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
    from edge_codec.runtime.player_file import is_player_file

    if is_player_file(options.target):
        show(_write_player_file(options), options, console)
        return ExitStatus.OK
    if options.slice is not None:
        raise SpecError(
            "--slice chooses what a file for players (.mp4, .mkv, .webm, .ivf) shows; "
            f"{options.target} is no such file: leave it out"
        )
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
        **({"refined_slices": report.refined_slices} if report.refined_slices else {}),
    }
    show(fields, options, console)
    for damage in report.damage:
        print(f"edge-codec: {damage}", file=console.err)
    return ExitStatus.RECOVERED if report.damage or report.missing else ExitStatus.OK


def _write_player_file(options: argparse.Namespace) -> dict[str, Any]:
    """Write a slice for players; return what there is to say of it."""
    from edge_codec.runtime.player_file import write_slice

    if options.recover:
        raise SpecError(
            "a file for players is made of a whole stream; decompress --recover into .nii.gz"
        )
    report = write_slice(options.source, options.target, options.slice, force=options.force)
    return {
        "target": str(options.target),
        "slice": report.slice_index,
        "frames": report.frames,
        "codec": report.codec,
        "frames_per_second": float(1 / report.seconds_per_frame),
        "promise": promise_text(report.spec, preview=True),
    }

"""`edge-codec calibrate`: a float ONNX network into an integer one, with proof and gate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_codec.commands.coding_options import positive
from edge_codec.commands.report import add_output_options, progress
from edge_codec.errors import EngineError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console

OBSERVERS = ("mse", "minmax", "percentile", "entropy")


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", type=Path, metavar="FLOAT.onnx", help="the float network")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="cine to draw frames from: a file, a DICOM folder, or a folder of such",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="INT8.onnx", help="the network to write"
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="T.json",
        help="calibration table: applied if it exists, else written",
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="sensitivity of every layer: tables and plot"
    )
    _add_sampling(parser)
    _add_chain(parser)
    _add_limits(parser)
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads")
    parser.add_argument("--force", action="store_true", help="overwrite, and calibrate anew")
    add_output_options(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--observer", choices=OBSERVERS, default="mse", help="rule for the scales, default mse"
    )
    parser.add_argument(
        "--activations",
        choices=("uint8", "int8"),
        default="uint8",
        help="int8: TensorRT takes the file as it is, and a bit of precision is lost",
    )
    parser.add_argument(
        "--frames", type=positive, metavar="N", help="frames to draw; 48 where there are so many"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing")
    parser.add_argument(
        "--pattern", default="*", metavar="GLOB", help="file names in PATH, such as '*_4d.nii.gz'"
    )


def _add_chain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before", type=Path, metavar="M.onnx", help="network that makes the input of frames"
    )
    parser.add_argument(
        "--after", type=Path, metavar="M.onnx", help="network that makes frames of the output"
    )
    parser.add_argument(
        "--codebook", type=Path, metavar="C.npy", help="codes between latents and tokens"
    )
    parser.add_argument(
        "--token-model", type=Path, metavar="T.npz", help="counts the bits of tokens"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-psnr-loss", type=float, metavar="DB", help="refuse a larger loss; 0.2 dB"
    )
    parser.add_argument(
        "--max-ssim-loss", type=float, metavar="X", help="refuse a larger loss; 0.005"
    )
    parser.add_argument(
        "--max-bpp-increase", type=float, metavar="X", help="refuse a larger increase; 0.02 is 2 %%"
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="put the most sensitive layers in fp16 or float32 until the PSNR loss is kept",
    )


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Calibrate and report."""
    try:
        from edge_codec.calibration.job import Job, run_job
    except ImportError as error:
        raise EngineError(
            f"calibration needs the package {error.name}: pip install 'edge-codec[train]'"
        ) from error
    from edge_codec.calibration.gate import Limits

    names = ("psnr_loss_db", "ssim_loss", "bpp_increase")
    given = (options.max_psnr_loss, options.max_ssim_loss, options.max_bpp_increase)
    limits = {name: value for name, value in zip(names, given, strict=True) if value is not None}
    outcome = run_job(
        Job(
            model=options.model,
            data=options.data,
            out=options.out,
            table=options.table,
            report=options.report,
            before=options.before,
            after=options.after,
            codebook=options.codebook,
            token_model=options.token_model,
            observer=options.observer,
            activations=options.activations,
            frames=options.frames,
            seed=options.seed,
            pattern=options.pattern,
            limits=Limits(**limits),
            strict=bool(limits),
            mixed=options.mixed,
            threads=options.threads,
            force=options.force,
        ),
        progress(options, console, "step"),
    )
    text = json.dumps(outcome.record(), indent=1) if options.json else outcome.text()
    print(text, file=console.out)
    return ExitStatus.OK

"""`edge-codec compress`: a cine file into a stream."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_codec.commands.coding_options import (
    add_model_options,
    chosen_bound,
    chosen_rate,
    patient_facts,
    positive,
)
from edge_codec.commands.report import add_output_options, progress, show
from edge_codec.exit_status import ExitStatus
from edge_codec.spec import ModelId

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.runtime.options import TransferReport
    from edge_codec.spec import StreamSpec


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, help=".nii, .nii.gz, .npy, .dcm or a DICOM folder")
    parser.add_argument("target", type=Path, help="the stream to write, .ecd")
    _add_promise(parser)
    _add_region(parser)
    aim = add_model_options(parser)
    aim.add_argument(
        "--psnr",
        type=float,
        metavar="DB",
        help="instead of a quality: the least one whose base layer has this PSNR over the whole "
        "exam, peak its maximum; for a base layer alone",
    )
    _add_coding(parser)
    parser.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    add_run_options(parser)
    add_output_options(parser)


def _add_promise(parser: argparse.ArgumentParser) -> None:
    """Declare what the stream may promise."""
    promise = parser.add_mutually_exclusive_group()
    promise.add_argument(
        "--lossless",
        action="store_true",
        help="every voxel comes back exactly (the default without --model)",
    )
    promise.add_argument(
        "--max-error",
        type=int,
        metavar="N",
        help="no voxel is off by more than N stored units, for example --max-error 2",
    )
    promise.add_argument(
        "--snr-loss",
        type=float,
        metavar="P",
        help="like --max-error, with the N that costs at most P percent of the signal-to-noise "
        "ratio, for example --snr-loss 5; the noise is estimated from the source",
    )


def _add_region(parser: argparse.ArgumentParser) -> None:
    """Declare the region of interest."""
    parser.add_argument(
        "--roi",
        metavar="heart|FILE",
        help="region of interest, which comes back better than the rest: the heart, found by the "
        "segmentation network, or a mask of the exam's size (.npy, .nii, .nii.gz), not 0 inside",
    )
    parser.add_argument(
        "--roi-gain",
        type=int,
        metavar="N",
        help="with --roi: quality steps by which dwt-cal is finer in the region (without the "
        "option 6, and 0 with --roi-max-error)",
    )
    parser.add_argument(
        "--roi-max-error",
        type=int,
        metavar="M",
        help="with --roi and a larger --max-error: no voxel of the region is off by more than M; "
        "0: the region is lossless",
    )


def _add_coding(parser: argparse.ArgumentParser) -> None:
    """Declare how frames are coded."""
    parser.add_argument(
        "--archive",
        action="store_true",
        help="code each heart cycle as a hierarchy, for dwt-cal: smaller, and not for live streams",
    )
    parser.add_argument(
        "--look-ahead",
        type=int,
        metavar="N",
        help="phases that a key frame of dwt-cal is filtered with before it is coded, 16 without "
        "the option; 0: as live streams, without a delay",
    )
    parser.add_argument(
        "--base-cost",
        type=float,
        metavar="PERCENT",
        help="with a model, lossless or to a bound: how many percent more bytes a group of frames "
        "may take for its base layer; one that would take more has none, and its preview is the "
        "frame itself (without the option: 5 for dwt-cal where no quality is chosen, else any)",
    )
    parser.add_argument(
        "--video-encoder",
        metavar="x265|x265-main10|svt-av1|nvenc",
        help="which standard encoder --model video takes: x265 without the option; svt-av1 for "
        "browsers, x265-main10 for players that decode on a chip",
    )
    parser.add_argument(
        "--patient",
        type=patient_facts,
        metavar="FACTS",
        help="what titok's networks are told of the patient and the stream keeps in its header: "
        "height in cm, weight in kg, disease group, as far as given, for example "
        "height=172,weight=80,group=DCM",
    )
    parser.add_argument(
        "--effort",
        default="default",
        metavar="fast|default|best",
        help="how hard to work for a small stream: best is smallest and slowest, to write and to "
        "read; the promise is the same",
    )
    parser.add_argument(
        "--key-interval",
        type=int,
        metavar="K",
        help="phases between key frames: 32, and in an archive the whole cycle, up to 64",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare what compress and decompress share."""
    parser.add_argument(
        "--backend", default="auto", metavar="NAME",
        help="what runs the networks of vqvae: auto, openvino, onnxruntime, triton, tensorrt, "
        "ort-cuda or ort-tensorrt",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads for one frame, at most"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the target")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Compress and report."""
    from edge_codec.runtime.files import compress_file
    from edge_codec.runtime.options import (
        CompressOptions,
        parse_effort,
        parse_model,
        parse_tokens_per,
    )

    model = parse_model(options.model)
    report = compress_file(
        options.source,
        options.target,
        CompressOptions(
            model=model,
            max_error=0 if options.snr_loss is not None else chosen_bound(options, model),
            key_interval=options.key_interval,
            effort=parse_effort(options.effort),
            snr_loss_percent=options.snr_loss,
            backend=options.backend,
            threads=options.threads,
            series=options.series,
            force=options.force,
            rate=chosen_rate(options),
            psnr_db=options.psnr,
            archive=options.archive,
            look_ahead=options.look_ahead,
            video_encoder=options.video_encoder,
            base_cost_percent=options.base_cost,
            roi=options.roi,
            roi_gain=options.roi_gain,
            roi_max_error=options.roi_max_error,
            patient=options.patient,
            tokens_per=parse_tokens_per(options.tokens_per),
        ),
        progress(options, console),
    )
    spec, info = report.spec, report.spec.info
    if options.roi is not None and spec.region is None:
        print("edge-codec: no heart was found; all is coded as without --roi", file=console.err)
    fields = {
        "target": str(options.target),
        "slices_phases_rows_columns": [info.n_slices, info.n_phases, *info.frame_shape],
        "promise": promise_text(spec),
        **_noise_fields(spec),
        **region_fields(spec),
        **_base_fields(report),
        **_rate_fields(report, options.bits_per_frame),
        "effort": spec.effort.name.lower(),
        "stream_bytes": report.stream_bytes,
        "bits_per_voxel": report.bits_per_voxel,
        "ratio_to_16_bit": 16 / report.bits_per_voxel,
        "ratio_to_source_file": _stored_ratio(options.source, report.stream_bytes),
        "frame_ms_median": float(np.median(report.frame_ms)),
        "frame_ms_max": float(np.max(report.frame_ms)),
    }
    show(fields, options, console)
    return ExitStatus.OK


def _noise_fields(spec: StreamSpec) -> dict[str, Any]:
    if not spec.snr_loss_percent:
        return {}
    return {
        "max_error": spec.max_error,
        "snr_loss_percent": spec.snr_loss_percent,
        "noise_sigma": spec.noise_sigma,
    }


def _base_fields(report: TransferReport) -> dict[str, Any]:
    """Return what there is to say of a base layer."""
    fields: dict[str, Any] = {}
    if report.spec.model:
        fields = {"model": report.spec.model.label, "order": order_text(report.spec)}
    if report.groups_without_base:
        fields["groups_without_base_layer"] = report.groups_without_base
    if report.quality is not None:
        fields["quality"] = report.quality
    found = report.base_psnr_db
    if found is not None:
        shown = found if math.isfinite(found) else "infinite: every voxel is right"
        fields["psnr_db_of_the_whole_exam_peak_its_maximum"] = shown
    return fields


def _rate_fields(report: TransferReport, bits_per_frame: float | None) -> dict[str, Any]:
    """Return what became of the bits per frame that were asked for."""
    rate = report.rate
    if rate is None or bits_per_frame is None:
        return {}
    return {
        "bits_per_frame_asked_for": bits_per_frame,
        "bits_per_frame_mean": rate.mean,
        "bits_per_frame_largest": rate.largest,
        "frames_over_the_buffer": rate.overflows,
    }


def order_text(spec: StreamSpec) -> str:
    """Say in which order the phases of a heart cycle are coded."""
    return "archive: a hierarchy over the cycle" if spec.archive else "low delay: as acquired"


def promise_text(spec: StreamSpec, *, preview: bool = False) -> str:
    """Say what the stream, or its preview, guarantees."""
    if spec.model is ModelId.TITOK:
        return "none: 32 tokens a frame, a preview for triage and search, not for diagnosis"
    if spec.model is ModelId.TITOK_GROUPS:
        return "none: 32 tokens for a whole cine or exam, a blurred preview, not for diagnosis"
    if spec.max_error is None or preview:
        return "none: base layer of a model, lossy, not for diagnosis"
    percent, noise = spec.snr_loss_percent, f"noise of sigma {spec.noise_sigma:.3g}"
    if spec.max_error == 0:
        if not percent:
            return "lossless"
        return f"lossless: an estimated {noise} is too little for an error at {percent:g} % of SNR"
    bound = f"no voxel off by more than {spec.max_error} stored units"
    if spec.region is not None and spec.region.max_error is not None:
        inner = spec.region.max_error
        bound += f", and by {inner} in the region" if inner else ", and the region lossless"
    if not percent:
        return bound
    return f"{bound}; SNR loss at most {percent:g} % of an estimated {noise}"


def region_fields(spec: StreamSpec) -> dict[str, Any]:
    """Return what there is to say of a region of interest."""
    region, info = spec.region, spec.info
    if region is None:
        return {}
    mask = region.mask(info.n_slices, *info.frame_shape)
    return {
        "region_percent_of_voxels": 100 * float(mask.mean()),
        "region_slices": int(mask.any(axis=(1, 2)).sum()),
        "region_quality_gain": region.quality_gain,
        "region_max_error": region.max_error,
    }


def _stored_ratio(source: Path, stream_bytes: int) -> float | None:
    """Return the size of the source file over the stream's; None for a folder.

    A folder may hold files that are not part of the cine.
    """
    return None if source.is_dir() else source.stat().st_size / stream_bytes

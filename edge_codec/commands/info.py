"""`edge-codec info`: what a stream holds and promises, or which live streams a folder holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.compress import order_text, promise_text, region_fields
from edge_codec.commands.report import show
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.runtime.live_folder import SegmentEntry
    from edge_codec.spec import StreamSpec


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, help="the stream, .ecd, or a folder of live streams")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Read the stream and print what it is; the exit status says whether it is whole."""
    if options.source.is_dir():
        return _run_folder(options, console)
    from edge_codec.bitstream.container import StreamReader
    from edge_codec.bitstream.packet import LayerId
    from edge_codec.commands.live_statistics import LiveStatistics
    from edge_codec.commands.quantizers import Quantizers

    layers: dict[str, int] = {}
    frames = key_frames = bare = 0
    with options.source.open("rb") as file:
        reader = StreamReader(file, recover=True)
        live = LiveStatistics(reader.spec.info.rows)
        quantizers = Quantizers(reader.spec)
        for packet in reader.packets():
            frames += 1
            key_frames += packet.key
            bare += packet.key and packet.layers.get(LayerId.BASE) == b""
            live.add(packet)
            quantizers.add(packet)
            for layer, payload in packet.layers.items():
                name = layer.name.lower()
                layers[name] = layers.get(name, 0) + len(payload)
    spec, info = reader.spec, reader.spec.info
    size = options.source.stat().st_size
    voxels = frames * info.rows * info.columns
    fields = {
        "source": str(options.source),
        "complete": reader.complete and not reader.damage,
        "frames": frames,
        "key_frames": key_frames,
        **_cine_fields(spec),
        "model": spec.model.label,
        "model_sha256": [digest.hex() for digest in spec.model_hashes],
        "order": order_text(spec),
        **_video_fields(spec),
        **_titok_fields(spec),
        **quantizers.fields(),
        **region_fields(spec),
        "groups_without_base_layer": bare if spec.model and spec.max_error is not None else None,
        "max_error": spec.max_error,
        "promise": promise_text(spec),
        "snr_loss_percent": spec.snr_loss_percent or None,
        "noise_sigma": spec.noise_sigma if spec.snr_loss_percent else None,
        "effort": spec.effort.name.lower(),
        "key_interval": spec.key_interval,
        "stream_bytes": size,
        "layer_bytes": layers,
        "bits_per_voxel": 8 * size / voxels if voxels else None,
        "ratio_to_16_bit": 2 * voxels / size,
        **live.fields(),
    }
    show(fields, options, console)
    return ExitStatus.OK if fields["complete"] else ExitStatus.DAMAGED


def _cine_fields(spec: StreamSpec) -> dict[str, Any]:
    """Return what the header says of the cine that was coded."""
    info = spec.info
    return {
        "slices_phases_rows_columns": [info.n_slices, info.n_phases, *info.frame_shape],
        "dtype": str(info.dtype),
        "sample_format": info.sample_format.name.lower(),
        "values": [spec.low, spec.high],
        "window": [spec.window_low, spec.window_high],
        "spacing_mm_slice_row_column": list(info.spacing_mm),
        "trigger_time_ms": list(info.trigger_time_ms),
        "rescale_slope_intercept": [info.rescale_slope, info.rescale_intercept],
        "source_format": info.source.kind.name.lower(),
    }


def _video_fields(spec: StreamSpec) -> dict[str, Any]:
    """Return what the header says of the frames of model `video`."""
    from edge_codec.spec import ModelId

    if spec.model is not ModelId.VIDEO:
        return {}
    from edge_codec.base.video.encoders import encoders_of
    from edge_codec.base.video.formats import coded_shape, unpack_model_data
    from edge_codec.errors import BitstreamError

    try:
        form, parameter_sets = unpack_model_data(spec)
    except BitstreamError as error:
        return {"video_codec": f"unknown: {error}"}
    return {
        "video_codec": form.codec,
        "video_bits_per_sample": form.depth,
        "video_pixels": form.pixel_format,
        "video_rows_columns": list(coded_shape(spec.info.frame_shape)),
        "video_parameter_set_bytes": len(parameter_sets),
        "video_encoder": " or ".join(encoders_of(form)),  # no more of its settings is sent
    }


def _titok_fields(spec: StreamSpec) -> dict[str, Any]:
    """Return what the header of a stream of tokens says: what was told, or what shares them."""
    from edge_codec.spec import TITOKS, ModelId

    if spec.model not in TITOKS:
        return {}
    from edge_codec.base.titok.conditions import unpack_facts
    from edge_codec.base.titok.groups.data import GROUP_BYTES, unpack_groups
    from edge_codec.errors import BitstreamError

    if spec.model is ModelId.TITOK_GROUPS:
        try:
            groups = unpack_groups(spec)
        except BitstreamError as error:
            return {"tokens_per": f"unknown: {error}"}
        return {
            "tokens_per": groups.per.label,
            "groups_of_32_tokens": len(groups.tokens),
            "token_bytes": len(groups.tokens) * GROUP_BYTES,
        }
    try:
        facts = asdict(unpack_facts(spec.model_data))
    except BitstreamError as error:
        return {"tokens_per": "frame", "told": f"unknown: {error}"}
    told = {f"told_{name}": value for name, value in facts.items() if value}
    return {"tokens_per": "frame", **told}


def _run_folder(options: argparse.Namespace, console: Console) -> ExitStatus:
    """List the live streams of a folder."""
    from edge_codec.runtime.live_folder import LiveFolder

    fields: dict[str, Any] = {"source": str(options.source)}
    for stream in LiveFolder(options.source).streams():
        for segment in stream.segments:
            entry = _segment_fields(segment)
            text = ", ".join(f"{name} {value}" for name, value in entry.items())
            fields[f"{stream.name}/{segment.path.name}"] = entry if options.json else text
    show(fields, options, console)
    return ExitStatus.OK


def _segment_fields(segment: SegmentEntry) -> dict[str, Any]:
    info = segment.spec.info if segment.spec else None
    return {
        "frames": segment.frames,
        "slices": info.n_slices if info else None,
        "rows": info.rows if info else None,
        "columns": info.columns if info else None,
        "bytes": segment.size,
        "complete": segment.complete,  # else cut, or still being written
    }

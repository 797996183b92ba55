"""One slice of a stream of model `video` as a file for players, from the stream's file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from edge_codec.base.video.formats import unpack_model_data
from edge_codec.base.video.player import PLAYER_SUFFIXES, seconds_per_frame, write_player_file
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId
from edge_codec.codec import BASE_CHECK
from edge_codec.errors import BitstreamError, FrameError, SourceError
from edge_codec.spec import ModelId, StreamSpec


@dataclass(frozen=True, slots=True)
class PlayerReport:
    """What was written.

    Attributes
    ----------
    spec : StreamSpec
        The stream.
    slice_index, frames : int
        Which slice, and how many frames of it.
    codec : str
        FFmpeg's names of codec and pixels.
    seconds_per_frame : Fraction
        How long each is shown.
    """

    spec: StreamSpec
    slice_index: int
    frames: int
    codec: str
    seconds_per_frame: Fraction


def is_player_file(path: Path) -> bool:
    """Whether a path is named as a file for players."""
    return path.suffix.lower() in PLAYER_SUFFIXES


def write_slice(
    source: Path, target: Path, slice_index: int | None = None, *, force: bool = False
) -> PlayerReport:
    """Write the base layer of one slice as a file that players open.

    Parameters
    ----------
    source : Path
        The stream, of model `video`; it must be whole.
    target : Path
        `.mp4` or `.mkv`; where the stream is AV1, also `.webm` or `.ivf`.
    slice_index : int, optional
        Which slice; may be left out where there is one.
    force : bool
        Overwrite the target.

    Raises
    ------
    SourceError
        If the stream is of another model or has no such slice, or frames of it have no base layer,
        or the target cannot be written or does not hold such video.
    BitstreamError
        If the stream is damaged, its video is none of its size, or it has no frame of the slice.
    EngineError
        If PyAV is not installed.
    """
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the stream itself; choose another target")
    with source.open("rb") as file:
        reader = StreamReader(file)
        spec = reader.spec
        if spec.model is not ModelId.VIDEO:
            raise SourceError(
                f"{source} has the base layer '{spec.model.label}', which no player knows; "
                "compress with --model video, or decompress into .nii.gz"
            )
        chosen = _chosen(slice_index, spec)
        payloads = list(_payloads(reader, chosen))
        if not payloads:
            raise BitstreamError(f"{source} holds no frame of slice {chosen}; choose another")
        write_player_file(spec, payloads, target, force=force)
    form, _ = unpack_model_data(spec)
    codec = f"{form.codec}, {form.pixel_format}"
    return PlayerReport(spec, chosen, len(payloads), codec, seconds_per_frame(spec.info))


def _chosen(slice_index: int | None, spec: StreamSpec) -> int:
    count = spec.info.n_slices
    if slice_index is None:
        if count > 1:
            raise SourceError(
                f"a player shows one slice and the stream has {count}; choose with --slice 0 to "
                f"{count - 1}"
            )
        return 0
    if not 0 <= slice_index < count:
        raise SourceError(f"slice {slice_index} is not in the stream; it has 0 to {count - 1}")
    return slice_index


def _payloads(reader: StreamReader, slice_index: int) -> Iterator[bytes]:
    """Yield the video payloads of a slice; the packets' CRCs are checked on the way."""
    for phase in range(reader.n_phases):
        try:
            packet = reader.read(slice_index, phase)
        except FrameError:  # slices of a live stream need not end with the same phase
            return
        layer = packet.layers[LayerId.BASE]
        if not layer and reader.spec.max_error is not None:
            raise SourceError(
                f"phase {phase} of slice {slice_index} has no base layer; compress without "
                "--base-cost, or decompress into .nii.gz"
            )
        yield layer[BASE_CHECK.size :]

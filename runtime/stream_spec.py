"""The description of a file's stream: what its options ask for, and what a scan of it finds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_codec.codec.samples import to_samples
from edge_codec.errors import SpecError
from edge_codec.io import FrameSource
from edge_codec.io.statistics import scan
from edge_codec.noise import NoiseMeter, allowed_variance, bound_of
from edge_codec.runtime.base_rate import is_number
from edge_codec.runtime.models import decoding_hashes, load_groups, make_model_data
from edge_codec.runtime.options import CompressOptions
from edge_codec.runtime.progress import Progress
from edge_codec.runtime.region_of_interest import check_roi, find_region
from edge_codec.spec import (
    MAX_ARCHIVE_GROUP,
    MAX_SNR_LOSS_PERCENT,
    CineInfo,
    ModelId,
    SampleFormat,
    StreamSpec,
    TokensPer,
)

if TYPE_CHECKING:
    from edge_codec.base.titok.conditions import ClinicalFacts

KEY_INTERVAL = 32


def make_spec(source: FrameSource, options: CompressOptions, progress: Progress) -> StreamSpec:
    """Read a source once for its value range and describe its stream.

    Raises
    ------
    SpecError
        If options exclude each other or do not fit the source.
    SourceError
        If a mask of the region does not.
    EngineError
        If the model lacks a package, or cannot code frames of its size.
    """
    info = source.info
    _check_promises(info, options)
    check_roi(options)
    max_error, percent = options.max_error, options.snr_loss_percent
    noise, sigma = NoiseMeter(), 0.0
    values = scan(source, progress, None if percent is None else noise.add)
    if percent is not None:
        sigma = noise.sigma()
        max_error = bound_of(allowed_variance(sigma, percent))
    spec = StreamSpec(
        info,
        low=values.low,
        high=values.high,
        model=options.coded_model,
        model_hashes=decoding_hashes(options.coded_model),
        max_error=max_error,
        key_interval=_key_interval(info, options),
        effort=options.effort,
        noise_sigma=sigma,
        snr_loss_percent=percent or 0.0,
        window_low=values.p001,
        window_high=max(values.p999, values.p001 + 1),
        archive=options.archive,
        model_data=make_model_data(
            options.coded_model,
            info.frame_shape,
            options.rate,
            options.effort,
            options.chosen_video_encoder,
            _facts(info, options),
        ),
        region=find_region(source, options, progress),
    )
    if options.tokens_per is TokensPer.FRAME:
        return spec
    return replace(spec, model_data=_tokens_of_groups(source, spec, options.tokens_per, progress))


def _tokens_of_groups(
    source: FrameSource, spec: StreamSpec, per: TokensPer, progress: Progress
) -> bytes:
    """Read a source once more for the tokens of its cines, or of all of it."""
    from edge_codec.base.titok.groups.gathering import Gatherer, find_groups

    tables = load_groups().tables
    gatherer = Gatherer(spec, per, tables[per].side)
    total = spec.info.n_slices * spec.info.n_phases
    for frame in progress(source.frames(), total, "tokens"):
        gatherer.add(to_samples(frame.samples, spec), frame.slice_index, frame.phase_index)
    return find_groups(gatherer, spec, per, tables).pack()


def _facts(info: CineInfo, options: CompressOptions) -> ClinicalFacts | None:
    """Return what the networks are told: the phase, and what was given of the patient."""
    if options.coded_model is not ModelId.TITOK:
        return None
    from edge_codec.base.titok.conditions import ClinicalFacts, told_cycle

    return replace(options.patient or ClinicalFacts(), n_phases=told_cycle(info.n_phases))


def _key_interval(info: CineInfo, options: CompressOptions) -> int:
    """Return the phases from one key frame to the next; an archive's groups are as long as can be.

    A cycle that is longer than a group may be is divided into as few and as even ones as possible.
    """
    if options.key_interval is not None:
        return options.key_interval
    if not options.archive:
        return KEY_INTERVAL
    groups = -(-info.n_phases // MAX_ARCHIVE_GROUP)
    return -(-info.n_phases // groups)


def _check_promises(info: CineInfo, options: CompressOptions) -> None:
    """Refuse promises that exclude each other or have no meaning, before the source is read."""
    percent = options.snr_loss_percent
    if percent is not None and not (is_number(percent) and 0 < percent <= MAX_SNR_LOSS_PERCENT):
        raise SpecError(
            f"a loss of {percent!r} % of the signal-to-noise ratio is no promise; use more than 0 "
            f"and at most {MAX_SNR_LOSS_PERCENT:.0f}"
        )
    if percent is not None and options.max_error != 0:
        raise SpecError("snr_loss_percent sets max_error itself; leave max_error at 0")
    if info.sample_format is SampleFormat.FLOAT32_ORDERED and (
        percent is not None or options.max_error != 0
    ):
        raise SpecError(
            "the voxels are floats that no integers stand for, so an error in stored units has no "
            "meaning; use --lossless, or store scaled integers"
        )

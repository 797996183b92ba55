"""edge-codec on the bench: whole streams, as `edge-codec compress` writes them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.trial import Codec, Coded, Tier, Trial
from edge_codec.io.samples import to_integers
from edge_codec.runtime.base_rate import MAX_QUALITY, BaseRate
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions
from edge_codec.runtime.progress import silent
from edge_codec.runtime.region_of_interest import HEART, find_region
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import Effort, ModelId

MAX_ERRORS = (1, 2, 4, 8, 16, 32)
QUALITIES = (48, 42, 36, 30, 24, 18, 12)  # six halve the step
NAME = "edge-codec"
HYBRID = f"{NAME}-dwt-cal"
HEART_GAIN = 4  # of those tried on training exams, that with the least bias of volumes
OF_HEART = f"--roi {HEART} --roi-gain {HEART_GAIN}"


def codecs() -> list[Codec]:
    """Return the efforts without a model, and the models alone."""
    efforts = [
        Codec(_with_effort(NAME, effort), f"this codec, --effort {effort.name.lower()}", (),
              _effort_trials(effort))
        for effort in sorted(Effort)
    ]  # fmt: skip
    live = [
        _rated(_with_effort(HYBRID, effort),
               f"this codec, --model dwt-cal --effort {effort.name.lower()}",
               CompressOptions(ModelId.DWT_CAL, None, effort=effort))
        for effort in sorted(Effort)
    ]  # fmt: skip
    archive = CompressOptions(ModelId.DWT_CAL, None, effort=Effort.BEST, archive=True)
    heart = partial(replace, roi=HEART, roi_gain=HEART_GAIN)
    learned = CompressOptions(ModelId.DWT_CAL_VAE, None)
    video = CompressOptions(ModelId.VIDEO, None)
    return [
        *efforts,
        *live,
        _rated(f"{HYBRID}-best-no-look-ahead",
               "this codec, --model dwt-cal --effort best --look-ahead 0",
               replace(archive, archive=False, look_ahead=0)),
        _rated(f"{HYBRID}-archive", "this codec, --model dwt-cal --archive --effort best", archive),
        _rated(f"{HYBRID}-roi", f"this codec, --model dwt-cal {OF_HEART}",
               heart(CompressOptions(ModelId.DWT_CAL, None))),
        _rated(f"{HYBRID}-archive-roi",
               f"this codec, --model dwt-cal --archive --effort best {OF_HEART}", heart(archive)),
        _rated(f"{HYBRID}-vae", "this codec, --model dwt-cal-vae: a network, low delay", learned),
        _rated(f"{NAME}-video", "this codec, --model video: a standard encoder within", video,
               ("av",)),
        Codec(f"{NAME}-vqvae", "this codec's learned base layer alone: a preview", (),
              partial(_model_trials, ModelId.VQVAE)),
        Codec(f"{NAME}-titok", "this codec, --model titok: 32 tokens a frame, a preview", (),
              partial(_model_trials, ModelId.TITOK)),
    ]  # fmt: skip


def _rated(
    name: str, summary: str, options: CompressOptions, modules: tuple[str, ...] = ()
) -> Codec:
    """Return a codec with a quality."""
    every = range(MAX_QUALITY, -1, -1)
    return Codec(name, summary, modules, partial(_quality_trials, options, QUALITIES),
                 partial(_quality_trials, options, every))  # fmt: skip


def _with_effort(name: str, effort: Effort) -> str:
    return name if effort is Effort.DEFAULT else f"{name}-{effort.name.lower()}"


def _effort_trials(effort: Effort) -> Callable[[int], Sequence[Trial]]:
    def trials(threads: int) -> list[Trial]:
        found = [_trial("lossless", Tier.LOSSLESS, CompressOptions(effort=effort), threads)]
        for bound in MAX_ERRORS:
            options = CompressOptions(max_error=bound, effort=effort)
            found.append(_trial(f"max error {bound}", Tier.BOUNDED, options, threads))
        return found

    return trials


def _quality_trials(
    options: CompressOptions, qualities: Sequence[int], threads: int
) -> list[Trial]:
    rated = [(quality, replace(options, rate=BaseRate(quality))) for quality in qualities]
    return [_trial(f"quality {quality}", Tier.LOSSY, one, threads) for quality, one in rated]


def _model_trials(model: ModelId, threads: int) -> list[Trial]:
    options = CompressOptions(model=model, max_error=None)
    return [_trial("base layer alone", Tier.LOSSY, options, threads)]


def _trial(setting: str, tier: Tier, options: CompressOptions, threads: int) -> Trial:
    chosen = replace(options, threads=threads)
    return Trial(setting, tier, lambda case: _code(case, _of_case(case, chosen)),
                 options.max_error, threads)  # fmt: skip


def _of_case(case: Case, options: CompressOptions) -> CompressOptions:
    """Return options with a region that has been found, the same for all settings of an exam."""
    if options.roi is None:
        return options
    mask = _heart(case, options.threads)
    return replace(options, roi=mask, roi_gain=None if mask is None else options.roi_gain)


@lru_cache(maxsize=1)
def _heart(case: Case, threads: int | None) -> NDArray[np.bool_] | None:
    """Return the squares of `--roi heart`; None where the network finds no heart."""
    options = CompressOptions(ModelId.DWT_CAL, None, threads=threads, roi=HEART)
    region = find_region(case.cine, options, silent)
    if region is None:
        return None
    n_slices, _, rows, columns = case.voxels.shape
    return region.mask(n_slices, rows, columns)


def _code(case: Case, options: CompressOptions) -> Coded:
    file = io.BytesIO()
    encoded = encode_stream(case.cine, file, options)
    sink = MemorySink()
    restored = decode_stream(file, lambda _: sink, DecompressOptions(threads=options.threads))
    cine = sink.cine(restored.spec.info)
    return Coded(
        len(file.getbuffer()),
        to_integers(cine.voxels, cine.info.sample_format),
        encoded.frame_ms,
        restored.frame_ms,
        "frame",
    )

"""edge-codec on the bench: whole streams, as `edge-codec compress` writes them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.trial import Codec, Coded, Tier, Trial
from edge_codec.io.samples import to_integers
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.files import decode_stream, encode_stream
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions
from edge_codec.spec import Effort, ModelId

MAX_ERRORS = (1, 2, 4, 8, 16, 32)
QUALITIES = (48, 42, 36, 30, 24, 18, 12)  # six halve the step
NAME = "edge-codec"
HYBRID = f"{NAME}-dwt-cal"


def codecs() -> list[Codec]:
    """Return the efforts without a model, and the models alone."""
    efforts = [
        Codec(_with_effort(NAME, effort), f"this codec, --effort {effort.name.lower()}", (),
              _effort_trials(effort))
        for effort in sorted(Effort)
    ]  # fmt: skip
    live = [
        Codec(_with_effort(HYBRID, effort),
              f"this codec, --model dwt-cal --effort {effort.name.lower()}", (),
              _quality_trials(CompressOptions(ModelId.DWT_CAL, None, effort=effort)))
        for effort in sorted(Effort)
    ]  # fmt: skip
    archive = CompressOptions(ModelId.DWT_CAL, None, effort=Effort.BEST, archive=True)
    learned = CompressOptions(ModelId.DWT_CAL_VAE, None)
    video = CompressOptions(ModelId.VIDEO, None)
    return [
        *efforts,
        *live,
        Codec(f"{HYBRID}-best-no-look-ahead",
              "this codec, --model dwt-cal --effort best --look-ahead 0", (),
              _quality_trials(replace(archive, archive=False, look_ahead=0))),
        Codec(f"{HYBRID}-archive", "this codec, --model dwt-cal --archive --effort best", (),
              _quality_trials(archive)),
        Codec(f"{HYBRID}-vae", "this codec, --model dwt-cal-vae: a network, low delay", (),
              _quality_trials(learned)),
        Codec(f"{NAME}-video", "this codec, --model video: a standard encoder within", ("av",),
              _quality_trials(video)),
        Codec(f"{NAME}-vqvae", "this codec's learned base layer alone: a preview", (),
              _model_trials),
    ]  # fmt: skip


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


def _quality_trials(options: CompressOptions) -> Callable[[int], Sequence[Trial]]:
    def trials(threads: int) -> list[Trial]:
        rated = [(quality, replace(options, rate=BaseRate(quality))) for quality in QUALITIES]
        return [_trial(f"quality {quality}", Tier.LOSSY, one, threads) for quality, one in rated]

    return trials


def _model_trials(threads: int) -> list[Trial]:
    options = CompressOptions(model=ModelId.VQVAE, max_error=None)
    return [_trial("base layer alone", Tier.LOSSY, options, threads)]


def _trial(setting: str, tier: Tier, options: CompressOptions, threads: int) -> Trial:
    chosen = replace(options, threads=threads)
    return Trial(setting, tier, lambda case: _code(case, chosen), options.max_error, threads)


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

"""Every codec on the bench, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_codec.bench.extra import installed, require
from edge_codec.bench.rd import ours, peers_bytes, peers_imagecodecs, peers_tomoz, peers_video
from edge_codec.bench.rd.trial import Codec, Tier, Trial
from edge_codec.errors import SpecError

ANCHOR = "x265-low-delay"
# Distribution names, for the record of a run.
PACKAGES = ("imagecodecs", "av", "tomoz", "zstandard", "scipy", "matplotlib")


def all_codecs() -> dict[str, Codec]:
    """Return every codec by its name, ours first."""
    sources = (ours, peers_imagecodecs, peers_video, peers_tomoz, peers_bytes)
    return {codec.name: codec for source in sources for codec in source.codecs()}


def choose(names: Iterable[str] | None) -> list[Codec]:
    """Return codecs by name, in the order of `all_codecs`; all of them for None.

    Raises
    ------
    SpecError
        If a name is unknown.
    EngineError
        If a codec's library is not installed.
    """
    known = all_codecs()
    wanted = list(known) if names is None else list(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SpecError(
            f"codec '{', '.join(unknown)}' is unknown; 'edge-codec bench rd --list' names them"
        )
    chosen = [codec for name, codec in known.items() if name in wanted]
    require((module for codec in chosen for module in codec.modules), "bench rd")
    return chosen


def trials(
    codecs: Iterable[Codec], tiers: Sequence[Tier], threads: int
) -> list[tuple[Codec, Trial]]:
    """Return every trial of the chosen tiers."""
    return [
        (codec, trial) for codec in codecs for trial in codec.trials(threads) if trial.tier in tiers
    ]


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries inside the installed packages, where they tell them."""
    versions: dict[str, str] = {}
    if installed("imagecodecs"):
        import imagecodecs

        for name in ("jpegls", "jpeg2k", "htj2k", "jpegxl"):
            tell = getattr(imagecodecs, f"{name}_version", None)
            if tell is not None:
                versions[name] = tell()
    if installed("av"):
        import av

        versions["ffmpeg"] = av.ffmpeg_version_info
    if installed("zstandard"):
        import zstandard

        versions["zstd"] = ".".join(map(str, zstandard.ZSTD_VERSION))
    return versions

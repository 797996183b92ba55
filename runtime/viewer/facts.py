"""What a page says of a stream: its header in words and numbers."""

from __future__ import annotations

from typing import Any

from edge_codec.spec import ModelId, StreamSpec


def facts_of(spec: StreamSpec) -> dict[str, Any]:
    """Return a stream's description as plain JSON values."""
    info = spec.info
    return {
        "slices": info.n_slices,
        "phases": info.n_phases,
        "rows": info.rows,
        "columns": info.columns,
        "dtype": str(info.dtype),
        "low": spec.low,
        "high": spec.high,
        "window": [spec.window_low, spec.window_high],
        "spacing_mm": list(info.spacing_mm),
        "trigger_time_ms": list(info.trigger_time_ms),
        "rescale": [info.rescale_slope, info.rescale_intercept],
        "source": info.source.kind.name.lower(),
        "model": spec.model.label,
        "effort": spec.effort.name.lower(),
        "key_interval": spec.key_interval,
        "archive": spec.archive,
        "lossless": spec.lossless,
        "max_error": spec.max_error,
        "promise": _promise(spec),
        "has_base": spec.model is not ModelId.NONE,
        "has_residual": spec.max_error is not None,
    }


def _promise(spec: StreamSpec) -> str:
    if spec.model is ModelId.TITOK:
        return "none: 32 tokens a frame, a preview, not for diagnosis"
    if spec.model is ModelId.TITOK_GROUPS:
        return "none: 32 tokens for a whole cine or exam, a blurred preview, not for diagnosis"
    if spec.max_error is None:
        return "none: lossy base layer, not for diagnosis"
    if spec.max_error == 0:
        return "lossless: every voxel as stored"
    bound = f"no voxel off by more than {spec.max_error}"
    if spec.region is None or spec.region.max_error is None:
        return bound
    return f"{bound}, in the region of interest by no more than {spec.region.max_error}"

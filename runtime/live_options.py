"""What the opener of a live stream chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_codec.bitstream.live import Policy
from edge_codec.errors import SpecError
from edge_codec.runtime.base_rate import USUAL, BaseRate
from edge_codec.runtime.networks import check_backend
from edge_codec.spec import (
    MAX_KEY_INTERVAL,
    MAX_PHASES,
    MAX_SLICES,
    REFUSED_BOUND,
    Effort,
    ModelId,
)

MAX_QUEUE_FRAMES = 4096
MAX_BUDGET_MS = 60_000.0
LIVE_BASE_EFFORT = Effort.FAST
"""How hard a base layer is searched for live: the time that it takes cannot be cut short."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How the frames of a live stream are coded, and what is done when time is short.

    Attributes
    ----------
    model : ModelId
        Model of the base layer.
    max_error : int or None
        Bound in stored units, 0 for lossless, None for the base layer alone.
    effort : Effort
        How hard the residual layer works while there is time; for a base layer that is searched
        for see `LIVE_BASE_EFFORT`.
    key_interval : int
        Phases from one key frame to the next.
    backend
        What runs the model's networks, see `edge_codec.runtime.pick.load_engine`; 'auto' for a
        model without any.
    threads
        Most threads that work on a frame; None for one on each core.
    policy : Policy
        What is done when time is short; see `docs/streaming.md`. `NONE` tries nothing.
    budget_ms : float
        Deadline of a frame, from its acquisition until the last sink took it; 0 for none.
    queue_frames : int
        How many frames may wait to be coded.
    n_slices, n_phases : int
        Of the stream's header; `n_phases` 0 where nobody knows it. A promised number of phases
        must come: a segment that ends before is left as a cut one.
    rate : BaseRate
        How good or how large the base layer shall be.

    Raises
    ------
    SpecError
        If a number is out of range, or the policy cannot be kept with the others.
    """

    model: ModelId = ModelId.NONE
    max_error: int | None = 0
    effort: Effort = Effort.DEFAULT
    key_interval: int = 32
    backend: str = "auto"
    threads: int | None = None
    policy: Policy = Policy.ADAPTIVE
    budget_ms: float = 10.0
    queue_frames: int = 8
    n_slices: int = 1
    n_phases: int = 0
    rate: BaseRate = USUAL

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        for name, value, low, high in (
            ("key_interval", self.key_interval, 1, MAX_KEY_INTERVAL),
            ("queue_frames", self.queue_frames, 1, MAX_QUEUE_FRAMES),
            ("n_slices", self.n_slices, 1, MAX_SLICES),
            ("n_phases", self.n_phases, 0, MAX_PHASES),
            ("budget_ms", self.budget_ms, 0, MAX_BUDGET_MS),
        ):
            if not (math.isfinite(value) and low <= value <= high):
                raise SpecError(f"{name} is {value}; use {low} to {high}")
        if self.threads is not None and self.threads < 1:
            raise SpecError(f"threads is {self.threads}; use 1 or more")
        if self.policy is Policy.STRICT_LOSSLESS and self.max_error != 0:
            raise SpecError(
                f"policy strict-lossless with max_error {self.max_error}; use max_error 0, or "
                "policy adaptive"
            )
        if self.max_error is None and self.model is ModelId.NONE:
            raise SpecError("model 'none' without a residual layer codes nothing; set max_error")
        if self.max_error is not None and self.model is ModelId.TITOK:
            raise SpecError(REFUSED_BOUND)
        if self.model is ModelId.TITOK_GROUPS:
            raise SpecError(
                "tokens of a whole cine or exam are known only when its last frame is; a live "
                "stream takes model titok, with tokens for each frame"
            )
        self.rate.check(self.model)
        check_backend(self.backend, self.model)

    @property
    def budget_ns(self) -> int:
        """The deadline in nanoseconds; 0 for none."""
        return round(self.budget_ms * 1e6)


def parse_policy(name: str) -> Policy:
    """Return the policy named on the command line: 'none', 'strict-lossless', 'adaptive', ...

    Raises
    ------
    SpecError
        If there is no such policy.
    """
    try:
        return Policy[str(name).upper().replace("-", "_")]
    except KeyError:
        known = ", ".join(policy.name.lower().replace("_", "-") for policy in Policy)
        raise SpecError(f"policy '{name}' is unknown; use one of {known}") from None

"""How far the output of a network is from what it should be, and how far it may be."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.metrics.image import psnr, squared_error


@dataclasses.dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a float network may be from its reference.

    Attributes
    ----------
    relative : float
        Of float outputs: largest difference over the largest magnitude of the reference.
    tokens : float
        Share of the tokens that differ.
    psnr_db : float
        Of frames: difference of the PSNR against the frame that was encoded.
    """

    relative: float
    tokens: float
    psnr_db: float


TOLERANCES = {
    # Sums of about a thousand products in another order: some 100 of 2**-24; a token differs where
    # two codes are equally near up to that.
    "f32": Tolerance(1e-5, 0.001, 0.005),
    # 11 bits, rounded once per layer.
    "f16": Tolerance(0.01, 0.05, 0.05),
    # 8 bits, rounded once per layer.
    "bf16": Tolerance(0.08, 0.4, 0.3),
}
"""By precision of the arithmetic."""


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """How one backend compares with the reference on one network.

    Attributes
    ----------
    network, backend : str
    precision : str
        'exact' for integer networks, else a key of `TOLERANCES`.
    elements : int
    largest : float
        Largest absolute difference.
    relative : float
        The same over the largest magnitude of the reference.
    differing : float
        Share of the elements that differ at all.
    psnr_db : float or None
        Difference of the PSNR, for frames whose original is known.
    within : bool
        Whether that is tolerated.
    """

    network: str
    backend: str
    precision: str
    elements: int
    largest: float
    relative: float
    differing: float
    psnr_db: float | None
    within: bool


def agreement(
    network: str,
    backend: str,
    precision: str,
    found: NDArray[Any],
    reference: NDArray[Any],
    original: NDArray[np.uint8] | None = None,
) -> Agreement:
    """Compare the output of a backend with what it should be.

    Parameters
    ----------
    network, backend, precision : str
        As in `Agreement`.
    found, reference : ndarray
        Outputs: latents float32, tokens int32 or frames uint8.
    original : ndarray, uint8, optional
        The frames that were encoded.

    Raises
    ------
    EngineError
        If shapes or types differ.
    """
    if found.shape != reference.shape or found.dtype != reference.dtype:
        raise EngineError(
            f"{network} on {backend} gives {found.shape} {found.dtype}, "
            f"the reference is {reference.shape} {reference.dtype}"
        )
    difference = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    largest = float(difference.max(initial=0.0))
    magnitude = float(np.abs(reference.astype(np.float64)).max(initial=0.0))
    psnr_db = None
    if original is not None:
        psnr_db = frame_psnr(found, original) - frame_psnr(reference, original)
    result = Agreement(
        network,
        backend,
        precision,
        elements=found.size,
        largest=largest,
        relative=largest / magnitude if magnitude else largest,
        differing=float(np.mean(difference > 0)) if found.size else 0.0,
        psnr_db=psnr_db,
        within=False,
    )
    return dataclasses.replace(result, within=_is_within(result, found.dtype))


def _is_within(result: Agreement, dtype: np.dtype[Any]) -> bool:
    if result.precision == "exact":
        return result.largest == 0.0
    tolerance = TOLERANCES[result.precision]
    if dtype == np.int32:
        return result.differing <= tolerance.tokens
    if dtype == np.uint8:
        # Rounding to codes may fall either way; the error against the original may not grow.
        return result.psnr_db is None or abs(result.psnr_db) <= tolerance.psnr_db
    return result.relative <= tolerance.relative


def frame_psnr(found: NDArray[Any], original: NDArray[np.uint8]) -> float:
    """PSNR in dB of 8-bit frames, peak 255; at most 138 dB, so that differences are finite."""
    error = squared_error(original, found) / max(1, original.size)
    return psnr(max(error, 1e-9), 255.0)


def table(rows: list[Agreement]) -> str:
    """Format results as a table of text; the differences of tokens have no size."""
    lines = [f"{'network':8} {'backend':36} {'type':5} {'largest':>9} {'differ':>9} {'PSNR':>11}"]
    for row in rows:
        largest = "" if row.network == "tokens" else f"{row.relative:9.2g}"
        psnr_db = "" if row.psnr_db is None else f"{row.psnr_db:+8.4f} dB"
        verdict = "" if row.within else "  NOT WITHIN TOLERANCE"
        lines.append(
            f"{row.network:8} {row.backend:36} {row.precision:5} {largest:>9} "
            f"{row.differing:9.3%} {psnr_db:>11}{verdict}"
        )
    lines.append("largest: difference over the largest magnitude; differ: share of the elements")
    return "\n".join(lines)

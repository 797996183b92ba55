"""One trial on one case: run it, verify what it promises, compute its figures."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.other_work import OtherWork
from edge_codec.bench.rd.trial import (
    Codec,
    Coded,
    NotApplicableError,
    Trial,
    UnavailableError,
)
from edge_codec.metrics.image import SSIM_WINDOW, psnr, squared_error, ssim

OK = "ok"
SKIPPED = "skipped"
NOT_APPLICABLE = "not applicable"
FAILED = "failed"
DISTURBED = 0.1  # processors busy with other work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a verified round trip gave.

    Attributes
    ----------
    stream_bytes : int
        Every byte that the decoder was given.
    bpp : float
        Bits of those bytes over the voxels.
    ratio_to_16_bit : float
        16 over `bpp`.
    psnr_db, psnr_p995_db, psnr_roi_db, psnr_heart_db : float or None
        Peak: maximum of the exam; its 99.5th percentile; the maximum, over the moving region; the
        maximum, over the region of the heart. Mean squared error over all voxels (of the region)
        of all frames. None: no error, or no such peak or region.
    ssim : float or None
        Per frame with the range 0 to the maximum of the exam, averaged; None below 7x7 pixels.
    max_error : int
        Largest absolute difference in stored units.
    encode_ms, decode_ms : float
        Median over what was coded by itself (`timed`) of the milliseconds per frame.
    timed : str
        'frame', or 'stream': frames of one stream are timed together and share its time.
    other_work : float or None
        Processors that were busy with something else meanwhile, on average; None where the system
        does not tell. Times of rows above `DISTURBED` are marked.
    """

    stream_bytes: int
    bpp: float
    ratio_to_16_bit: float
    psnr_db: float | None
    psnr_p995_db: float | None
    psnr_roi_db: float | None
    psnr_heart_db: float | None
    ssim: float | None
    max_error: int
    encode_ms: float
    decode_ms: float
    timed: str
    other_work: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether other work ran beside, so that times are too long."""
        return self.other_work is not None and self.other_work > DISTURBED


@dataclass(frozen=True, slots=True)
class Result:
    """One row: what was tried, and what came of it.

    Attributes
    ----------
    case, codec, setting, tier : str
        What was tried.
    promised_max_error : int or None
        What was verified; None where the setting promises nothing.
    threads : int
        Threads that the codec was allowed.
    status : str
        'ok', 'skipped' (the install lacks it), 'not applicable' (the voxels do not fit the codec),
        or 'failed' (the codec raised, or did not keep its promise).
    reason : str
        Why the status is not 'ok'.
    notes : tuple of str
        What a reader must know, such as a scale.
    figures : Figures or None
        None unless the status is 'ok': a codec that fails has no figures.
    """

    case: str
    codec: str
    setting: str
    tier: str
    promised_max_error: int | None
    threads: int
    status: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    figures: Figures | None = None

    def record(self) -> dict[str, Any]:
        """Return the row as one flat JSON object; figures are null where there are none."""
        fields = asdict(self)
        figures = fields.pop("figures") or dict.fromkeys(Figures.__dataclass_fields__)
        return {**fields, "notes": list(self.notes), **figures}

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> Result:
        """Return the row that `record` made an object of; figures it lacks are None."""
        named: dict[str, Any] = {name: row.get(name) for name in Figures.__dataclass_fields__}
        figures = Figures(**named) if row["status"] == OK else None
        plain = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        return cls(**{**plain, "notes": tuple(row["notes"]), "figures": figures})


def measure(case: Case, codec: Codec, trial: Trial) -> Result:
    """Run a trial on a case and verify it."""

    def result(status: str, reason: str = "", **rest: Any) -> Result:
        return Result(
            case.name, codec.name, trial.setting, trial.tier.value, trial.max_error, trial.threads,
            status, reason, **rest,
        )  # fmt: skip

    others = OtherWork()
    try:
        coded = trial.code(case)
    except UnavailableError as error:
        return result(SKIPPED, str(error))
    except NotApplicableError as error:
        return result(NOT_APPLICABLE, str(error))
    # A foreign library may raise anything. The run goes on, the row says what happened, and the
    # exit status is that of a failure.
    except Exception as error:
        logger.info("%s %s", codec.name, trial.setting, exc_info=True)
        return result(FAILED, " ".join(f"{type(error).__name__}: {error}".split()))
    beside = others.processors()
    broken = broken_promise(case.voxels, coded.voxels, trial.max_error)
    if broken:
        return result(FAILED, broken, notes=coded.notes)
    figures = replace(figures_of(case, coded), other_work=beside)
    return result(OK, notes=coded.notes, figures=figures)


def broken_promise(original: NDArray[Any], decoded: NDArray[Any], max_error: int | None) -> str:
    """Say what is wrong with decoded voxels; empty where they keep the promise.

    Parameters
    ----------
    original, decoded : ndarray, integer
        Voxels in stored units.
    max_error : int or None
        Largest difference allowed; None allows any.
    """
    if decoded.shape != original.shape:
        return f"decoded voxels have shape {decoded.shape}, expected {original.shape}"
    largest = largest_error(original, decoded)
    if max_error is None or largest <= max_error:
        return ""
    allowed = "every voxel must come back exactly" if max_error == 0 else f"{max_error} is promised"
    return f"a voxel is off by {largest}, {allowed}"


def largest_error(original: NDArray[Any], decoded: NDArray[Any]) -> int:
    """Return the largest absolute difference of voxels of at most 32 bits."""
    return int(np.abs(original.astype(np.int64) - decoded.astype(np.int64)).max())


def figures_of(case: Case, coded: Coded) -> Figures:
    """Compute the figures of a verified round trip."""
    original, decoded = case.voxels, coded.voxels
    bpp = 8 * coded.stream_bytes / original.size
    mean_error = squared_error(original, decoded) / original.size
    return Figures(
        stream_bytes=coded.stream_bytes,
        bpp=bpp,
        ratio_to_16_bit=16 / bpp,
        psnr_db=_psnr(mean_error, case.peak),
        psnr_p995_db=_psnr(mean_error, case.peak_p995),
        psnr_roi_db=_psnr(_region_error(case, case.region, decoded), case.peak),
        psnr_heart_db=_psnr(_region_error(case, case.heart.region, decoded), case.peak),
        ssim=_mean_ssim(case, decoded),
        max_error=largest_error(original, decoded),
        encode_ms=float(np.median(coded.encode_ms)),
        decode_ms=float(np.median(coded.decode_ms)),
        timed=coded.timed,
    )


def _psnr(mean_squared_error: float | None, peak: float) -> float | None:
    if mean_squared_error is None or peak <= 0:
        return None
    value = psnr(mean_squared_error, peak)
    return None if value == math.inf else value


def _region_error(case: Case, region: NDArray[np.bool_], decoded: NDArray[Any]) -> float | None:
    """Mean squared error in a region (slices, rows, columns) over all phases."""
    if not region.any():
        return None
    # (slice, phase, row, column) -> (phase, pixels of all slices)
    chosen = [np.moveaxis(voxels, 1, 0)[:, region] for voxels in (case.voxels, decoded)]
    return squared_error(*chosen) / chosen[0].size


def _mean_ssim(case: Case, decoded: NDArray[Any]) -> float | None:
    rows, columns = case.voxels.shape[2:]
    if min(rows, columns) < SSIM_WINDOW:
        return None
    if np.array_equal(case.voxels, decoded):
        return 1.0
    frames = zip(
        case.voxels.reshape(-1, rows, columns), decoded.reshape(-1, rows, columns), strict=True
    )
    return float(np.mean([ssim(a, b, case.peak) for a, b in frames]))

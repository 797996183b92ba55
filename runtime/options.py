"""What a caller chooses for a whole file, and what it is told afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edge_codec.base.video.encoders import DEFAULT_ENCODER, ENCODERS
from edge_codec.errors import SpecError
from edge_codec.runtime.base_rate import USUAL, BaseRate, check_rated, is_number
from edge_codec.runtime.networks import check_backend
from edge_codec.spec import REFUSED_BOUND, Effort, ModelId, StreamSpec, TokensPer

if TYPE_CHECKING:
    from edge_codec.base.hybrid.rate_control import RateReport
    from edge_codec.base.titok.conditions import ClinicalFacts

USUAL_BASE_COST_PERCENT = 5.0
USUAL_LOOK_AHEAD = 16
MAX_LOOK_AHEAD = 16


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """How to compress.

    Attributes
    ----------
    model : ModelId
        Model of the base layer.
    max_error : int or None
        Bound in stored units, 0 for lossless, None for the base layer alone.
    key_interval : int, optional
        Phases from one key frame to the next; 32 without it, and in an archive the whole cycle, up
        to 64.
    effort : Effort
        How hard the residual layer works, and the search of a base layer: more is smaller and
        slower.
    snr_loss_percent : float, optional
        Loss of signal-to-noise ratio to allow, above 0 and up to 50: takes the place of
        `max_error`, which is then derived from the noise of the exam (`edge_codec.noise`).
    backend
        What runs the model's networks, see `edge_codec.runtime.pick.load_engine`; 'auto' for a
        model without any.
    threads
        Most threads that work on a frame; None for one on each core.
    series : str, optional
        DICOM SeriesInstanceUID, where a folder holds several.
    force : bool
        Overwrite the target.
    rate : BaseRate
        How good or how large the base layer shall be.
    psnr_db : float, optional
        Signal-to-noise ratio that the base layer shall reach over the whole exam, its peak the
        exam's maximum; the least quality that does is searched for. Without a residual layer.
    archive : bool
        Code each heart cycle as a hierarchy: smaller, and its frames depend on later ones.
    look_ahead : int, optional
        Phases of its group that each key frame of `DWT_CAL` is filtered with before it is coded,
        up to `MAX_LOOK_AHEAD`; 0 does without, as live streams do. Without it `USUAL_LOOK_AHEAD`.
    video_encoder : str, optional
        Encoder of model `VIDEO`, of `edge_codec.base.video.encoders.ENCODERS`.
    base_cost_percent : float, optional
        How many percent more bytes a group of frames may take with its base layer than with the
        residual layer alone; a group that takes more loses its base layer. Not with bits per
        frame. Without it `USUAL_BASE_COST_PERCENT` of `DWT_CAL` where no rate is chosen, else any.
    roi : str, Path or ndarray, optional
        Region of interest: 'heart', found by the segmentation network, or a mask of the exam's
        size, in a file or an array, not 0 inside. Slices without one are coded as without it.
    roi_gain : int, optional
        Quality steps by which a base layer of `DWT_CAL` is finer in the region, 0 to 63; without
        it `region_of_interest.DEFAULT_GAIN`, and 0 beside a `roi_max_error`.
    roi_max_error : int, optional
        Bound in the region, below `max_error`.
    patient : ClinicalFacts, optional
        What the networks of `TITOK` are told of the patient; it is kept in the stream's header.
        The number of phases is the source's.
    tokens_per : TokensPer
        What shares 32 tokens of `TITOK`: each frame, all phases of a slice, or the whole exam.

    Raises
    ------
    SpecError
        If choices exclude each other, or the model does not offer them.
    """

    model: ModelId = ModelId.NONE
    max_error: int | None = 0
    key_interval: int | None = None
    effort: Effort = Effort.DEFAULT
    snr_loss_percent: float | None = None
    backend: str = "auto"
    threads: int | None = None
    series: str | None = None
    force: bool = False
    rate: BaseRate = USUAL
    psnr_db: float | None = None
    archive: bool = False
    look_ahead: int | None = None
    video_encoder: str | None = None
    base_cost_percent: float | None = None
    roi: str | Path | NDArray[Any] | None = None
    roi_gain: int | None = None
    roi_max_error: int | None = None
    patient: ClinicalFacts | None = None
    tokens_per: TokensPer = TokensPer.FRAME

    def __post_init__(self) -> None:
        """Refuse what makes no sense together."""
        if self.model is ModelId.TITOK and self.max_error is not None:
            raise SpecError(REFUSED_BOUND)
        if self.patient is not None and self.model is not ModelId.TITOK:
            raise SpecError(
                f"model '{self.model.label}' takes no facts about the patient; leave them out, or "
                "use model titok"
            )
        if self.model is ModelId.TITOK_GROUPS or self.tokens_per is not TokensPer.FRAME:
            self._check_groups()
        self.rate.check(self.model)
        check_backend(self.backend, self.model)
        if self.archive and self.model is not ModelId.DWT_CAL:
            raise SpecError(
                f"model '{self.model.label}' has no archive order; use model dwt-cal for it"
            )
        if self.look_ahead is not None:
            self._check_look_ahead(self.look_ahead)
        if self.psnr_db is not None:
            self._check_target(self.psnr_db)
        if self.video_encoder is not None:
            self._check_encoder(self.video_encoder)
        if self.base_cost_percent is not None:
            self._check_base_cost(self.base_cost_percent)

    @property
    def base_cost_limit(self) -> float | None:
        """Percent that the base layer of a group may cost; None: whatever it does."""
        if self.base_cost_percent is not None:
            return self.base_cost_percent
        usual = self.model is ModelId.DWT_CAL and self.rate == USUAL and self.max_error is not None
        return USUAL_BASE_COST_PERCENT if usual else None

    @property
    def chosen_video_encoder(self) -> str:
        """Name of the encoder of model `VIDEO`."""
        return self.video_encoder or DEFAULT_ENCODER

    @property
    def key_look_ahead(self) -> int:
        """Phases to filter a key frame with."""
        if self.look_ahead is not None:
            return self.look_ahead
        return USUAL_LOOK_AHEAD if self.model is ModelId.DWT_CAL else 0

    @property
    def coded_model(self) -> ModelId:
        """Model that the stream's header names."""
        return self.model if self.tokens_per is TokensPer.FRAME else ModelId.TITOK_GROUPS

    def _check_groups(self) -> None:
        if self.model is not ModelId.TITOK:
            raise SpecError(
                f"tokens for each {self.tokens_per.label} of model '{self.model.label}'; it is "
                "model titok that takes tokens_per (--tokens-per)"
            )
        if self.patient is not None:
            raise SpecError(
                "tokens of a whole cine or exam take no facts about the patient; leave them out, "
                "or use tokens for each frame"
            )
        if self.backend != "auto":
            raise SpecError(
                "tokens of a whole cine or exam need no network, and no backend to run it; leave "
                f"'{self.backend}' out"
            )

    def _check_look_ahead(self, look_ahead: int) -> None:
        if self.model is not ModelId.DWT_CAL:
            raise SpecError(
                f"model '{self.model.label}' does not look ahead; use model dwt-cal for it"
            )
        if type(look_ahead) is not int or not 0 <= look_ahead <= MAX_LOOK_AHEAD:
            raise SpecError(f"look_ahead is {look_ahead!r}; use 0 to {MAX_LOOK_AHEAD} phases")

    def _check_base_cost(self, percent: float) -> None:
        if self.model is ModelId.NONE or self.max_error is None:
            raise SpecError(
                "base_cost is for a base layer below a residual layer: choose a model, and "
                "lossless or a bound (--lossless, --max-error or --snr-loss)"
            )
        if self.rate.bits_per_frame is not None:
            raise SpecError(
                "base_cost would leave out frames of a base layer that keeps to bits per frame; "
                "give one of the two, or base_cost and a quality"
            )
        if not (is_number(percent) and 0 <= percent < math.inf):
            raise SpecError(f"base_cost is {percent!r} %; use a number of 0 or more")

    def _check_encoder(self, name: str) -> None:
        if self.model is not ModelId.VIDEO:
            raise SpecError(f"model '{self.model.label}' takes no video encoder; use model video")
        if name not in ENCODERS:
            raise SpecError(f"video encoder '{name}' is unknown; use one of {', '.join(ENCODERS)}")

    def _check_target(self, psnr_db: float) -> None:
        check_rated(self.model)
        if self.rate != USUAL:
            raise SpecError(
                "a target PSNR (psnr_db) sets the quality itself; give neither quality nor bits "
                "per frame with it"
            )
        if self.max_error is not None or self.snr_loss_percent is not None:
            raise SpecError(
                "a target PSNR (psnr_db) is for a base layer alone; set max_error to None and no "
                "loss of SNR (on the command line: no --lossless, --max-error, --snr-loss), or "
                "leave out the target"
            )
        if not (is_number(psnr_db) and 0 < psnr_db < math.inf):
            raise SpecError(f"psnr_db is {psnr_db!r}; use a positive number of dB")


@dataclass(frozen=True, slots=True)
class DecompressOptions:
    """How to decompress.

    Attributes
    ----------
    preview : bool
        Decode the base layer only; frames that have none are decoded whole. Of `TITOK`: frames as
        they were painted, without refining whole slices.
    recover : bool
        Decode what a damaged stream still holds; missing frames become its lowest value.
    backend
        What runs networks, see `edge_codec.runtime.pick.load_engine`; a stream of a model without
        any needs none.
    threads
        Most threads that work on a frame; None for one on each core.
    force : bool
        Overwrite the target.
    """

    preview: bool = False
    recover: bool = False
    backend: str = "auto"
    threads: int | None = None
    force: bool = False


@dataclass(slots=True)
class TransferReport:
    """What was done.

    Attributes
    ----------
    spec : StreamSpec
        The stream.
    stream_bytes : int
        Size of the whole stream file.
    frames : int
        Frames coded or decoded.
    frame_ms : list of float
        Codec time of each frame in ms: analysis, entropy coding and packing, without file access
        but with a frame's share of refining its slice.
    missing : list of (int, int)
        (slice, phase) of frames that a damaged stream no longer holds.
    damage : list of str
        What was found wrong.
    base_psnr_db : float, optional
        Of the base layer over the whole exam, its peak the exam's maximum, where it was coded and
        nothing else is promised.
    quality : int, optional
        Quality that was chosen for a target PSNR.
    rate : RateReport, optional
        What the base layer of `DWT_CAL` took: mean and largest bits of a frame, and after how many
        frames more waited than the buffer of `bits_per_frame` holds.
    groups_without_base : int
        Groups of frames whose base layer would have cost too much.
    refined_slices : int
        Slices that were decoded whole and refined, see `edge_codec.runtime.whole_slices`.
    """

    spec: StreamSpec
    stream_bytes: int = 0
    frames: int = 0
    frame_ms: list[float] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    base_psnr_db: float | None = None
    quality: int | None = None
    rate: RateReport | None = None
    groups_without_base: int = 0
    refined_slices: int = 0

    def lose(self, place: tuple[int, int], error: Exception) -> None:
        """Note that a frame is lost, and why."""
        self.missing.append(place)
        self.damage.append(f"slice {place[0]}, phase {place[1]}: {error}")

    @property
    def voxels(self) -> int:
        """Number of voxels of the frames."""
        rows, columns = self.spec.info.frame_shape
        return self.frames * rows * columns

    @property
    def bits_per_voxel(self) -> float:
        """Every bit of the stream file over the voxels."""
        return 8 * self.stream_bytes / max(1, self.voxels)


def parse_effort(name: str) -> Effort:
    """Return the wire id of an effort named on the command line.

    Raises
    ------
    SpecError
        If there is no such effort.
    """
    try:
        return Effort[str(name).upper()]
    except KeyError:
        known = ", ".join(effort.name.lower() for effort in Effort)
        raise SpecError(f"effort '{name}' is unknown; use one of {known}") from None


def parse_model(name: str) -> ModelId:
    """Return the wire id of a model named on the command line.

    Raises
    ------
    SpecError
        If there is no such model.
    """
    chosen = [model for model in ModelId if model is not ModelId.TITOK_GROUPS]  # is tokens_per's
    for model in chosen:
        if model.label == str(name).lower():
            return model
    known = ", ".join(model.label for model in chosen)
    raise SpecError(f"model '{name}' is unknown; use one of {known}")


def parse_tokens_per(name: str) -> TokensPer:
    """Return what shares tokens, named on the command line: 'frame', 'cine' or 'exam'.

    Raises
    ------
    SpecError
        If there is no such sharing.
    """
    for per in TokensPer:
        if per.label == str(name).lower():
            return per
    known = ", ".join(per.label for per in TokensPer)
    raise SpecError(f"tokens for each '{name}' are unknown; use one of {known}")

"""What a stream holds: the description that the encoder fixes and every decoder needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from edge_codec.errors import SpecError
from edge_codec.region import Region

MAX_SIDE = 65_535
MAX_FRAME_VOXELS = 1 << 24
MAX_SLICES = 65_535
MAX_PHASES = (1 << 31) - 1
MAX_KEY_INTERVAL = 65_535
MAX_ARCHIVE_GROUP = 64
MAX_MODEL_DATA = 4096
MAX_WINDOW_OFFSET = 1 << 47  # window arithmetic multiplies by 384 and must stay in 64 bits
MAX_SNR_LOSS_PERCENT = 50.0
WINDOW_ONE = 192  # window code of `window_high`; 255 is 1.33 times the window


class ModelId(IntEnum):
    """Wire id of the model behind the base layer; ids are never reused."""

    NONE = 0
    VQVAE = 1
    DWT_CAL = 2
    VIDEO = 3
    DWT_CAL_VAE = 4
    TITOK = 5
    TITOK_GROUPS = 6

    @property
    def label(self) -> str:
        """Name on the command line and in reports."""
        return self.name.lower().replace("_", "-")


class TokensPer(IntEnum):
    """What shares 32 tokens of model `titok`; the number is that of `TITOK_GROUPS` on the wire."""

    FRAME = 0
    CINE = 1
    EXAM = 2

    @property
    def label(self) -> str:
        """Name on the command line and in reports."""
        return self.name.lower()


TITOKS = (ModelId.TITOK, ModelId.TITOK_GROUPS)
"""Models that say frames in tokens and paint them in floats, with no residual layer after it."""

TITOK_MODEL_DATA = 7
MOST_MODEL_DATA = {
    ModelId.VIDEO: MAX_MODEL_DATA,
    ModelId.TITOK: TITOK_MODEL_DATA,
    ModelId.TITOK_GROUPS: MAX_MODEL_DATA,
}
REFUSED_BOUND = (
    "model 'titok' takes no bound and is never lossless: its frames are floats, which differ "
    "between machines in the last bits, so nothing can be coded against them; leave out "
    "--lossless, --max-error and --snr-loss (max_error None), or use model dwt-cal"
)


class Effort(IntEnum):
    """Wire id of how hard the residual layer works: three models of one family of bitstreams.

    More effort is a smaller stream and more time, in encoding and in decoding.
    """

    FAST = 0
    DEFAULT = 1
    BEST = 2


class SampleFormat(IntEnum):
    """How the integers of a stream stand for the voxels of the source."""

    INTEGER = 0  # the stored integers themselves
    FLOAT_INTEGER = 1  # a float file whose every voxel is a whole number
    FLOAT32_ORDERED = 2  # the bits of float32 voxels, mapped to integers of the same order


class SourceKind(IntEnum):
    """File format that the stream was made from, and whose header it carries."""

    NONE = 0
    NIFTI = 1
    DICOM = 2
    NPY = 3
    MRD = 4


DTYPES: dict[int, np.dtype[np.generic]] = {
    0: np.dtype(np.uint8),
    1: np.dtype(np.int8),
    2: np.dtype(np.uint16),
    3: np.dtype(np.int16),
    4: np.dtype(np.uint32),
    5: np.dtype(np.int32),
    6: np.dtype(np.uint64),
    7: np.dtype(np.int64),
    8: np.dtype(np.float32),
    9: np.dtype(np.float64),
}
DTYPE_IDS = {dtype: wire_id for wire_id, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class SourceHeader:
    """Bytes of the source file that are not voxels, kept so that it can be written again.

    Attributes
    ----------
    kind : SourceKind
        File format the bytes belong to.
    data : bytes
        NIfTI: everything before the voxels. NPY: the header. DICOM: the first file without its
        pixel data, the dictionary that the other files' headers are compressed against. MRD: the
        note of the first frame and the XML header (`edge_codec.io.mrd_note`).
    """

    kind: SourceKind = SourceKind.NONE
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class CineInfo:
    """Size, sample type and geometry of a cine, without its voxels.

    Attributes
    ----------
    n_slices, n_phases, rows, columns : int
        Extent; `n_phases` 0 means not yet known (a live stream).
    dtype : numpy.dtype
        Sample type of the source's voxels, native byte order.
    sample_format : SampleFormat
        How coded integers stand for voxels.
    spacing_mm : tuple of float
        Distance of voxel centers along (slice, row, column); 0 where unknown.
    trigger_time_ms : tuple of float
        Delay after the R wave of each phase; empty where unknown.
    rescale_slope, rescale_intercept : float
        Physical value = slope * stored + intercept; the stream keeps the stored values.
    source : SourceHeader
        Header bytes of the source file.
    """

    n_slices: int
    n_phases: int
    rows: int
    columns: int
    dtype: np.dtype[np.generic]
    sample_format: SampleFormat = SampleFormat.INTEGER
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    trigger_time_ms: tuple[float, ...] = ()
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    source: SourceHeader = field(default_factory=SourceHeader)

    def __post_init__(self) -> None:
        """Refuse impossible sizes.

        Raises
        ------
        SpecError
            If an extent, the dtype or a number of the geometry is out of range.
        """
        for name, value, low, high in (
            ("n_slices", self.n_slices, 1, MAX_SLICES),
            ("n_phases", self.n_phases, 0, MAX_PHASES),
            ("rows", self.rows, 1, MAX_SIDE),
            ("columns", self.columns, 1, MAX_SIDE),
        ):
            if not low <= value <= high:
                raise SpecError(f"{name} is {value}; a stream holds {low} to {high}")
        if self.rows * self.columns > MAX_FRAME_VOXELS:
            raise SpecError(
                f"a frame of {self.rows}x{self.columns} voxels is larger than the limit of "
                f"{MAX_FRAME_VOXELS}; split it into tiles"
            )
        if self.dtype not in DTYPE_IDS:
            raise SpecError(f"voxels of dtype {self.dtype} are not supported; use an integer dtype")
        numbers = (*self.spacing_mm, self.rescale_slope, self.rescale_intercept)
        if not all(map(math.isfinite, numbers)):
            raise SpecError("spacing or rescale is not a finite number; mend the source's header")

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns) of one frame."""
        return self.rows, self.columns


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Everything that a decoder must know before the first packet.

    Attributes
    ----------
    info : CineInfo
        The cine.
    low, high : int
        Bounds of the coded integers over the whole stream; frames outside are refused.
    model : ModelId
        Model of the base layer.
    model_hashes : tuple of bytes
        SHA-256 of each file that decoding with the model depends on, in the manifest's order.
    max_error : int or None
        Bound of the residual layer in stored units, 0 for lossless, None for no residual layer.
    key_interval : int
        A frame is a key frame when its phase index is a multiple of this; others may be.
    window_low, window_high : int
        Stored values that the model's input window maps to codes 0 and `WINDOW_ONE`.
    effort : Effort
        How hard the residual layer works.
    noise_sigma : float
        Standard deviation of the noise that `max_error` was derived from, in stored units; 0
        where `snr_loss_percent` is.
    snr_loss_percent : float
        Most that the residual layer takes from the signal-to-noise ratio, 0 to 50; 0: no such
        promise. Each frame's mean squared error stays within what it allows.
    archive : bool
        Order in which the phases of a group are coded, a group being a multiple of `key_interval`
        and the phases up to the next one or the end: that of `group_order.coding_order`, or rising.
    model_data : bytes
        What a model needs to know of the stream. `ModelId.VIDEO`: its codec and that codec's own
        header, 1 to 4096 bytes. `ModelId.TITOK`: facts about patient and cycle, 7 bytes.
        `ModelId.TITOK_GROUPS`: the tokens, 1 to 4096 bytes. Empty for other models.
    region : Region, optional
        Squares of the frames that come back better than the rest.
    slice_index : int, optional
        Slice whose coder is told this; None in the description of a whole stream.
    """

    info: CineInfo
    low: int
    high: int
    model: ModelId = ModelId.NONE
    model_hashes: tuple[bytes, ...] = ()
    max_error: int | None = 0
    key_interval: int = 32
    window_low: int = 0
    window_high: int = 1
    effort: Effort = Effort.DEFAULT
    noise_sigma: float = 0.0
    snr_loss_percent: float = 0.0
    archive: bool = False
    model_data: bytes = b""
    region: Region | None = None
    slice_index: int | None = None

    def __post_init__(self) -> None:
        """Refuse contradictory descriptions.

        Raises
        ------
        SpecError
            If bounds, model, error bound, window, noise, order or region exclude each other.
        """
        if not -(1 << 63) <= self.low <= self.high < 1 << 64 or self.high - self.low >= 1 << 32:
            raise SpecError(
                f"voxels from {self.low} to {self.high} span more than 32 bits; "
                "subtract an offset or scale them first"
            )
        if self.max_error is None and self.model is ModelId.NONE:
            raise SpecError("model 'none' without a residual layer codes nothing; set max_error")
        bound = self.max_error
        if bound is not None and (type(bound) is not int or not 0 <= bound < 1 << 31):
            raise SpecError(f"max_error is {bound!r}; it must be 0 or a positive integer")
        if self.info.sample_format is SampleFormat.FLOAT32_ORDERED and (
            self.max_error != 0 or self.model is not ModelId.NONE
        ):
            raise SpecError("float voxels are coded lossless and without a model; use --lossless")
        if not 1 <= self.key_interval <= MAX_KEY_INTERVAL:
            raise SpecError(f"key_interval is {self.key_interval}; use 1 to {MAX_KEY_INTERVAL}")
        if not 0 < self.window_high - self.window_low < 1 << 32:
            raise SpecError(f"window {self.window_low}..{self.window_high} is empty or too wide")
        if abs(self.window_low - self.low) > MAX_WINDOW_OFFSET:
            raise SpecError(f"window_low {self.window_low} is too far from the voxels")
        self._check_noise()
        self._check_model()
        if self.region is not None:
            self._check_region(self.region)

    def _check_noise(self) -> None:
        sigma, percent = self.noise_sigma, self.snr_loss_percent
        if not 0 <= percent <= MAX_SNR_LOSS_PERCENT:
            raise SpecError(f"snr_loss_percent is {percent}; use up to {MAX_SNR_LOSS_PERCENT:.0f}")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise SpecError(f"noise_sigma is {sigma}; it must be 0 or a positive number")
        if percent and self.max_error is None:
            raise SpecError("snr_loss_percent is a promise of the residual layer; set max_error")
        if sigma and not percent:
            raise SpecError(f"noise_sigma is {sigma} without snr_loss_percent; leave it 0")

    def _check_model(self) -> None:
        if self.model_hashes and self.model in (ModelId.DWT_CAL, ModelId.VIDEO):
            raise SpecError(
                f"model {self.model.name} depends on no files; leave model_hashes empty"
            )
        if self.model is ModelId.VIDEO and not self.model_data:
            raise SpecError(
                "model VIDEO needs model_data, its format and parameter sets; "
                "edge_codec.base.video.model.VideoModel.model_data gives them"
            )
        if len(self.model_data) > MOST_MODEL_DATA.get(self.model, 0):
            raise SpecError(
                f"model_data has {len(self.model_data)} bytes; model {self.model.name} has at most "
                f"{MOST_MODEL_DATA.get(self.model, 0)}"
            )
        if self.model in TITOKS:
            self._check_titok()
        if not self.archive:
            return
        if self.model is not ModelId.DWT_CAL:
            raise SpecError(f"model {self.model.name} has no archive order; leave archive False")
        if not self.info.n_phases:
            raise SpecError("archive order needs the number of phases; set n_phases")
        if self.key_interval > MAX_ARCHIVE_GROUP:
            raise SpecError(
                f"key_interval is {self.key_interval}; archive order takes at most "
                f"{MAX_ARCHIVE_GROUP}"
            )

    def _check_region(self, region: Region) -> None:
        region.check(self.info.n_slices, *self.info.frame_shape)
        if region.quality_gain and self.model is not ModelId.DWT_CAL:
            raise SpecError(
                f"model {self.model.name} has no finer quality in a region; use DWT_CAL for it, "
                "or a lower max_error alone"
            )
        bound = region.max_error
        if bound is not None and (self.max_error is None or bound >= self.max_error):
            raise SpecError(
                f"max_error is {self.max_error}, and {bound} in the region; it must be lower there"
            )

    def of_slice(self, index: int) -> StreamSpec:
        """Return what the coder of one slice knows: with a region, that slice's alone."""
        if self.model is ModelId.TITOK_GROUPS:
            return replace(self, slice_index=index)
        if self.region is None:
            return self
        region = self.region.of_slice(index, self.info.n_slices)
        return replace(self, info=replace(self.info, n_slices=1), region=region)

    def _check_titok(self) -> None:
        if self.max_error is not None:
            raise SpecError(REFUSED_BOUND)
        if self.model is ModelId.TITOK_GROUPS:
            if not self.model_data:
                raise SpecError("model TITOK_GROUPS needs model_data, the tokens of its groups")
            if self.region is not None:
                raise SpecError("model TITOK_GROUPS has no region of interest; leave it out")
            return
        if len(self.model_data) != TITOK_MODEL_DATA:
            raise SpecError(
                f"model_data has {len(self.model_data)} bytes; model TITOK has {TITOK_MODEL_DATA}: "
                "edge_codec.base.titok.conditions.ClinicalFacts().pack() gives them"
            )

    @property
    def lossless(self) -> bool:
        """Whether every voxel comes back exactly."""
        return self.max_error == 0

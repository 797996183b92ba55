"""How finely each frame is quantized: from quality and layer to quantizer.

A quantizer is a logarithmic index, 0 to 127, that is written with each frame: six more double the
step, and that of index 24 is 1 (the table is in `quantizers.h`). What is quantized are coefficients
of an orthonormal transform of frames of 12 bits, so that a step means the same in every exam,
whatever the range of its voxels. `quality` counts the same unit backwards. A frame's layer
(`edge_codec.base.hybrid.structure`) moves its quantizer: what many frames are predicted from is
coded more finely than what none is. The offsets were found by experiment
(docs/decisions/0013-hybrid.md).
"""

from __future__ import annotations

from edge_codec.errors import SpecError

QUANTIZERS = 128
FINEST = 24  # below it a level cannot hold what a block of a bright frame may have
MAX_QUALITY = 63
DEFAULT_QUALITY = 32

_COARSEST = 96  # level of quality 0

LOW_DELAY_OFFSETS = (-5, 0, 3, 4)
ARCHIVE_OFFSETS = (-5, 0, 2, 3, 4)
FILTERED_OFFSET = -2  # of key frames that are filtered over time, beside that of their layer


def check_quality(quality: int) -> None:
    """Refuse what is no quality.

    Raises
    ------
    SpecError
        If it is no integer of 0 to `MAX_QUALITY`.
    """
    if type(quality) is not int or not 0 <= quality <= MAX_QUALITY:
        raise SpecError(f"quality is {quality!r}; use an integer of 0 to {MAX_QUALITY}, the finest")


def level_of(quality: int) -> int:
    """Return the level of a quality: the quantizer of a frame whose layer has offset 0."""
    return _COARSEST - quality


def offsets(archive: bool) -> tuple[int, ...]:
    """Return what each layer of a structure adds to the level, the key frame's layer first."""
    return ARCHIVE_OFFSETS if archive else LOW_DELAY_OFFSETS


def quantizer_at(level: int, offset: int) -> int:
    """Return the quantizer of a frame, the nearest that there is."""
    return min(max(level + offset, FINEST), QUANTIZERS - 1)

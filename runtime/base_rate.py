"""How good or how large a base layer shall be, where its model leaves the choice."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from edge_codec.errors import SpecError
from edge_codec.spec import ModelId

MAX_QUALITY = 63
DEFAULT_QUALITY = 32


@dataclass(frozen=True, slots=True)
class BaseRate:
    """Quality or size of a base layer's frames; with neither, the model's usual quality.

    Attributes
    ----------
    quality : int, optional
        0 to `MAX_QUALITY`, the best, of all frames.
    bits_per_frame : float, optional
        Bits that a frame may take on average; its quality follows.

    Raises
    ------
    SpecError
        If both are given, or one is out of range.
    """

    quality: int | None = None
    bits_per_frame: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.quality is not None and self.bits_per_frame is not None:
            raise SpecError("quality and bits per frame exclude each other; give one of them")
        quality = self.quality
        if quality is not None and (type(quality) is not int or not 0 <= quality <= MAX_QUALITY):
            raise SpecError(
                f"quality is {quality!r}; use an integer of 0 to {MAX_QUALITY}, the best"
            )
        bits = self.bits_per_frame
        if bits is not None and not (is_number(bits) and 8 <= bits < math.inf):
            raise SpecError(f"bits per frame is {bits!r}; use a number of 8 or more")

    def check(self, model: ModelId) -> None:
        """Refuse a model that does not leave the choice that was made.

        Raises
        ------
        SpecError
            If the model's base layer has one quality only, or no rate control.
        """
        if self.bits_per_frame is not None and model is not ModelId.DWT_CAL:
            raise SpecError(
                f"model '{model.label}' does not keep to bits per frame; use model dwt-cal for it"
            )
        if self != USUAL:
            check_rated(model)


USUAL = BaseRate()
"""Of the quality that a model takes where none is chosen."""


def is_number(value: object) -> bool:
    """Whether a value that a caller chose is a real number, as which text and bool do not count."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_rated(model: ModelId) -> None:
    """Refuse a model whose base layer has one quality only, or that has none.

    Raises
    ------
    SpecError
        If it is such a model.
    """
    if model not in (ModelId.DWT_CAL, ModelId.VIDEO, ModelId.DWT_CAL_VAE):
        raise SpecError(
            f"model '{model.label}' has no choice of quality; use model dwt-cal or video for it"
        )

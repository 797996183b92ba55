"""Which of ACDC's five groups an exam is most like, from its tokens alone. Research only.

The sizes of RV, myocardium and LV over the heart cycle are read from the tokens (`token_reader`);
their logarithms at the largest and the smallest LV, averaged over the slices, go to a multinomial
logistic regression. Sizes are shares of the picture, not milliliters: neither the spacing of the
voxels nor anything about the patient is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.retrieval.exam_tokens import ExamTokens
from edge_codec.retrieval.token_reader import PARTS_OF_HEART, TokenReader

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""Groups of ACDC: healthy, dilated and hypertrophic cardiomyopathy, infarction, abnormal right
ventricle (Bernard et al., IEEE TMI 37(11), 2018, section II)."""

LEAST_SHARE = 1e-4
"""What a size is at least, so that it has a logarithm: 1.6 pixels of the canvas."""
FEATURES = 2 * len(PARTS_OF_HEART) + 3

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroupGuess:
    """What the head says of an exam.

    Attributes
    ----------
    probabilities : tuple of float
        Of `GROUPS`, to 3 digits.
    unusual : bool
        Whether the sizes lie farther from those of the training patients than any of these did, or
        there is one phase alone, which shows no beat: the probabilities mean nothing then.
    told_group : str
        Group that the encoder had been told; the guess is then not independent of it.
    """

    probabilities: tuple[float, ...]
    unusual: bool
    told_group: str = ""

    @property
    def group(self) -> str:
        """The likeliest group."""
        return GROUPS[int(np.argmax(self.probabilities))]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return max(self.probabilities)

    def fields(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> GroupGuess:
        """Make it of what `fields` returned.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is anything else.
        """
        probabilities = tuple(map(float, fields["probabilities"]))
        if len(probabilities) != len(GROUPS) or not all(0 <= p <= 1 for p in probabilities):
            raise ValueError(f"probabilities {probabilities} of {len(GROUPS)} groups")
        return cls(probabilities, bool(fields["unusual"]), str(fields["told_group"]))


@dataclass(frozen=True, slots=True, eq=False)
class DiseaseHead:
    """Names the group of an exam.

    Attributes
    ----------
    reader : TokenReader
    mean, scale : ndarray, shape (FEATURES,), float64
        Of the training patients' features.
    spread : ndarray, shape (FEATURES, FEATURES), float64
        Inverse of the covariance of their scaled features.
    farthest : float
        Largest squared Mahalanobis distance of a training patient.
    weights : ndarray, shape (FEATURES, 5), float64
    bias : ndarray, shape (5,), float64

    Raises
    ------
    EngineError
        If a shape is wrong.
    """

    reader: TokenReader
    mean: Doubles
    scale: Doubles
    spread: Doubles
    farthest: float
    weights: Doubles
    bias: Doubles

    def __post_init__(self) -> None:
        """Refuse weights of something else."""
        for name, shape in (
            ("mean", (FEATURES,)),
            ("scale", (FEATURES,)),
            ("spread", (FEATURES, FEATURES)),
            ("weights", (FEATURES, len(GROUPS))),
            ("bias", (len(GROUPS),)),
        ):
            if getattr(self, name).shape != shape:
                raise EngineError(
                    f"head's {name} is {getattr(self, name).shape}, expected {shape}; reinstall"
                )

    def guess(self, exam: ExamTokens, known: Floats) -> GroupGuess:
        """Name the group of an exam.

        Parameters
        ----------
        exam : ExamTokens
        known : ndarray, shape (slices, phases, 32, KNOWN), float32
            What `Listener.listen` makes of it.
        """
        scaled = (features_of(self.reader.shares(known)) - self.mean) / self.scale
        logits = scaled @ self.weights + self.bias
        likely = np.exp(logits - logits.max())
        probabilities = tuple(round(float(p), 3) for p in likely / likely.sum())
        distance = float(scaled @ self.spread @ scaled)
        unusual = distance > self.farthest or exam.n_phases == 1
        return GroupGuess(probabilities, unusual, exam.told_group)


def features_of(shares: Floats) -> Doubles:
    """Return what the regression looks at.

    Parameters
    ----------
    shares : ndarray, shape (slices, phases, 32, 3), float32
        As `TokenReader.shares` returns them.

    Returns
    -------
    ndarray, shape (FEATURES,), float64
        Logarithms of the sizes at the largest and at the smallest LV, mean over the slices; then of
        the smallest RV over the largest, and mean and standard deviation over the slices of the
        share that leaves the LV with a beat.
    """
    sizes = np.asarray(shares, np.float64).mean(axis=2)  # (slices, phases, parts)
    sizes = _smoothed(sizes)
    heart = np.maximum(sizes.mean(axis=0), LEAST_SHARE)
    largest, smallest = heart[:, 2].argmax(), heart[:, 2].argmin()
    emptied = 1 - sizes[:, smallest, 2] / np.maximum(sizes[:, largest, 2], LEAST_SHARE)
    ejected = np.clip(emptied, -1, 1)
    return np.concatenate(
        [
            np.log(heart[largest]),
            np.log(heart[smallest]),
            [np.log(heart[:, 0].min() / heart[:, 0].max()), ejected.mean(), ejected.std()],
        ]
    )


def _smoothed(sizes: Doubles) -> Doubles:
    """Average each phase with its neighbors in the cycle, by weights 1, 2, 1."""
    before, after = np.roll(sizes, 1, axis=1), np.roll(sizes, -1, axis=1)
    smooth: Doubles = (before + 2 * sizes + after) / 4
    return smooth

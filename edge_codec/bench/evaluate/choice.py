"""Which codec at which setting: by name, by quality, by compression ratio, or a decoded file.

A ratio is that to 16 bits a voxel. Of settings in the order of falling rate the one whose ratio is
nearest, in the logarithm, is found by interpolation between those that were tried: among all 64
qualities of our codecs and all whole rate factors of video encoders, else among the settings that
`edge-codec bench rd` measures. What was reached is in the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.trial import Codec, Coded, NotApplicableError, Tier, Trial
from edge_codec.cine import Cine
from edge_codec.errors import SpecError
from edge_codec.io import open_source
from edge_codec.io.samples import to_integers
from edge_codec.runtime.base_rate import MAX_QUALITY

FILE = "decoded-file"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A codec, and what was asked of it.

    Attributes
    ----------
    codec : Codec
    selection : str
        What was asked for: a setting, 'ratio 100', or a file's name. Equal for all exams, so that
        they can be gathered by it.
    find : callable
        Case -> the trial to run.
    """

    codec: Codec
    selection: str
    find: Callable[[Case], Trial]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask of every codec; nothing for each of its settings with loss.

    Attributes
    ----------
    ratios : tuple of float
        Compression ratios, above 1.
    settings : tuple of str
        Names of settings, such as 'crf 24'.
    qualities : tuple of int
        Of our codecs, 0 to 63.
    """

    ratios: tuple[float, ...] = ()
    settings: tuple[str, ...] = ()
    qualities: tuple[int, ...] = ()


class Search:
    """Finds settings by ratio, and remembers what it has tried.

    Parameters
    ----------
    ladder : sequence of Trial
        In the order of falling rate.
    """

    def __init__(self, ladder: Sequence[Trial]) -> None:
        self._ladder = ladder
        self._ratios: dict[tuple[str, int], float] = {}

    def closest(self, case: Case, ratio: float) -> Trial:
        """Return the trial whose compression ratio of a case is nearest to the one wanted.

        Raises
        ------
        NotApplicableError
            If there is no setting to choose from.
        """
        if not self._ladder:
            raise NotApplicableError("it has no setting with loss to choose a ratio by")
        low, high = -1, len(self._ladder)
        tried: dict[int, float] = {}
        while high - low > 1:
            place = _expected(low, high, tried, ratio)
            tried[place] = self._ratio(case, place)
            low, high = (place, high) if tried[place] < ratio else (low, place)
        return self._ladder[min(tried, key=lambda place: abs(math.log(tried[place] / ratio)))]

    def _ratio(self, case: Case, place: int) -> float:
        key = case.name, place
        if key not in self._ratios:
            coded = self._ladder[place].code(case)
            self._ratios[key] = 2 * case.voxels.size / coded.stream_bytes
        return self._ratios[key]


def _expected(low: int, high: int, tried: Mapping[int, float], ratio: float) -> int:
    """Return the place between two others where a ratio is expected.

    On a straight line through them in the logarithm, since ratios of equal steps of quality nearly
    are on one. The middle where one of them has not been tried, and now and then, so that no curve
    takes many trials.
    """
    if low not in tried or high not in tried or len(tried) % 4 == 0:
        return (low + high) // 2
    share = math.log(ratio / tried[low]) / math.log(tried[high] / tried[low])
    return min(max(low + round(share * (high - low)), low + 1), high - 1)


def choices(codecs: Iterable[Codec], wanted: Wanted, threads: int) -> list[Choice]:
    """Return what to try of each codec.

    Parameters
    ----------
    codecs : iterable of Codec
    wanted : Wanted
    threads : int
        Threads for each codec that can use several.

    Raises
    ------
    SpecError
        If a ratio or quality is out of range, or no codec has a setting that was named.
    """
    names = [*wanted.settings, *(f"quality {quality}" for quality in wanted.qualities)]
    _check(wanted)
    found: list[Choice] = []
    missing = set(names)
    usual: dict[str, None] = {}
    for codec in codecs:
        ladder = ladder_of(codec, threads)
        every = {trial.setting: trial for trial in (*codec.trials(threads), *ladder)}
        missing -= every.keys()
        usual |= dict.fromkeys(trial.setting for trial in codec.trials(threads))
        search = Search(ladder)
        found += [_by_ratio(codec, search, ratio) for ratio in wanted.ratios]
        chosen = [every[name] for name in names if name in every]
        if not names and not wanted.ratios:
            chosen = _with_loss(codec.trials(threads))
        found += [_fixed(codec, trial) for trial in chosen]
    if missing:
        raise SpecError(
            f"no chosen codec has the setting '{', '.join(sorted(missing))}'; they have: "
            f"{', '.join(usual)}, and all between where these are numbers of a quality or a crf"
        )
    return found


def ladder_of(codec: Codec, threads: int) -> list[Trial]:
    """Return the settings of a codec to choose a ratio from, in the order of falling rate."""
    return _with_loss((codec.fine or codec.trials)(threads))


def file_choice(path: Path) -> Choice:
    """Return a file that was decoded elsewhere as a choice."""
    codec = Codec(FILE, "a volume that was decoded elsewhere", (), lambda _: ())
    return _fixed(codec, Trial(path.name, Tier.LOSSY, lambda _: _read(path)))


def _read(path: Path) -> Coded:
    cine = Cine.from_source(open_source(path))
    # No stream was seen: what follows from its bytes is not reported (`judge.RATES`).
    return Coded(1, to_integers(cine.voxels, cine.info.sample_format), [0.0], [0.0], "stream")


def _fixed(codec: Codec, trial: Trial) -> Choice:
    return Choice(codec, trial.setting, lambda _: trial)


def _by_ratio(codec: Codec, search: Search, ratio: float) -> Choice:
    return Choice(codec, f"ratio {ratio:g}", lambda case: search.closest(case, ratio))


def _with_loss(trials: Sequence[Trial]) -> list[Trial]:
    """Those without a promise; of a codec that has none, those with a bound."""
    lossy = [trial for trial in trials if trial.tier is Tier.LOSSY]
    return lossy or [trial for trial in trials if trial.tier is Tier.BOUNDED]


def _check(wanted: Wanted) -> None:
    for ratio in wanted.ratios:
        if not 1 < ratio < math.inf:
            raise SpecError(f"ratio {ratio:g} is none of a codec with loss; use numbers above 1")
    for quality in wanted.qualities:
        if not 0 <= quality <= MAX_QUALITY:
            raise SpecError(f"quality is {quality}; use 0 to {MAX_QUALITY}, the best")

"""Settings by name, by quality and by compression ratio."""

import numpy as np
import pytest

from edge_codec.bench.evaluate.choice import Search, Wanted, choices, file_choice, ladder_of
from edge_codec.bench.rd.codecs import all_codecs, choose
from edge_codec.bench.rd.trial import Codec, Coded, NotApplicableError, Tier, Trial
from edge_codec.errors import SpecError


class Ladder:
    """Trials of given ratios, which count how often they are run."""

    def __init__(self, ratios):
        self.runs = []
        self.trials = [
            Trial(f"step {place}", Tier.LOSSY, self._code(place, ratio))
            for place, ratio in enumerate(ratios)
        ]

    def _code(self, place, ratio):
        def code(case):
            self.runs.append(place)
            size = round(2 * case.voxels.size / ratio)
            return Coded(size, case.voxels, [1.0], [1.0], "frame")

        return code

    def codec(self):
        return Codec("toy", "a toy", (), lambda threads: self.trials)


@pytest.mark.parametrize(
    ("ratio", "step"), [(1.1, 0), (4, 2), (5.5, 2), (5.8, 3), (100, 7), (900, 8), (9000, 8)]
)
def test_the_nearest_ratio_is_found(heart_case, ratio, step):
    ladder = Ladder([1.5, 2, 4, 8, 16, 32, 64, 128, 800])
    assert Search(ladder.trials).closest(heart_case, ratio).setting == f"step {step}"
    assert len(ladder.runs) <= 6


def test_what_was_tried_is_remembered(heart_case):
    ladder = Ladder([2, 4, 8, 16, 32])
    search = Search(ladder.trials)
    search.closest(heart_case, 5)
    search.closest(heart_case, 5)
    search.closest(heart_case, 20)
    assert len(ladder.runs) == len(set(ladder.runs))


def test_our_codecs_have_every_quality(heart_case):
    (codec,) = choose(["edge-codec-dwt-cal"])
    ladder = ladder_of(codec, 1)
    assert [ladder[0].setting, ladder[-1].setting, len(ladder)] == ["quality 63", "quality 0", 64]
    (choice,) = choices([codec], Wanted(ratios=(10.0,)), 1)
    assert choice.selection == "ratio 10"
    trial = choice.find(heart_case)
    reached = 2 * heart_case.voxels.size / trial.code(heart_case).stream_bytes
    assert reached == pytest.approx(10, rel=0.06)


def test_a_fine_ladder_holds_the_settings_that_are_measured():
    for codec in all_codecs().values():
        usual = {trial.setting for trial in codec.trials(1) if trial.tier is Tier.LOSSY}
        ladder = [trial.setting for trial in ladder_of(codec, 1)]
        assert usual <= set(ladder)
        if codec.fine is not None:
            numbers = [int(setting.split()[1]) for setting in ladder]
            falling = codec.name.startswith("edge-codec")
            assert numbers == sorted(numbers, reverse=falling)
            assert len(numbers) > 30


def test_names_and_qualities_choose_settings():
    codecs = choose(["edge-codec-dwt-cal", "jpeg-ls"])
    found = choices(codecs, Wanted(settings=("near 4",), qualities=(31, 7)), 1)
    assert [(one.codec.name, one.selection) for one in found] == [
        ("edge-codec-dwt-cal", "quality 31"),
        ("edge-codec-dwt-cal", "quality 7"),
        ("jpeg-ls", "near 4"),
    ]


def test_nothing_asked_is_every_setting_with_loss():
    (jpeg_ls,) = choose(["jpeg-ls"])
    assert [one.selection for one in choices([jpeg_ls], Wanted(), 1)] == [
        f"near {near}" for near in (1, 2, 4, 8, 16, 32)
    ]
    ladder = Ladder([2, 4])
    assert len(choices([ladder.codec()], Wanted(), 1)) == 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(ratios=(0.5,)), "above 1"),
        (Wanted(ratios=(float("nan"),)), "above 1"),
        (Wanted(qualities=(64,)), "0 to 63"),
        (Wanted(settings=("crf 24", "step 1")), "setting 'crf 24'; they have: step 0, step 1"),
    ],
)
def test_what_no_codec_has_is_refused(wanted, words):
    with pytest.raises(SpecError, match=words):
        choices([Ladder([2, 4]).codec()], wanted, 1)


def test_a_codec_without_loss_has_no_ratio(heart_case):
    (gzip,) = choose(["gzip"])
    (choice,) = choices([gzip], Wanted(ratios=(10.0,)), 1)
    with pytest.raises(NotApplicableError, match="no setting with loss"):
        choice.find(heart_case)


def test_a_file_is_a_choice(heart, heart_case, tmp_path):
    np.save(tmp_path / "back.npy", heart + 1)
    choice = file_choice(tmp_path / "back.npy")
    assert choice.selection == "back.npy"
    coded = choice.find(heart_case).code(heart_case)
    np.testing.assert_array_equal(coded.voxels, heart + 1)


def test_a_ladder_of_even_steps_takes_few_trials(heart_case):
    ladder = Ladder([1.5 * 1.18**step for step in range(64)])
    search = Search(ladder.trials)
    for wanted, place in ((100, 25), (500, 35)):
        assert search.closest(heart_case, wanted).setting == f"step {place}"
    assert len(ladder.runs) <= 7


def test_what_is_found_does_not_hang_on_what_was_sought_before(heart_case):
    ratios = [2.0, 3.1, 2.9, 4.5, 9.0, 8.0, 17.0, 40.0, 39.0, 90.0]  # not quite rising
    alone = [Search(Ladder(ratios).trials).closest(heart_case, wanted) for wanted in (3, 8.4, 39.4)]
    search = Search(Ladder(ratios).trials)
    together = [search.closest(heart_case, wanted) for wanted in (39.4, 8.4, 3)]
    assert [trial.setting for trial in together[::-1]] == [trial.setting for trial in alone]

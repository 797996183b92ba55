"""Judgements of known damage, and what many of them say together."""

import numpy as np
import pytest
from evaluate_samples import heart_labels, heart_voxels, threshold_segmenter, write_exam

from edge_codec.bench.evaluate.choice import Choice
from edge_codec.bench.evaluate.exam import load_exam
from edge_codec.bench.evaluate.judge import dice_drop, judge
from edge_codec.bench.evaluate.summary import agreements, means
from edge_codec.bench.rd.trial import Codec, Coded, NotApplicableError, Tier, Trial


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    return load_exam(write_exam(tmp_path_factory.mktemp("exam")), "made", threshold_segmenter)


def choice_of(decode, *, max_error=None):
    """Return a codec at ratio 10 whose decoder gives `decode(voxels)`."""

    def code(case):
        voxels = decode(case.voxels)
        return Coded(case.voxels.size // 5, voxels, [1.0], [1.0], "frame")

    trial = Trial("only", Tier.LOSSY, code, max_error)
    return Choice(Codec("toy", "", (), lambda _: [trial]), "ratio 10", lambda _: trial)


def judged(exam, decode):
    return judge(exam, choice_of(decode), threshold_segmenter, 1)


def test_what_comes_back_exactly_loses_nothing(exam):
    found = judged(exam, lambda voxels: voxels.copy())
    row = found.record
    assert row["status"] == "ok"
    assert row["selection"] == "ratio 10"
    assert row["ratio_to_16_bit"] == pytest.approx(10, rel=1e-3)
    assert row["against_network"]["all"]["dice"] == dict.fromkeys(
        ("lv", "myocardium", "rv", "mean"), 1.0
    )
    assert set(row["against_network"]["es"]["hd95_mm"].values()) == {0.0}
    assert set(row["dice_drop_points"].values()) == {0.0}
    assert set(row["difference"].values()) == {0.0}
    assert (row["lv_volume_preservation"], row["temporal_ratio"]) == (1, 1)
    assert row["lv_curve_correlation"] == pytest.approx(1)
    np.testing.assert_array_equal(found.labels, heart_labels())


def test_a_heart_that_stands_still_has_no_ejection(exam):
    row = judged(exam, lambda voxels: np.repeat(voxels[:, :1], 4, axis=1)).record
    assert row["function"]["lv_ef_percent"] == 0
    before = exam.record()["function"]["network"]["lv_ef_percent"]
    assert before > 50
    assert row["difference"]["lv_ef_percent"] == pytest.approx(-before)
    assert row["difference"]["lv_edv_ml"] == 0
    assert row["temporal_ratio"] == 0
    assert row["temporal_ratio_heart"] == 0
    assert row["lv_curve_correlation"] is None
    assert row["against_network"]["ed"]["dice"]["lv"] == 1
    assert row["against_network"]["es"]["dice"]["lv"] < 0.6
    assert row["dice_drop_points"]["lv"] > 15
    assert row["lv_volume_preservation"] < 0.6


def test_a_heart_that_moved_is_off_by_the_distance(exam):
    row = judged(exam, lambda voxels: np.roll(voxels, 2, axis=2)).record
    for phase in ("ed", "es"):
        assert row["against_network"][phase]["hd95_mm"]["lv"] == pytest.approx(3, abs=0.8)
    assert row["difference"]["mass_g"] == 0


def test_the_expert_may_be_closer_to_what_was_decoded(exam):
    drawn = heart_labels()
    for phase in exam.expert:
        drawn[:, phase] = exam.expert[phase]
    row = judged(exam, lambda _: heart_voxels(drawn)).record
    assert row["dice_drop_points"]["lv"] < 0
    assert row["against_expert"]["ed"]["dice"]["lv"] == 1


def test_drop_is_in_points_of_the_mean_over_phases():
    def compared(ed, es):
        return {
            name: {"dice": dict.fromkeys(("lv", "myocardium", "rv"), value)}
            for name, value in (("ed", ed), ("es", es))
        }

    drop = dice_drop(compared(0.95, 0.9), compared(0.94, 0.86))
    assert drop["rv"] == drop["mean"] == pytest.approx(2.5)
    assert dice_drop(compared(0.95, 0.9), compared(0.94, None))["lv"] == pytest.approx(1)
    assert dice_drop(compared(None, None), compared(0.9, 0.9))["mean"] is None


def test_what_fails_is_a_row_with_a_reason(exam):
    row = judged(exam, lambda voxels: voxels[:, :2]).record
    assert row["status"] == "failed"
    assert "expected (3, 4, 48, 56)" in row["reason"]
    assert "function" not in row
    broken = judge(
        exam, choice_of(lambda voxels: voxels + 2, max_error=1), threshold_segmenter, 1
    ).record
    assert (broken["status"], broken["reason"]) == ("failed", "a voxel is off by 2, 1 is promised")

    def nothing(case):
        raise NotApplicableError("it has no setting")

    def broken_search(case):
        raise ZeroDivisionError("a library's own")

    codec = Codec("toy", "", (), lambda _: [])
    row = judge(exam, Choice(codec, "ratio 10", nothing), threshold_segmenter, 1).record
    assert (row["status"], row["reason"]) == ("not applicable", "it has no setting")
    row = judge(exam, Choice(codec, "ratio 10", broken_search), threshold_segmenter, 1).record
    assert row["status"] == "failed"
    assert row["reason"] == "ZeroDivisionError: a library's own"


def test_patients_are_gathered_by_what_was_asked(exam):
    cases = [{**exam.record(), "case": name} for name in ("a", "b")]
    rows = []
    for name, shift in (("a", 0.0), ("b", 2.0)):
        row = judged(exam, lambda voxels: voxels.copy()).record
        function = {key: value + shift for key, value in row["function"].items()}
        rows.append({**row, "case": name, "function": function})
    found = {
        (row["codec"], row["reference"], row["measure"]): row for row in agreements(cases, rows)
    }
    own = found["toy", "network, original frames", "lv_ef_percent"]
    assert (own["n"], own["bias"], own["sd"]) == (2, pytest.approx(1), pytest.approx(2**0.5))
    expert = found["toy", "expert", "lv_edv_ml"]
    reference = found["original", "expert", "lv_edv_ml"]
    assert reference["measured_on"] == "network, original frames"
    edv = {name: function["lv_edv_ml"] for name, function in cases[0]["function"].items()}
    assert reference["bias"] == pytest.approx(edv["network"] - edv["expert"])
    assert reference["bias"] < -0.1
    assert expert["bias"] == pytest.approx(reference["bias"] + 1)
    assert ("original", "network, original frames", "lv_edv_ml") not in found
    drop = [row for row in means(rows) if row["figure"] == "dice_drop_points"]
    assert [(row["part"], row["n"], row["mean"]) for row in drop] == [
        ("lv", 2, 0), ("myocardium", 2, 0), ("rv", 2, 0), ("mean", 2, 0),
    ]  # fmt: skip
    failed = {**rows[0], "status": "failed"}
    assert agreements(cases, [failed]) == [row for row in found.values()
                                           if row["codec"] == "original"]  # fmt: skip

from __future__ import annotations

import pytest

from edge_codec.errors import SourceError
from edge_codec.training.shards.info_cfg import GROUPS, PatientInfo, parse_info

WHOLE = "ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"


def test_phases_count_from_zero_and_ed_is_end_diastole() -> None:
    expected = PatientInfo(0, 11, 30, "DCM", 184.0, 95.0)
    assert parse_info(WHOLE, partial=False) == expected
    assert parse_info(WHOLE.replace("\n", "\r\n") + "\n\n", partial=False) == expected


@pytest.mark.parametrize("group", GROUPS)
def test_groups(group: str) -> None:
    assert parse_info(WHOLE.replace("DCM", group), partial=False).group == group


def test_height_weight_and_group_are_optional() -> None:
    info = parse_info("ED: 1\nES: 2\nNbFrame: 2\n", partial=False)
    assert (info.group, info.height_cm, info.weight_kg) == (None, None, None)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("ED: 1\n", "", "lacks ED; add"),
        ("ES: 12\n", "", "lacks ES; add"),
        ("NbFrame: 30\n", "", "lacks NbFrame; add"),
        ("ED: 1\n", "ED: 0\n", "says ED: 0, expected a whole number from 1"),
        ("ED: 1\n", "ED: -1\n", "says ED: -1"),
        ("ED: 1\n", "ED: 1.5\n", "says ED: 1.5"),
        ("ED: 1\n", "ED: 99999999999\n", "says ED: 99999999999"),
        ("ED: 1\n", "ED\n", "line 1 of Info.cfg is 'ED', expected 'Name: value'"),
        ("ED: 1\n", "ED: 1\nED: 2\n", "line 2 of Info.cfg states ED again"),
        ("ES: 12\n", "ES: 31\n", "says ES: 31, which is outside 1 to NbFrame: 30"),
        ("ED: 1\n", "ED: 12\n", r"phase 12 as both ED \(end-diastole\) and ES"),
        ("DCM", "SICK", "group 'SICK', expected one of NOR, DCM, HCM, MINF, RV"),
        ("184.0", "tall", "Height: tall, expected a number above 0"),
        ("95.0", "0", "Weight: 0, expected a number above 0"),
        ("95.0", "nan", "Weight: nan, expected"),
    ],
)
def test_what_cannot_be(before: str, after: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_info(WHOLE.replace(before, after), partial=False)


def test_partial_takes_what_there_is() -> None:
    info = parse_info("Group: Heart failure\nNbFrame: 20\nAge: 53\n", partial=True)
    assert info == PatientInfo(n_phases=20, group="Heart failure")
    with pytest.raises(SourceError, match="says ED: x"):
        parse_info("ED: x\n", partial=True)


@pytest.mark.parametrize("number", ["0" * 9 + "1" * 11, "9" * 10, "1" * 5000])
def test_numbers_of_too_many_digits(number: str) -> None:
    with pytest.raises(SourceError, match="expected a whole number from 1"):
        parse_info(WHOLE.replace("30", number), partial=False)

"""Records of a run that is gone on with."""

import json

import pytest

from edge_codec.bench.rd.difference import differences
from edge_codec.bench.rd.measure import Figures, Result
from edge_codec.bench.rd.records import Records
from edge_codec.errors import SourceError

CASE = {"case": "heart", "peak": 9.0, "shape_slice_phase_row_column": (1, 2, 3, 4)}


def result(codec, setting, bpp, status="ok"):
    figures = Figures(7, bpp, 16 / bpp, 30 + bpp, None, None, None, 0.9, 1, 1.0, 1.0, "frame", 0.5)
    return Result(
        "heart", codec, setting, "lossy", None, 1, status, "", ("a note",),
        figures if status == "ok" else None,
    )  # fmt: skip


def written(records, path):
    path.write_text("".join(json.dumps(row) + "\n" for row in records.rows()))
    return Records.read(path)


@pytest.fixture
def records():
    made = Records()
    made.start({"threads": 1})
    made.add_case(CASE)
    for codec in ("gzip", "jpeg-ls"):
        for bpp in (1.0, 2.0, 4.0):
            made.add_result(result(codec, f"at {bpp}", bpp))
    made.add_result(result("jpeg-ls", "broken", 1.0, "failed"))
    made.set_differences("heart", "gzip", differences(made.results("heart"), "gzip"))
    return made


def test_what_is_written_is_what_is_read(records, tmp_path):
    back = written(records, tmp_path / "rd.jsonl")
    plain = [json.loads(json.dumps(row)) for row in records.rows()]
    assert back.rows() == plain
    assert back.results("heart") == records.results("heart")
    assert back.results("heart")[0].figures.disturbed


def test_results_come_in_the_order_of_the_codecs(records):
    names = [row.codec for row in records.results("heart")]
    assert names == ["jpeg-ls"] * 4 + ["gzip"] * 3


def test_only_what_was_verified_at_this_setting_is_known(records):
    assert records.has("heart", "gzip", "at 1.0", 1)
    assert not records.has("heart", "gzip", "at 1.0", 2)
    assert not records.has("heart", "gzip", "at 9.0", 1)
    assert not records.has("other", "gzip", "at 1.0", 1)
    assert not records.has("heart", "jpeg-ls", "broken", 1)


def test_a_row_that_is_measured_again_takes_the_place_of_the_old_one(records, tmp_path):
    back = written(records, tmp_path / "rd.jsonl")
    back.start({"threads": 1})
    back.add_case(CASE)
    row = back.add_result(result("gzip", "at 1.0", 0.5))
    assert row["run"] == 1
    found = [one for one in back.rows() if one.get("setting") == "at 1.0"]
    assert [(one["codec"], one["bpp"], one["run"]) for one in found] == [
        ("gzip", 0.5, 1),
        ("jpeg-ls", 1.0, 0),
    ]


def test_other_voxels_under_the_same_name_are_refused(records):
    with pytest.raises(SourceError, match="heart was another exam"):
        records.add_case({**CASE, "peak": 8.0})


@pytest.mark.parametrize("text", ["no json", '{"record": "result"}', "[1]"])
def test_files_that_hold_something_else_are_refused(text, tmp_path):
    (tmp_path / "rd.jsonl").write_text(text)
    with pytest.raises(SourceError, match="holds no records"):
        Records.read(tmp_path / "rd.jsonl")

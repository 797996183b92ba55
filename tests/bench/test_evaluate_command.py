"""`edge-codec evaluate`, run in process: what it prints, writes and returns."""

import base64
import importlib.util
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from evaluate_samples import heart_voxels, threshold_segmenter, write_exam, write_nifti

from edge_codec.bench.evaluate import network
from edge_codec.bench.evaluate.network import Network
from edge_codec.bench.evaluate.plot import draw_dice
from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
FILES = {"records.jsonl", "measures.csv", "table.md", "report.html"}
TOY = Network(threshold_segmenter, "toy", "0" * 64)
CODECS = ("--codecs", "edge-codec-dwt-cal,jpeg-ls", "--settings", "quality 30,near 16")


def run(*arguments):
    """Run the command and return (status, stdout, stderr)."""
    console = Console(io.StringIO(), io.StringIO())
    status = main(["evaluate", *map(str, arguments)], console)
    return status, console.out.getvalue(), console.err.getvalue()


def rows_of(text, kind=None):
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if kind in (None, row["record"])]


@pytest.fixture
def toy_network(monkeypatch):
    """Put a segmenter of gray levels in place of the network."""
    monkeypatch.setattr(network, "load_network", lambda threads: TOY)


@pytest.fixture
def exams(tmp_path):
    return [write_exam(tmp_path / name, name) for name in ("one", "two")]


class Page(HTMLParser):
    """Collects what a page refers to, its pictures and its text; every element must be closed."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parsed(path):
    page = Page()
    page.feed(path.read_text())
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole evaluation: (folder of the files, what was printed)."""
    folder = tmp_path_factory.mktemp("finished")
    paths = [write_exam(folder / name, name) for name in ("one", "two")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "load_network", lambda threads: TOY)
        status, text, err = run(*paths, *CODECS, "--out", folder / "made" / "here")
    assert (status, err) == (ExitStatus.OK, "")
    return folder / "made" / "here", text


def test_the_whole_of_it(finished):
    out, text = finished
    for words in ("end-diastole phase 0, end-systole phase 2 (from 0, by Info.cfg)",
                  "network on original frames against the expert, Dice: ED LV 0.9",
                  "research use only"):  # fmt: skip
        assert words in text
    assert re.search(r"\nexpert +original frames +\d", text)
    names = {path.name for path in out.iterdir()}
    assert names >= FILES | {"dice.svg", "curves_one_4d.svg", "bland_altman_lv_ef_percent.svg"}
    assert "errors_two_4d__jpeg-ls__near-16.png" in names
    rows = rows_of((out / "records.jsonl").read_text())
    assert [row["record"] for row in rows[:4]] == ["run", "case", "result", "result"]
    assert (rows[0]["network"], rows[0]["network_sha256"]) == ("toy", "0" * 64)
    results = [row for row in rows if row["record"] == "result"]
    assert {(row["case"], row["codec"], row["selection"], row["status"]) for row in results} == {
        (case, codec, selection, "ok")
        for case in ("one_4d", "two_4d")
        for codec, selection in (("edge-codec-dwt-cal", "quality 30"), ("jpeg-ls", "near 16"))
    }
    agreement = [row for row in rows if row["record"] == "agreement"]
    assert {row["codec"] for row in agreement} == {"original", "edge-codec-dwt-cal", "jpeg-ls"}
    assert {row["reference"] for row in agreement} == {"expert", "network, original frames"}
    assert {row["n"] for row in agreement} == {2}
    for path in (out / name for name in FILES):
        assert str(out) not in path.read_text()
    lines = (out / "measures.csv").read_text().splitlines()
    assert lines[0].startswith("case,codec,selection,ratio_to_16_bit,frames,source,against")
    sources = {tuple(line.split(",")[i] for i in (1, 4, 5, 6)) for line in lines[1:]}
    assert ("original", "original", "expert", "") in sources
    assert ("jpeg-ls", "decoded", "network", "expert") in sources
    table = (out / "table.md").read_text()
    assert "| jpeg-ls | near 16 | 2 |" in table
    assert "research use only" in table


def test_the_report_needs_nothing_else(finished):
    out, _ = finished
    page = parsed(out / "report.html")
    pictures = len([*out.glob("*.svg"), *out.glob("*.png")])
    assert len(page.sources) == page.tags.count("img") == pictures == 4 + 1 + 2 + 4
    for source in page.sources:
        kind, data = re.fullmatch(r"data:image/(svg\+xml|png);base64,(.*)", source).groups()
        start = base64.b64decode(data, validate=True)
        assert start.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert not {"script", "link", "iframe", "a"} & set(page.tags)
    text = (out / "report.html").read_text()
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "url(" not in text
    words = " ".join(page.words)
    assert "For research use only. This is no medical device" in words
    assert "Agreement over exams (Bland and Altman)" in words
    assert words.index("one_4d: slices") < words.index("two_4d: slices")


@pytest.mark.usefixtures("toy_network")
def test_a_run_goes_on_where_another_ended(exams, tmp_path, monkeypatch):
    out = ("--out", tmp_path / "out", "--no-plots")
    assert run(exams[0], *CODECS[:2], "--settings", "quality 30", *out)[0] == ExitStatus.OK
    status, _, err = run(exams[0], *CODECS, *out)
    assert status == ExitStatus.INPUT
    assert "use --resume to go on with it or --force" in err
    before = (tmp_path / "out" / "records.jsonl").read_text()
    status, text, _ = run(*exams, *CODECS, *out, "--resume", "--json")
    assert status == ExitStatus.OK
    assert [(row["case"], row["codec"]) for row in rows_of(text, "result")] == [
        ("one_4d", "jpeg-ls"), ("two_4d", "edge-codec-dwt-cal"), ("two_4d", "jpeg-ls"),
    ]  # fmt: skip
    after = rows_of((tmp_path / "out" / "records.jsonl").read_text())
    kept = rows_of(before, "result")[0]
    assert kept in after
    assert [row["run"] for row in after if row["record"] == "result"] == [0, 1, 1, 1]
    assert rows_of(text, "agreement") == [row for row in after if row["record"] == "agreement"]
    # Nothing is left to do, nothing is measured again.
    status, text, _ = run(*exams, *CODECS, *out, "--resume", "--json")
    assert rows_of(text, "result") == rows_of(text, "case") == []
    other = Network(threshold_segmenter, "other", "1" * 64)
    monkeypatch.setattr(network, "load_network", lambda threads: other)
    status, _, err = run(*exams, *CODECS, *out, "--resume")
    assert status == ExitStatus.INPUT
    assert "another segmentation network" in err
    assert run(exams[0], *CODECS, *out, "--force")[0] == ExitStatus.OK


@pytest.mark.usefixtures("toy_network")
def test_another_exam_of_the_same_name_is_refused(exams, tmp_path):
    out = ("--out", tmp_path / "out", "--no-plots", "--resume")
    assert run(exams[0], "--model", "dwt-cal", "--quality", 30, *out)[0] == ExitStatus.OK
    write_nifti(exams[0], heart_voxels() * 2)
    status, _, err = run(exams[0], "--model", "dwt-cal", "--quality", 20, *out)
    assert status == ExitStatus.INPUT
    assert "one_4d was another exam" in err
    (tmp_path / "out" / "records.jsonl").write_text('{"record": "difference"}\n')
    status, _, err = run(exams[0], "--model", "dwt-cal", "--quality", 20, *out)
    assert status == ExitStatus.INPUT
    assert "holds no records of evaluate" in err


@pytest.mark.usefixtures("toy_network")
def test_a_volume_that_was_decoded_elsewhere(exams, tmp_path):
    decoded = write_nifti(tmp_path / "back.nii.gz", np.roll(heart_voxels(), 1, axis=3))
    status, text, _ = run(exams[0], "--decoded", decoded, "--json")
    assert status == ExitStatus.OK
    (row,) = rows_of(text, "result")
    assert (row["codec"], row["selection"]) == ("decoded-file", "back.nii.gz")
    assert row["ratio_to_16_bit"] is row["bpp"] is row["encode_ms"] is None
    assert row["psnr_db"] > 10
    assert 0.8 < row["against_network"]["ed"]["dice"]["lv"] < 1
    assert draw_dice(rows_of(text, "case"), [row]) is None
    status, text, _ = run(exams[0], "--decoded", decoded)
    assert status == ExitStatus.OK
    assert re.search(r"\ndecoded-file +back.nii.gz +back.nii.gz +- ", text)
    shorter = write_nifti(tmp_path / "shorter.nii.gz", heart_voxels()[:, :3])
    status, text, _ = run(exams[0], "--decoded", shorter)
    assert status == ExitStatus.UNVERIFIED
    assert "failed: decoded voxels have shape (3, 3, 48, 56)" in text


@pytest.mark.usefixtures("toy_network")
def test_a_ratio_chooses_a_quality_for_each_exam(exams):
    status, text, _ = run(exams[0], "--model", "dwt-cal", "--ratio", "12", "--json")
    assert status == ExitStatus.OK
    (row,) = rows_of(text, "result")
    assert row["selection"] == "ratio 12"
    assert row["setting"].startswith("quality ")
    assert row["ratio_to_16_bit"] == pytest.approx(12, rel=0.15)


@pytest.mark.usefixtures("toy_network")
def test_without_matplotlib_there_are_tables(exams, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    chosen = (exams[0], "--model", "dwt-cal", "--quality", 30)
    status, _, err = run(*chosen, "--out", tmp_path / "out")
    assert status == ExitStatus.ENGINE
    assert "pip install 'edge-codec[plot]'" in err
    assert not (tmp_path / "out").exists()
    status, text, _ = run(*chosen, "--out", tmp_path / "out", "--no-plots")
    assert (status, "Means over exams" in text) == (ExitStatus.OK, True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert parsed(tmp_path / "out" / "report.html").sources == []


def test_codecs_are_listed():
    status, text, _ = run("--list", "--json")
    assert status == ExitStatus.OK
    names = [json.loads(line)["codec"] for line in text.splitlines()]
    assert {"edge-codec-dwt-cal", "x265-low-delay"} <= set(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no codec is given"),
        (["--model", "other"], "model 'other' is unknown"),
        (["--codecs", "gif"], "codec 'gif' is unknown"),
        (["--model", "dwt-cal", "--ratio", "0.5"], "above 1"),
        (["--model", "dwt-cal", "--settings", "crf 3"], "no chosen codec has the setting"),
        (["--model", "dwt-cal", "--resume"], "name it with --out"),
        (["--decoded", "EXAM", "--decoded", "EXAM"], "2 decoded volumes for 1 originals"),
        (["--decoded", "EXAM", "--ratio", "9"], "has no settings"),
        (["--decoded", "missing.nii"], "does not exist"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_once(exams, options, words):
    filled = [str(exams[0]) if word == "EXAM" else word for word in options]
    status, _, err = run(exams[0], *filled)
    assert status == ExitStatus.INPUT
    assert words in err


def test_no_volume_is_refused():
    status, _, err = run("--model", "dwt-cal")
    assert status == ExitStatus.INPUT
    assert "no volume is given" in err


@pytest.fixture(scope="module")
def real_exam(tmp_path_factory):
    """Four phases of the example's exam, full field of view, with its spacing."""
    image = nibabel.load(EXAMPLE)
    voxels = np.asanyarray(image.dataobj)[..., ::5].astype(np.int16)
    path = tmp_path_factory.mktemp("real") / "heart.nii.gz"
    part = nibabel.Nifti1Image(voxels, image.affine)
    part.header.set_zooms(image.header.get_zooms())
    nibabel.save(part, path)
    return path


def test_the_networks_own_figures_of_a_real_heart(real_exam):
    """The network of the zoo: a fine quality changes little, a poor one more."""
    chosen = ("--model", "dwt-cal", "--quality", "48,6", "--json")
    status, text, err = run(real_exam, *chosen)
    assert (status, err) == (ExitStatus.OK, "")
    (case,) = rows_of(text, "case")
    assert case["function"]["expert"] is None
    function = case["function"]["network"]
    assert 20 < function["lv_edv_ml"] < 120
    assert 5 < function["lv_ef_percent"] < 60
    assert function["lv_edv_ml"] > function["lv_esv_ml"]
    assert case["phases"]["found_by"] == "network"
    fine, poor = rows_of(text, "result")
    assert fine["against_network"]["all"]["dice"]["mean"] > 0.98
    assert abs(fine["difference"]["lv_ef_percent"]) < 1.5
    assert fine["against_expert"] is fine["dice_drop_points"] is None
    assert fine["lv_volume_preservation"] > 0.98
    assert fine["temporal_ratio_heart"] == pytest.approx(1, abs=0.05)
    assert 0.3 < poor["against_network"]["all"]["dice"]["mean"] < 0.97
    assert poor["temporal_ratio_heart"] < fine["temporal_ratio_heart"]
    assert poor["psnr_heart_db"] < fine["psnr_heart_db"] - 8
    (start,) = rows_of(text, "run")
    assert len(start["network_sha256"]) == 64

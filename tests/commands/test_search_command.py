"""`edge-codec search`, run in process on made-up token streams."""

import json
from pathlib import Path

import pytest
from retrieval_samples import altered, make_exam, run_search, search_model

from edge_codec.errors import SpecError
from edge_codec.exit_status import ExitStatus
from edge_codec.retrieval import exam_tokens, stream_index, weights
from edge_codec.retrieval.disease_head import GROUPS

QUERY = make_exam(1, 3, 4, told_group="DCM")
EXAMS = {
    b"query": QUERY,
    b"near": altered(QUERY, 5, 0.2),
    b"far": make_exam(2, 2, 4),
    b"farther": make_exam(3, 2, 4),
}


def read(file):
    data = file.read()
    if data not in EXAMS:
        raise SpecError("the stream has model 'none'")
    return EXAMS[data]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(exam_tokens, "read_exam", read)
    monkeypatch.setattr(stream_index, "read_exam", read)
    monkeypatch.setattr(weights, "load_search_model", search_model)
    (tmp_path / "all" / "more").mkdir(parents=True)
    for name, data in (("query", b"query"), ("near", b"near"), ("more/far", b"far"),
                       ("lossless", b"lossless")):  # fmt: skip
        (tmp_path / "all" / f"{name}.ecd").write_bytes(data)
    return tmp_path / "all"


def found(folder, *arguments):
    status, out, _ = run_search(folder / "query.ecd", folder, "--json", *arguments)
    assert status == ExitStatus.OK
    return json.loads(out)


def test_exams_are_found_without_the_query_itself(folder):
    result = found(folder)
    matches = result["queries"][0]["matches"]
    assert [match["stream"] for match in matches] == ["near.ecd", "more/far.ecd"]
    assert matches[0]["similarity"] > matches[1]["similarity"]
    assert result["streams"] == 3
    assert result["streams_read"] == 4
    assert result["skipped"] == [{"stream": "lossless.ecd", "why": "the stream has model 'none'"}]
    assert found(folder, "--exam")["streams_read"] == 0


def test_slices_and_frames_are_found_at_their_place(folder):
    best = found(folder, "--slice", 2)["queries"][0]["matches"][0]
    assert (best["stream"], best["slice"]) == ("near.ecd", 2)
    assert "phase" not in best
    best = found(folder, "--frame", "1,3", "--top", 1)["queries"][0]["matches"]
    assert len(best) == 1
    assert (best[0]["stream"], best[0]["slice"]) == ("near.ecd", 1)
    assert 0 <= best[0]["phase"] < 4


def test_groups_are_named_only_when_asked_for(folder):
    bare = found(folder)["queries"][0]
    assert "group" not in bare
    assert not any("group" in match for match in bare["matches"])
    result = found(folder, "--group")["queries"][0]
    assert result["group"]["told_group"] == "DCM"
    assert "not a diagnosis" in result["group"]["note"]
    assert sum(result["group"]["probabilities"].values()) == pytest.approx(1, abs=3e-3)
    assert all(match["group"]["group"] in GROUPS for match in result["matches"])


def test_a_table_for_every_query_and_what_was_skipped(folder):
    other = folder / "near.ecd"
    status, out, err = run_search(folder / "query.ecd", other, folder, "--group")
    assert status == ExitStatus.OK
    assert out.count("like ") == 2
    assert out.count("rank  similarity") == 2
    assert out.count("research only, not a diagnosis") == 2
    assert "the encoder was told DCM" in out
    lines = out.splitlines()
    assert lines[3].split()[0] == "1"
    assert lines[3].endswith("near.ecd")
    assert "skipped lossless.ecd: the stream has model 'none'" in err


def test_no_index_leaves_no_file(folder):
    found(folder, "--no-index")
    assert not (folder / ".edge-codec-index").exists()
    found(folder)
    assert (folder / ".edge-codec-index").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "1"], "slice and phase"),
        (["--frame", "9,0"], "has no frame"),
        (["--slice", "3"], "no slice 3"),
        (["--top", "0"], "--top is 0"),
    ],
)
def test_wrong_options_are_refused(folder, arguments, message):
    status, _, err = run_search(folder / "query.ecd", folder, *arguments)
    assert status != ExitStatus.OK
    assert message in err
    assert err.count("\n") == 1


def test_a_query_that_cannot_be_searched_is_refused(folder):
    status, _, err = run_search(folder / "lossless.ecd", folder)
    assert status != ExitStatus.OK
    assert "model 'none'" in err
    status, _, err = run_search(folder / "nothing.ecd", folder)
    assert status == ExitStatus.INPUT
    assert "nothing.ecd" in err


def test_a_folder_without_streams_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run_search(folder / "query.ecd", tmp_path / "empty")
    assert status == ExitStatus.INPUT
    assert "--model titok" in err


def test_names_are_those_of_the_folder(folder):
    streams = {match["stream"] for match in found(folder)["queries"][0]["matches"]}
    assert all((folder / Path(stream)).is_file() for stream in streams)


def test_an_unusual_exam_is_given_no_group(folder, monkeypatch):
    monkeypatch.setitem(EXAMS, b"far", make_exam(2, 2, 1))
    matches = found(folder, "--group")["queries"][0]["matches"]
    (far,) = (match["group"] for match in matches if match["stream"] == "more/far.ecd")
    assert far["unusual"]
    assert far["group"] is None
    assert far["confidence"] is None
    status, out, _ = run_search(folder / "query.ecd", folder, "--group")
    assert status == ExitStatus.OK
    (line,) = (line for line in out.splitlines() if line.endswith("more/far.ecd"))
    assert line.split()[2] == "unusual"


def test_why_no_stream_of_a_folder_can_be_searched(folder, tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "lossless.ecd").write_bytes(b"lossless")
    status, _, err = run_search(folder / "query.ecd", tmp_path / "others")
    assert status == ExitStatus.INPUT
    assert "(1 .ecd files; lossless.ecd: the stream has model 'none')" in err

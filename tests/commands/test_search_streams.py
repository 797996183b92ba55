"""`edge-codec search` on streams of the shipped `titok`, with weights of search that are random."""

import json
from pathlib import Path

import numpy as np
import pytest
from retrieval_samples import run_search, weight_arrays

from edge_codec.base.titok import load_codebook
from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.cine import Cine
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.retrieval import weights
from edge_codec.retrieval.weights import make_search_model
from edge_codec.runtime.arrays import compress

SLICE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """Two slices of a heart, their first and their later phases, and a lossless stream."""
    folder = tmp_path_factory.mktemp("streams")
    frames = {(f.slice_index, f.phase_index): f.samples for f in open_source(SLICE).frames()}
    for index in range(2):
        for name, phases in (("early", range(3)), ("late", range(3, 6))):
            cine = Cine.from_array(np.stack([frames[index, phase] for phase in phases]))
            told = ClinicalFacts(group="DCM" if index else "")
            data = compress(cine, model="titok", max_error=None, patient=told)
            (folder / f"{name}-{index}.ecd").write_bytes(data)
    (folder / "lossless.ecd").write_bytes(compress(cine))
    (folder / "cut.ecd").write_bytes(data[:-20])
    return folder


@pytest.fixture(autouse=True)
def random_weights(monkeypatch):
    model = make_search_model(weight_arrays(), load_codebook(), "random")
    monkeypatch.setattr(weights, "load_search_model", lambda: model)


def test_the_streams_of_a_folder_are_searched(streams):
    status, out, _ = run_search(streams / "late-0.ecd", streams, "--json", "--frame", "0,1")
    assert status == ExitStatus.OK
    result = json.loads(out)
    assert result["streams"] == 4
    skipped = {entry["stream"]: entry["why"] for entry in result["skipped"]}
    assert set(skipped) == {"cut.ecd", "lossless.ecd"}
    assert "model 'none'" in skipped["lossless.ecd"]
    found = [match["stream"] for match in result["queries"][0]["matches"]]
    assert sorted(found) == ["early-0.ecd", "early-1.ecd", "late-1.ecd"]


def test_a_copy_of_the_query_is_most_like_it(streams, tmp_path):
    query = tmp_path / "query.ecd"
    query.write_bytes((streams / "early-1.ecd").read_bytes())
    status, out, _ = run_search(query, streams, "--json", "--group")
    assert status == ExitStatus.OK
    answer = json.loads(out)["queries"][0]
    assert answer["matches"][0]["stream"] == "early-1.ecd"
    assert answer["matches"][0]["similarity"] > 0.999
    assert answer["group"]["told_group"] == "DCM"
    told = {match["stream"]: match["group"]["told_group"] for match in answer["matches"]}
    assert told == {
        "early-0.ecd": None, "early-1.ecd": "DCM", "late-0.ecd": None, "late-1.ecd": "DCM"
    }  # fmt: skip

"""`compress`, `decompress`, `info` and `verify` with `--model titok`, on real cine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
ORT = ["--backend", "onnxruntime"]  # loaded soonest
TITOK = ["--model", "titok"]


def run(*arguments: object) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> Path:
    """The heart of the example: one slice, three phases."""
    frames = [frame.samples for frame in open_source(EXAMPLE).frames()][:6:2]
    path = tmp_path_factory.mktemp("heart") / "heart.npy"
    np.save(path, np.stack(frames)[None, :, 96:160, 96:160])
    return path


def test_the_whole_way(heart, tmp_path):
    stream, back = tmp_path / "a.ecd", tmp_path / "a.npy"
    status, out, err = run("compress", heart, stream, "--json", *TITOK, *ORT)
    assert (status, err) == (ExitStatus.OK, "")
    report = json.loads(out)
    assert report["model"] == "titok"
    assert "not for diagnosis" in report["promise"]
    info = json.loads(run("info", stream, "--json")[1])
    assert "preview" in info["promise"]
    assert "not for diagnosis" in info["promise"]
    assert info["max_error"] is None
    assert info["told_n_phases"] == 3
    assert "told_group" not in info
    assert run("verify", stream, "--decode", *ORT)[0] == ExitStatus.OK
    assert run("decompress", stream, back, *ORT)[0] == ExitStatus.OK
    assert np.load(back).shape == np.load(heart).shape


def test_what_is_told_of_a_patient_is_shown(heart, tmp_path):
    stream = tmp_path / "a.ecd"
    patient = "height=172.5,weight=80,group=DCM"
    options = [*TITOK, *ORT, "--patient", patient]
    assert run("compress", heart, stream, *options)[0] == ExitStatus.OK
    info = json.loads(run("info", stream, "--json")[1])
    told = {name: info[name] for name in ("told_height_cm", "told_weight_kg", "told_group")}
    assert told == {"told_height_cm": 172.5, "told_weight_kg": 80.0, "told_group": "DCM"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lossless"], "takes no bound"),
        (["--max-error", 2], "takes no bound"),
        (["--snr-loss", 5], "takes no bound"),
        (["--archive"], "no archive order"),
        (["--quality", 3], "no choice of quality"),
        (["--backend", "triton"], "runs no float network"),
    ],
    ids=str,
)
def test_what_it_does_not_offer_is_refused(heart, tmp_path, options, message):
    status, _, err = run("compress", heart, tmp_path / "a.ecd", *TITOK, *options)
    assert status in (ExitStatus.INPUT, ExitStatus.ENGINE)
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("facts", ["age=3", "height=1,height=2", "height=tall", "group=XYZ", ""])
def test_facts_that_are_none_are_refused(heart, tmp_path, facts, capsys):
    status = run("compress", heart, tmp_path / "a.ecd", *TITOK, "--patient", facts)[0]
    assert status == ExitStatus.USAGE
    assert "--patient" in capsys.readouterr().err

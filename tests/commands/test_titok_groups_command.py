"""`compress`, `info`, `verify`, `decompress` and refusals with `--tokens-per cine` and `exam`."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.runtime.phantom import heart

TITOK = ["--model", "titok"]


def run(*arguments: object) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    """Two slices, six phases."""
    path = tmp_path_factory.mktemp("exam") / "exam.npy"
    np.save(path, heart(12, 40, 36, np.dtype(np.uint16)).reshape(2, 6, 40, 36))
    return path


@pytest.mark.parametrize(("per", "groups"), [("cine", 2), ("exam", 1)])
def test_the_whole_way(exam, tmp_path, per, groups):
    stream, back = tmp_path / "a.ecd", tmp_path / "a.npy"
    status, out, err = run("compress", exam, stream, "--json", *TITOK, "--tokens-per", per)
    assert (status, err) == (ExitStatus.OK, "")
    report = json.loads(out)
    assert "whole cine or exam" in report["promise"]
    assert "not for diagnosis" in report["promise"]
    assert report["psnr_db_of_the_whole_exam_peak_its_maximum"] > 12
    info = json.loads(run("info", stream, "--json")[1])
    assert info["model"] == "titok-groups"
    assert info["tokens_per"] == per
    assert info["groups_of_32_tokens"] == groups
    assert info["token_bytes"] == 48 * groups
    assert info["layer_bytes"] == {"base": 0}
    assert run("verify", stream, "--decode")[0] == ExitStatus.OK
    assert run("decompress", stream, back)[0] == ExitStatus.OK
    assert np.load(back).shape == np.load(exam).shape


def test_frames_are_the_default(exam, tmp_path):
    one, two = tmp_path / "a.ecd", tmp_path / "b.ecd"
    assert run("compress", exam, one, *TITOK)[0] == ExitStatus.OK
    assert run("compress", exam, two, *TITOK, "--tokens-per", "frame")[0] == ExitStatus.OK
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(run("info", one, "--json")[1])["tokens_per"] == "frame"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*TITOK, "--lossless"], "takes no bound"),
        ([*TITOK, "--patient", "height=172"], "no facts about the patient"),
        ([*TITOK, "--backend", "openvino"], "need no network"),
        (["--model", "dwt-cal"], "it is model titok"),
        ([], "it is model titok"),
    ],
    ids=str,
)
def test_what_it_does_not_offer_is_refused(exam, tmp_path, options, message):
    status, _, err = run("compress", exam, tmp_path / "a.ecd", "--tokens-per", "cine", *options)
    assert status == ExitStatus.INPUT
    assert message in err
    assert not list(tmp_path.iterdir())


def test_other_words_are_refused(exam, tmp_path):
    status, _, err = run("compress", exam, tmp_path / "a", *TITOK, "--tokens-per", "slice")
    assert status == ExitStatus.INPUT
    assert "use one of frame, cine, exam" in err


def test_live_streams_refuse_them(tmp_path):
    status, _, err = run("serve", "--out", tmp_path, *TITOK, "--tokens-per", "exam")
    assert status == ExitStatus.INPUT
    assert "a live stream takes --tokens-per frame" in err

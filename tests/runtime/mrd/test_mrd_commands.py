from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ismrmrd
import nibabel as nib
import numpy as np
import pytest
from ismrmrd.xsd import CreateFromDocument
from mrd_peer import FAST, serving, stored
from mrd_samples import XML, make_image, random_voxels, smooth_voxels

from edge_codec.bitstream.container import StreamReader
from edge_codec.cine import Cine
from edge_codec.cli import Console, main
from edge_codec.errors import SourceError
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.io.mrd_image import ImageHead
from edge_codec.runtime.mrd.comparison import AnswerCheck
from edge_codec.runtime.mrd.protocol import MessageId, pack_message, text_message
from edge_codec.runtime.mrd.scanner import scanner_images, xml_header

TOKEN = "0123456789abcdef-secret"
ROOT = Path(__file__).parent.parent.parent.parent


def run(*arguments: str) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main(list(arguments), console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    voxels = np.stack([smooth_voxels(2, (5, 24, 20), seed) for seed in range(2)])
    image = nib.Nifti1Image(voxels.transpose(3, 2, 0, 1), np.diag([1.5, 1.25, 8.0, 1.0]))
    path = tmp_path / "heart.nii.gz"
    nib.save(image, path)
    return path


def address(server: Any) -> str:
    host, port = server.address
    return f"{host}:{port}"


def test_a_cine_is_sent_stored_and_restored(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with serving(folder=folder) as server:
        status, out, err = run(
            "send", str(source), address(server), "--check", "--json", "--measurement", "heart 1"
        )
    assert (status, err) == (ExitStatus.OK, "")
    result = json.loads(out)
    assert (result["images"], result["answered"], result["exact"]) == (10, 10, 10)
    assert result["round_trip_p50_ms"] <= result["round_trip_max_ms"]
    assert list(stored(folder)) == ["heart_1-s1/0000.ecd", "heart_1.mrd"]
    # And what was stored decompresses into the same voxels as any stream.
    back = tmp_path / "back.nii"
    status, _, err = run("decompress", str(folder / "heart_1-s1" / "0000.ecd"), str(back))
    assert status == ExitStatus.OK, err
    first, second = (np.asanyarray(nib.load(path).dataobj) for path in (source, back))
    assert np.array_equal(first, second)
    # And into the very images that were sent.
    images = tmp_path / "back.h5"
    status, _, err = run("decompress", str(folder / "heart_1-s1" / "0000.ecd"), str(images))
    assert status == ExitStatus.OK, err
    sent, found = (list(scanner_images(open_source(path))) for path in (source, images))
    assert found == sent


def test_repeat_and_rate(source: Path) -> None:
    with serving() as server:
        status, out, _ = run(
            "send", str(source), address(server), "--check", "--json", "--repeat", "3",
            "--rate", "400",
        )  # fmt: skip
    assert status == ExitStatus.OK
    result = json.loads(out)
    assert result["images"] == result["exact"] == 30
    assert result["frames_per_s"] <= 440


@pytest.mark.parametrize(("answer", "status"), [("packets", 0), ("decoded", 0), ("none", 7)])
def test_check_knows_every_answer(source: Path, answer: str, status: int) -> None:
    from edge_codec.runtime.mrd.returns import AnswerMode

    with serving(answer=AnswerMode(answer)) as server:
        found, out, _ = run("send", str(source), address(server), "--check", "--json")
    assert found == status
    assert json.loads(out)["missing"] == (10 if answer == "none" else 0)


def test_check_finds_what_is_not_the_same(source: Path) -> None:
    from dataclasses import replace

    from edge_codec.runtime.mrd.returns import AnswerMode

    with serving(replace(FAST, max_error=2), answer=AnswerMode.DECODED) as server:
        status, out, _ = run("send", str(source), address(server), "--check", "--json")
    assert status == ExitStatus.UNVERIFIED
    result = json.loads(out)
    assert 0 < result["max_error"] <= 2
    assert (result["answered"], result["exact"]) == (10, 0)


def test_no_server_is_said(source: Path) -> None:
    with serving() as server:
        gone = address(server)
    status, _, err = run("send", str(source), gone)
    assert status == ExitStatus.INPUT
    assert "no MRD server at" in err


def test_a_token_comes_from_a_file(source: Path, tmp_path: Path) -> None:
    from edge_codec.runtime.access import Access

    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    with serving(access=Access(TOKEN)) as server:
        status, _, err = run("send", str(source), address(server))
        assert status == ExitStatus.INPUT
        assert "the server says: access denied" in err
        status, _, _ = run(
            "send", str(source), address(server), "--check", "--token-file", str(token)
        )
        assert status == ExitStatus.OK


@contextmanager
def serve_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `edge-codec serve` in a process of its own; yield it and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_codec", "serve", "--listen", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    watch = threading.Timer(60, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"listening at (127\.0\.0\.1:\d+)\n", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()
        watch.cancel()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_serve_completes_its_files_when_it_is_told_to_end(
    source: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    folder, figures = tmp_path / "out", tmp_path / "figures.jsonl"
    options = ["--out", str(folder), "--fsync", "packet", "--effort", "fast",
               "--telemetry", str(figures)]  # fmt: skip
    with serve_process(*options) as (process, place):
        status, out, err = run("send", str(source), place, "--check", "--json")
        assert status == ExitStatus.OK, (out, err)
        process.send_signal(ending)
        _, told = process.communicate(timeout=30)
        assert process.returncode == ExitStatus.OK, told
    assert "this machine holds so many streams" in told
    (path,) = folder.rglob("*.ecd")
    with path.open("rb") as file:
        reader = StreamReader(file)
        assert reader.complete
        assert reader.n_packets == 10
    last = json.loads(figures.read_text().splitlines()[-1])
    assert last["record"] == "last"


def test_serve_once_ends_with_its_session(source: Path, tmp_path: Path) -> None:
    with serve_process("--once", "--max-error", "1", "--answer", "decoded") as (process, place):
        status, out, _ = run("send", str(source), place, "--json")
        assert status == ExitStatus.OK
        assert json.loads(out)["max_error"] == 1
        process.communicate(timeout=30)
        assert process.returncode == ExitStatus.OK


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--listen", "0.0.0.0:0"], "give --token-file"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--tls-cert", "x"], "both --tls-cert and --tls-key"),
        (["--policy", "strict-lossless", "--max-error", "1"], "use max_error 0"),
        (["--fsync", "often"], "sync policy"),
        (["--forward", "nowhere"], "HOST:PORT"),
    ],
)
def test_serve_refuses_what_cannot_be(arguments: list[str], why: str) -> None:
    status, out, err = run("serve", "--listen", "127.0.0.1:0", *arguments)
    assert status == ExitStatus.INPUT
    assert why in err
    assert out == ""


@pytest.mark.parametrize(
    ("dtype", "data_type"),
    [("u1", 1), ("i1", 2), ("u2", 1), ("i2", 2), ("u4", 3), ("i4", 4), ("u8", 3), ("i8", 4),
     ("f4", 5), ("f8", 6)],
)  # fmt: skip
def test_cines_of_every_dtype_become_images(dtype: str, data_type: int) -> None:
    voxels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    cine = Cine.from_array(voxels, spacing_mm=(8.0, 1.5, 1.25), trigger_time_ms=(0.0, 40.0, 80.0))
    images = list(scanner_images(cine))
    heads = [ImageHead.unpack(image.header) for image in images]
    assert {head.data_type for head in heads} == {data_type}
    assert [(head.slice_index, head.phase) for head in heads] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2),
    ]  # fmt: skip
    assert heads[0].spacing_mm == pytest.approx((8.0, 1.5, 1.25))
    sent = np.frombuffer(images[3].voxels, {1: "u2", 2: "i2", 3: "u4", 4: "i4", 5: "f4",
                                            6: "f8"}[data_type])  # fmt: skip
    assert np.array_equal(sent.reshape(4, 5), voxels[1, 1])


def test_images_of_a_file_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    dataset = ismrmrd.Dataset(str(path), "dataset", True)
    dataset.write_xml_header(XML)
    theirs = []
    for phase in range(3):
        image = ismrmrd.Image.from_array(smooth_voxels(7, (2, 1, 8, 6), phase), phase=phase)
        image.meta = ismrmrd.Meta({"phase": str(phase)})
        theirs.append(image.to_bytes())  # which also notes the size of the attributes
        dataset.append_image("image_0", image)
    dataset.close()
    source = open_source(path)
    assert xml_header(source.info) == XML
    assert [pack_message(image)[2:] for image in scanner_images(source)] == theirs
    with serving() as server:
        status, out, _ = run("send", str(path), address(server), "--check", "--json")
    assert status == ExitStatus.OK
    assert json.loads(out)["exact"] == 3


def test_values_that_mrd_cannot_hold_are_refused() -> None:
    cine = Cine.from_array(np.full((1, 2, 2), 1 << 40, np.int64))
    with pytest.raises(SourceError, match="no 64-bit integers"):
        list(scanner_images(cine))


def test_the_header_is_one_of_the_standard() -> None:
    cine = Cine.from_array(np.zeros((3, 2, 4, 4), np.int16), spacing_mm=(8, 1, 1))
    header = CreateFromDocument(xml_header(cine.info, "a <b>"))
    assert header.measurementInformation.measurementID == "a <b>"
    assert header.encoding[0].encodingLimits.slice.maximum == 2


def test_answers_are_matched_in_order_and_what_is_left_out_counts() -> None:
    images = [make_image(smooth_voxels(1, (1, 1, 4, 4), n), index=n) for n in range(4)]
    check = AnswerCheck()
    for image in images:
        check.expect(image, 0)
    check.take(images[1], 5_000_000)
    check.take(text_message(MessageId.TEXT, "hello"), 0)
    check.take(make_image(random_voxels(1, (1, 1, 4, 4)), index=9), 0)
    check.take(make_image(random_voxels(1, (1, 1, 4, 4)), index=2), 0)
    result = check.finish()
    assert (result.sent, result.answered, result.exact, result.missing) == (4, 2, 1, 2)
    assert result.latency_ms[0] == 5.0
    assert result.texts == ["hello"]
    assert result.errors == ["an image came that was not sent"]
    assert result.max_error > 0
    assert not result.all_exact

"""`edge-codec view`, as a process and as an argument parser."""

import io
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import viewer_samples

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus

ROOT = Path(__file__).parents[3]


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "a.ecd"
    path.write_bytes(viewer_samples.stream(viewer_samples.cine())[0])
    return path


def fail(*arguments):
    console = Console(io.StringIO(), io.StringIO())
    status = main(["view", *map(str, arguments), "--no-open"], console)
    return status, console.err.getvalue()


def test_it_serves_until_it_is_interrupted(stream):
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_codec", "view", stream, "--no-open"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"not for diagnosis" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == ExitStatus.OK
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_beyond_loopback_needs_a_token_file(stream):
    for host in ("0.0.0.0", "::", "10.0.0.1", ""):
        status, message = fail(stream, "--host", host)
        assert status == ExitStatus.INPUT
        assert "--token-file" in message


def test_what_is_not_there(stream, tmp_path):
    assert fail(tmp_path / "none.ecd") == (
        ExitStatus.INPUT,
        f"edge-codec: {tmp_path / 'none.ecd'} does not exist; give a stream (.ecd) or a folder of "
        "streams\n",
    )
    assert fail(stream, "--original", tmp_path / "none.nii")[0] == ExitStatus.INPUT
    assert fail(stream, "--port", 99999)[0] == ExitStatus.INPUT
    assert fail(stream, "--token-file", tmp_path / "none")[0] == ExitStatus.INPUT

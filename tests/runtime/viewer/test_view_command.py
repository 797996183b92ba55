"""`edge-codec view`, as a process and as an argument parser."""

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request
import webbrowser
from pathlib import Path

import pytest
import viewer_samples

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.runtime.viewer.server import ViewerServer

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


def test_the_browser_is_given_a_private_file_and_not_the_address(stream, monkeypatch):
    opened, out = [], io.StringIO()
    monkeypatch.setattr(webbrowser, "open", opened.append)

    def look_and_interrupt(server, poll_interval):
        del poll_interval
        (address,) = opened
        assert server.token not in address
        path = Path(urllib.request.url2pathname(address.removeprefix("file://")))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert f'content="0; url={server.url}"' in path.read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr(ViewerServer, "serve_forever", look_and_interrupt)
    assert main(["view", str(stream)], Console(out, io.StringIO())) == ExitStatus.OK
    assert not Path(opened[0].removeprefix("file://")).parent.exists()


def test_a_full_disk_is_told(stream, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    console = Console(io.StringIO(), io.StringIO())
    assert main(["view", str(stream)], console) == ExitStatus.INPUT
    assert "No space left on device); use --no-open" in console.err.getvalue()


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

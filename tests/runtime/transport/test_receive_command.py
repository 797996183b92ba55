import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from live_packets import LiveSource, decoded_files, live_spec, segment_of, wait_for
from tls_files import make_certificate

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.runtime.access import load_token
from edge_codec.runtime.transport.forward_options import ForwardOptions
from edge_codec.runtime.transport.open_forward import open_forward

ROOT = Path(__file__).parents[3]
QUICK = {"retry_s": 0.05, "max_retry_s": 0.2, "patience_s": 30}


class Receiver:
    """`edge-codec receive` in a process of its own."""

    def __init__(self, folder, *arguments, listen="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_codec", "receive", "--listen", listen, "--json",
             "--out", str(folder), *map(str, arguments)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        self.address = json.loads(self.process.stdout.readline())["listening"]

    def stop(self, number):
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        return json.loads(rest) if rest else None


def push(sink, source, count=1):
    for _ in range(count):
        packet = source.packet()
        sink.send(packet, packet.pack())


def check_whole(folder, source, count):
    frames = decoded_files(folder)["0000.ecd"]
    assert len(frames) == count
    for packet, frame in frames:
        assert (frame == source.shown[0, packet.phase_index]).all()


def test_kill_9_in_the_middle_loses_nothing_and_goes_on_in_the_same_file(tmp_path):
    source = LiveSource(live_spec())
    receiver = Receiver(tmp_path)
    sink = open_forward(f"tcp://{receiver.address}", ForwardOptions(**QUICK))
    sink.begin(segment_of(source.spec))
    push(sink, source, 20)
    assert wait_for(lambda: sink.counts.acknowledged >= 10)
    receiver.stop(signal.SIGKILL)
    push(sink, source, 20)
    again = Receiver(tmp_path, listen=receiver.address)
    push(sink, source, 20)
    sink.end()
    result = again.stop(signal.SIGTERM)
    assert again.process.returncode == ExitStatus.OK
    assert result["lost_packets"] == 0
    assert 20 <= result["stored_packets"] <= 50
    assert sink.counts.lost == 0
    check_whole(tmp_path / "heart", source, 60)


def test_sigterm_completes_what_came(tmp_path):
    source = LiveSource(live_spec())
    receiver = Receiver(tmp_path, "--fsync", "packet")
    sink = open_forward(receiver.address, ForwardOptions(**QUICK))
    sink.begin(segment_of(source.spec))
    push(sink, source, 7)
    assert wait_for(lambda: sink.counts.acknowledged == 7)
    result = receiver.stop(signal.SIGTERM)
    sink.abort()
    assert receiver.process.returncode == ExitStatus.OK
    assert result["streams"] == ["heart"]
    assert result["stored_packets"] == 7
    check_whole(tmp_path / "heart", source, 7)


class Line(io.StringIO):
    """Output of a command in another thread; says when the first line is there."""

    def __init__(self):
        super().__init__()
        self.ready = threading.Event()

    def flush(self):
        self.ready.set()


def received_once(arguments, send):
    """Run the command in this process until one segment came; return status and output."""
    console, status = Console(Line(), io.StringIO()), []
    command = ["receive", "--listen", "127.0.0.1:0", "--once", *map(str, arguments)]
    thread = threading.Thread(target=lambda: status.append(main(command, console)))
    thread.start()
    assert console.out.ready.wait(30)
    send(console.out.getvalue().split()[-1])
    thread.join(30)
    return status[0], console.out.getvalue(), console.err.getvalue()


@pytest.mark.parametrize("udp", [False, True])
def test_once(tmp_path, udp):
    source = LiveSource(live_spec())
    telemetry = tmp_path / "figures.jsonl"
    out = tmp_path / "new" / "out"

    def send(address):
        sink = open_forward(f"{'udp' if udp else 'tcp'}://{address}")
        sink.begin(segment_of(source.spec))
        push(sink, source, 5)
        sink.end()

    arguments = ["--out", out, "--telemetry", telemetry, *(["--udp"] if udp else [])]
    status, text, errors = received_once(arguments, send)
    assert (status, errors) == (ExitStatus.OK, "")
    assert "stored 5 packets" in text
    check_whole(out / "heart", source, 5)
    assert '"sent": 5' in telemetry.read_text()


def test_token_and_tls(tmp_path):
    cert, key = make_certificate(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("0123456789abcdef\n")
    token_file.chmod(0o600)
    source = LiveSource(live_spec())

    def send(address):
        options = ForwardOptions(token=load_token(token_file))
        sink = open_forward(f"tls://{address}", options, ca_file=cert)
        sink.begin(segment_of(source.spec))
        push(sink, source, 5)
        sink.end()

    out = tmp_path / "out"
    arguments = ["--out", out, "--token-file", token_file, "--tls-cert", cert, "--tls-key", key]
    status, _, errors = received_once(arguments, send)
    assert (status, errors) == (ExitStatus.OK, "")
    check_whole(out / "heart", source, 5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--listen", "0.0.0.0:0"], "--token-file"),
        (["--listen", "0.0.0.0:0", "--udp"], "--token-file"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--tls-cert", "x.pem"], "--tls-key"),
        (["--token-file", "none"], "make one"),
        (["--fsync", "sometimes"], "sync policy"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, arguments, expected):
    console = Console(io.StringIO(), io.StringIO())
    status = main(["receive", "--out", str(tmp_path / "out"), *arguments], console)
    assert status == ExitStatus.INPUT
    error = console.err.getvalue()
    assert expected in error
    assert len(error.splitlines()) == 1

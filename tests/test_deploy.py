"""Deployment files: what can be checked of them without a Jetson."""

import argparse
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edge_codec.commands import serve

ROOT = Path(__file__).parent.parent
JETSON = ROOT / "deploy" / "jetson"
SCRIPTS = sorted([*(ROOT / "deploy").glob("*/*.sh"), *(ROOT / "tests" / "browser").glob("*.sh")])
UNIT = (JETSON / "edge-codec-serve.service").read_text()
PROGRAM = "/opt/edge-codec/bin/edge-codec"


def environment():
    """Return the variables of the environment file, as systemd reads it."""
    lines = (JETSON / "edge-codec.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings(name):
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_there_are_scripts():
    names = {path.name for path in SCRIPTS}
    assert names == {"build-engines.sh", "build_wheel.sh", "checklist.sh", "install.sh"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(path):
    assert path.stat().st_mode & stat.S_IXUSR
    shell = "sh" if path.read_text().startswith("#!/bin/sh") else "bash"
    subprocess.run([shell, "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


def run_checklist(tmp_path, *arguments, program="exit 0"):
    """Run the check-list with a stand-in for edge-codec; returns its output."""
    stand_in = tmp_path / "edge-codec"
    stand_in.write_text(f"#!/bin/sh\n{program}\n")
    stand_in.chmod(0o755)
    done = subprocess.run(
        [JETSON / "checklist.sh", *arguments],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "EDGE_CODEC": str(stand_in)},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_the_checklist_runs_anywhere_and_says_what_is_missing(tmp_path):
    out = run_checklist(tmp_path, program='echo "called with $*"')
    sections = re.findall(r"^== (.*)$", out, re.MULTILINE)
    assert sections == [
        "machine", "L4T and JetPack", "CUDA and TensorRT", "power mode and clocks", "heat",
        "memory", "being on time", "edge-codec", "missing here",
    ]  # fmt: skip
    assert "called with doctor --json" in out
    assert re.search(r"called with bench latency \S+slice.nii.gz --lossless --rate 30 ", out)
    if not Path("/etc/nv_tegra_release").exists():
        assert "L4T (/etc/nv_tegra_release)" in out.split("== missing here")[1]
    assert os.uname().nodename not in out.replace(os.uname().release, "")


def test_the_checklist_tells_of_what_fails(tmp_path):
    out = run_checklist(tmp_path, "--no-bench", program="echo broken >&2; exit 5")
    assert "broken\n(status 5)" in out
    assert "doctor (status 5)" in out.split("== missing here")[1]
    assert "called with bench" not in out
    out = run_checklist(tmp_path, tmp_path / "none.nii.gz")
    assert "an exam to measure with" in out.split("== missing here")[1]


def test_the_benchmark_of_the_checklist_is_one_that_we_have():
    from edge_codec.commands import bench_latency

    text = (JETSON / "checklist.sh").read_text()
    found = re.search(r'bench latency "\$input" (.*)$', text, re.MULTILINE)
    parser = argparse.ArgumentParser()
    bench_latency.register(parser)
    options = parser.parse_args(["heart.nii.gz", *shlex.split(found[1])])
    assert (options.rate, options.frames, options.json) == (30, 900, "-")


def test_the_engines_script_refuses_what_it_does_not_know():
    for arguments, message in (
        (["cudnn"], "backend 'cudnn' is unknown"),
        (["triton", "much"], "'much' is no number of GiB"),
        (["triton", "4"], "is not there; set EDGE_CODEC"),
    ):
        done = subprocess.run(
            [JETSON / "build-engines.sh", *arguments],
            capture_output=True, text=True, env={**os.environ, "EDGE_CODEC": "/nowhere/edge-codec"},
        )  # fmt: skip
        assert done.returncode != 0
        assert message in done.stderr


def test_the_unit_starts_a_command_that_we_have():
    command = settings("ExecStart")[0]
    for name, value in environment().items():
        command = command.replace("${" + name + "}", value).replace(f"${name}", value)
    words = shlex.split(command)
    assert words[:2] == [PROGRAM, "serve"]
    assert "$" not in command
    parser = argparse.ArgumentParser()
    serve.register(parser)
    options = parser.parse_args(words[2:])
    assert options.listen == "127.0.0.1:9002"
    assert options.lossless
    assert str(options.out) == "/var/lib/edge-codec/streams"


def test_the_unit_is_confined_and_on_time():
    for line in (
        "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "CapabilityBoundingSet=",
        "CPUSchedulingPolicy=fifo", "LimitRTPRIO=40", "LimitMEMLOCK=infinity", "MemoryMax=2G",
        "MemorySwapMax=0", "Restart=always", "User=edge-codec",
    ):  # fmt: skip
        assert f"\n{line}\n" in UNIT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_one_for_systemd(tmp_path):
    unit = tmp_path / "edge-codec-serve.service"
    unit.write_text(UNIT.replace(PROGRAM, shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "edge-codec" in line]
    assert ours == []


def dockerfile():
    """Return (instruction, arguments) of the Dockerfile, continued lines joined."""
    lines, joined = (JETSON / "Dockerfile").read_text().splitlines(), ""
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            instruction, _, arguments = joined.partition(" ")
            yield instruction, arguments.strip()
            joined = ""
    assert joined == ""


def test_the_dockerfile():
    steps = list(dockerfile())
    known = {
        "ARG", "FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert {name for name, _ in steps} <= known
    stages = {}
    for image, name in (text.split(" AS ") for key, text in steps if key == "FROM"):
        bases = [image.replace("${JETPACK}", jetpack) for jetpack in "67"]
        for base in bases:  # a stage before it, or an image of a fixed version
            assert base in stages or re.fullmatch(r"nvcr\.io/nvidia/[a-z0-9-]+:[a-z0-9.-]+", base)
            assert not base.endswith("latest")
        stages[name] = image
    assert {"build-6", "run-6", "build-7", "run-7", "wheel", "runtime"} == set(stages)
    assert [text for key, text in steps if key == "USER"] == ["edge-codec"]
    copied = [text.split()[0] for key, text in steps if key == "COPY"]
    assert copied == [".", "--from=wheel"]


def test_the_image_is_made_of_all_that_the_package_needs():
    kept = re.findall(r"^!(.*)$", (JETSON / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    links = [path for path in (ROOT / "edge_codec").iterdir() if path.is_symlink()]
    assert {path.name for path in links} <= set(kept)
    assert {"edge_codec", "setup.py", "pyproject.toml", "LICENSE", "MANIFEST.in"} <= set(kept)

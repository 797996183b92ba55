"""README's commands, run; what is pasted under them, compared; its links, followed."""

import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks import demo, report, report_latency, report_lossy, report_peers
from edge_codec.cli import Console, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
# Times, and what depends on the machine.
VARIABLE = re.compile(r"frame ms|_ms_|openvino|onnxruntime|python|machine|threads|missing;")


def console_sessions():
    """Return (command, pasted output) pairs of the README's console blocks, in order."""
    pairs = []
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            pairs.append((command, output))
    return pairs


def stable_lines(text):
    """Return the lines that no clock and no machine changes, spaces normalized."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line and not VARIABLE.search(line)]


def test_commands_print_what_is_pasted(tmp_path, monkeypatch):
    sessions = [pair for pair in console_sessions() if pair[0].startswith("edge-codec ")]
    assert len(sessions) >= 4
    shutil.copy(SAMPLE, tmp_path / "heart.nii.gz")
    monkeypatch.chdir(tmp_path)
    for command, pasted in sessions:
        console = Console(io.StringIO(), io.StringIO())
        status = main(shlex.split(command)[1:], console)
        assert status == 0, command + console.err.getvalue()
        assert stable_lines(console.out.getvalue()) == stable_lines(pasted), command


def test_python_example_runs(tmp_path, monkeypatch):
    shutil.copy(SAMPLE, tmp_path / "heart.nii.gz")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_tables_are_those_of_the_records():
    rows = report.load()
    assert report.rate_table(rows) in README
    assert report.time_table(rows) in README
    assert report_latency.latency_table() in README
    assert report_peers.lossless_table() in README
    assert report_peers.bounded_table() in README
    assert all(table in README for table in report_lossy.tables())


def test_demo_prints_what_is_pasted_and_draws(tmp_path, capsys):
    demo.main(["--out", str(tmp_path)])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    pasted = [line.split() for line in README.splitlines()]
    names = {name.split()[0] for name in demo.PROFILES}
    rows = [row for row in printed if row and row[0] in names and row[-1][0].isdigit()]
    assert len(rows) == len(demo.PROFILES)
    for row in rows:  # the last two columns are times
        assert row[:-2] in [line[:-2] for line in pasted], row
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")

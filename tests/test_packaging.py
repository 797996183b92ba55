"""The wheel holds every module and every model file once."""

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("kernels", "runtime", "calibration", "export")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build a wheel from a copy, so that no file of this checkout is touched."""
    target = tmp_path_factory.mktemp("wheel")
    checkout = target / "checkout"
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        source = ROOT / name
        copy = checkout / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        elif source.is_file():
            copy.write_bytes(source.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", target, checkout],
        check=True,
    )
    return next(target.glob("*.whl"))


def tracked():
    """Return the installed names of the package's tracked files."""
    names = subprocess.run(
        ["git", "ls-files", "edge_codec", *FOLDERS], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.split()  # fmt: skip
    links = {f"edge_codec/{folder}" for folder in FOLDERS}
    return [
        name if name.startswith("edge_codec/") else f"edge_codec/{name}"
        for name in names
        if name not in links
    ]


def test_every_tracked_file_is_in_the_wheel_once(wheel):
    packed = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("edge_codec/")]
    assert len(packed) == len(set(packed))
    kept = {name for name in packed if not name.endswith(".so")}
    expected = {name for name in tracked() if not name.endswith((".c", ".h"))}
    assert kept == expected


def test_the_native_coders_are_in_the_wheel(wheel):
    native = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    expected = {"_frame", "_hybrid", "_int8", "_lookup", "_network", "_rans"}
    expected |= {"_residual", "_tokens"}
    if platform.machine() in ("x86_64", "AMD64"):
        more = {"_hybrid", "_network", "_residual"}
        expected |= {f"{name}_{kind}" for name in more for kind in ("avx2", "avx512")}
    assert {name.split("/")[-1].split(".")[0] for name in native} == expected


def test_links_make_a_checkout_look_installed():
    for folder in FOLDERS:
        link = ROOT / "edge_codec" / folder
        assert link.resolve() == (ROOT / folder).resolve()

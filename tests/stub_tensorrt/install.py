"""Installs the Python bindings of TensorRT with stub libraries, each version in its own folder.

`python tests/stub_tensorrt/install.py` downloads them with pip (2.6 MB) beside the packages of the
running Python: to `<prefix>/stub_tensorrt/<version>`. `make test` does it. What is installed cannot
run anything: see stub.c.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("10.16.1.11", "11.4.0.106")
FOLDER = Path(sys.prefix) / "stub_tensorrt"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64"

# The package `tensorrt` is the bindings under another name; its own installer wants the libraries.
PACKAGE = "import sys\n\nimport tensorrt_bindings\n\nsys.modules[__name__] = tensorrt_bindings\n"


def install(version: str) -> None:
    """Install one version, unless it is there."""
    target = FOLDER / version
    if target.is_dir():
        return
    part = FOLDER / f"{version}.part"
    shutil.rmtree(part, ignore_errors=True)
    requirement = f"tensorrt-cu13-bindings=={version}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", part, requirement], check=True)
    (part / "tensorrt.py").write_text(PACKAGE)
    (part / "lib").mkdir()
    source = Path(__file__).with_name("stub.c")
    for library in LIBRARIES:
        name = f"lib{library}.so.{version.split('.')[0]}"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", part / "lib" / name, source], check=True)
    part.rename(target)


if __name__ == "__main__":
    for version in VERSIONS if SUPPORTED else ():
        install(version)

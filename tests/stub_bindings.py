"""Finds the bindings of TensorRT that tests/stub_tensorrt/install.py installs."""

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
VERSIONS = ("10.16.1.11", "11.4.0.106")


def environment(version):
    """Return the environment of a process that imports a version as `tensorrt`.

    Skips the test where it is not installed.
    """
    folder = Path(sys.prefix) / "stub_tensorrt" / version
    if not folder.is_dir():
        pytest.skip(
            f"TensorRT's bindings {version} are not in {folder}: run make test, or "
            "python tests/stub_tensorrt/install.py (Linux on x86-64)"
        )
    # Kernels are to be compiled there, not interpreted.
    kept = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join(map(str, (TESTS.parent, TESTS, folder)))
    return {**kept, "LD_LIBRARY_PATH": str(folder / "lib"), "PYTHONPATH": path}

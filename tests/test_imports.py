"""What importing costs, and that the deployed runtime needs no training library."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "onnx", "openvino", "onnxruntime", "nibabel", "pydicom", "matplotlib", "scipy"}


def modules_after(statement):
    """Return the top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


def test_importing_the_package_imports_nothing_heavy():
    assert not modules_after("import edge_codec") & (HEAVY | {"numpy"})


def test_help_imports_nothing_heavy():
    statement = "from edge_codec.cli import main; main(['--help'])"
    assert not modules_after(statement) & (HEAVY | {"numpy"})


@pytest.mark.parametrize("name", ["Cine", "Encoder", "compress"])
def test_the_runtime_needs_no_training_library(name):
    assert not modules_after(f"import edge_codec; edge_codec.{name}") & {"torch", "onnx", "scipy"}


def test_an_unknown_name_is_an_attribute_error():
    import edge_codec

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edge_codec.nothing  # noqa: B018

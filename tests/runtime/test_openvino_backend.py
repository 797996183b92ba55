"""What OpenVINO leaves behind in a process."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

# Engines end in the order in which they were made, then Ctrl-C is pressed.
PROGRAM = """
import gc, signal
import numpy as np
from edge_codec.manifest import load_manifest
from edge_codec.runtime.openvino_backend import OpenVinoEngine
from edge_codec.spec import ModelId

model = load_manifest(ModelId.VQVAE).read("encoder.onnx")
engines = []
for _ in range(2):
    engines.append(OpenVinoEngine(model, 1))
    engines[-1].run(np.zeros((1, 1, 32, 32), np.uint8))
while engines:
    del engines[0]
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_ctrl_c_after_engines_came_and_went():
    """See `_CORE`. The interpreter's handler runs on the alternate stack where there is one."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n")

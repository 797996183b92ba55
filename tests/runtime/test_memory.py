"""Memory does not grow with the number of slices or phases."""

import subprocess
import sys

import numpy as np
import pytest

LIMIT_MB = 400
PROGRAM = """
import pathlib, re, sys
from edge_codec.cli import main
status = main(sys.argv[1:])
# Not ru_maxrss: a child begins with its parent's.
memory = pathlib.Path("/proc/self/status").read_text()
print(status, re.search(r"VmHWM:\\s+(\\d+) kB", memory)[1])
"""


def peak_mb(*arguments):
    """Run one command in a process of its own; return its peak resident size in MB."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments), "--quiet", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, kibibytes = result.stdout.split()[-2:]
    assert status == "0", result.stderr
    return int(kibibytes) * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("shape", [(300, 1, 256, 256), (1, 120, 256, 256)])
def test_peak_memory_is_below_the_limit(tmp_path, shape):
    rng = np.random.default_rng(0)
    source, stream, back = (tmp_path / name for name in ("in.npy", "s.ecd", "out.npy"))
    np.save(source, rng.integers(0, 50, shape).astype(np.uint8))
    assert peak_mb("compress", source, stream) < LIMIT_MB
    assert peak_mb("decompress", stream, back) < LIMIT_MB
    assert back.read_bytes() == source.read_bytes()

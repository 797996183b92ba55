"""Streams of every released bitstream version decode for ever, to the same voxels."""

import hashlib
import json
from pathlib import Path

import pytest

import edge_codec

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*/*.ecd"))


def test_there_are_goldens():
    assert len(CASES) >= 6


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"v{path.parent.name}-{path.stem}")
def test_golden_stream_decodes_to_its_voxels(path):
    expected = json.loads((path.parent / "voxels.json").read_text())[path.stem]
    voxels = edge_codec.decompress(path.read_bytes()).voxels
    little = voxels.astype(voxels.dtype.newbyteorder("<"))
    head = f"{voxels.dtype.name} {little.shape} ".encode()
    assert hashlib.sha256(head + little.tobytes()).hexdigest() == expected

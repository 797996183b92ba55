"""Neural codec and edge inference runtime for cardiac cine MRI.

Research use only; not a medical device. The shipped weights carry the non-commercial licence of
their training data (see `edge_codec/zoo/vqvae/MODEL_CARD.md`).

>>> import numpy as np, edge_codec
>>> cine = edge_codec.Cine.from_array(np.zeros((2, 3, 16, 16), dtype=np.int16))
>>> data = edge_codec.compress(cine)
>>> bool((edge_codec.decompress(data).voxels == cine.voxels).all())
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_codec.cine import Cine
    from edge_codec.codec import Decoder, Encoder
    from edge_codec.runtime.arrays import compress, decompress, read_frame
    from edge_codec.runtime.files import compress_file, decompress_file
    from edge_codec.spec import CineInfo, Effort, StreamSpec

__version__ = "0.1.0"

# Public name -> the module that defines it, imported at first use: `import edge_codec` stays quick.
_HOMES = {
    "Cine": "edge_codec.cine",
    "CineInfo": "edge_codec.spec",
    "Decoder": "edge_codec.codec",
    "Effort": "edge_codec.spec",
    "Encoder": "edge_codec.codec",
    "StreamSpec": "edge_codec.spec",
    "compress": "edge_codec.runtime.arrays",
    "compress_file": "edge_codec.runtime.files",
    "decompress": "edge_codec.runtime.arrays",
    "decompress_file": "edge_codec.runtime.files",
    "read_frame": "edge_codec.runtime.arrays",
}

__all__ = [
    "Cine",
    "CineInfo",
    "Decoder",
    "Effort",
    "Encoder",
    "StreamSpec",
    "compress",
    "compress_file",
    "decompress",
    "decompress_file",
    "read_frame",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_codec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)

"""Write the golden streams of the current bitstream version; tests only read them.

    python tests/golden/make.py

A version's folder is written once: the command refuses to overwrite one. After a release, a stream
that no longer decodes to its hash is a broken promise, not a reason to run this again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import edge_codec
from edge_codec.bitstream.header import VERSION

HERE = Path(__file__).parent


def cines() -> dict[str, tuple[edge_codec.Cine, dict[str, object]]]:
    """Return the cine and the options of each golden stream."""
    rng = np.random.default_rng(20_261_121)
    y, x = np.mgrid[:24, :20]
    beat = np.array(
        [[500 + 300 * np.sin(x / 4 + p / 2 + s) * np.cos(y / 5) for p in range(7)] for s in (0, 1)]
    )
    heart = (beat + rng.normal(0, 5, beat.shape)).astype(np.int16)
    signed = rng.integers(-(2**31), 2**31, (1, 2, 5, 7)).astype(np.int32)
    return {
        "fast": (edge_codec.Cine.from_array(heart), {"effort": "fast"}),
        "lossless": (edge_codec.Cine.from_array(heart), {}),
        "best": (edge_codec.Cine.from_array(heart), {"effort": "best"}),
        "best_max_error_2": (
            edge_codec.Cine.from_array(heart),
            {"effort": "best", "max_error": 2},
        ),
        "snr_loss": (edge_codec.Cine.from_array(heart), {"snr_loss_percent": 10.0}),
        "max_error_3": (edge_codec.Cine.from_array(heart), {"max_error": 3}),
        "vqvae": (edge_codec.Cine.from_array(heart), {"model": "vqvae", "max_error": None}),
        "vqvae_lossless": (edge_codec.Cine.from_array(heart), {"model": "vqvae"}),
        "vqvae_best": (
            edge_codec.Cine.from_array(heart),
            {"model": "vqvae", "effort": "best"},
        ),
        "int32_noise": (edge_codec.Cine.from_array(signed), {}),
        "one_voxel": (edge_codec.Cine.from_array(np.full((1, 1, 1, 1), 7, np.uint8)), {}),
    }


def voxel_hash(cine: edge_codec.Cine) -> str:
    """Return the SHA-256 of dtype, shape and little-endian voxels."""
    voxels = cine.voxels.astype(cine.voxels.dtype.newbyteorder("<"))
    head = f"{cine.voxels.dtype.name} {voxels.shape} ".encode()
    return hashlib.sha256(head + voxels.tobytes()).hexdigest()


def main() -> None:
    """Write `tests/golden/<version>/`."""
    folder = HERE / str(VERSION)
    folder.mkdir()  # refuses to overwrite
    hashes = {}
    for name, (cine, options) in cines().items():
        data = edge_codec.compress(cine, **options)  # type: ignore[arg-type]
        (folder / f"{name}.ecd").write_bytes(data)
        hashes[name] = voxel_hash(edge_codec.decompress(data))
    (folder / "voxels.json").write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

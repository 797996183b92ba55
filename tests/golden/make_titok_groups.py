"""Write the golden streams of whole cines and exams in 32 tokens.

    python tests/golden/make_titok_groups.py

Their tokens are promised, their pictures nearly. Like `make.py` it never overwrites; as long as the
weights are not released, remove the folder `tests/golden/1/titok_groups` and run it again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_titok import cine

import edge_codec
from edge_codec.bitstream.header import VERSION

HERE = Path(__file__).parent


def main() -> None:
    """Write both streams and their voxels."""
    folder = HERE / str(VERSION) / "titok_groups"
    folder.mkdir()  # refuses to overwrite
    for per in ("cine", "exam"):
        data = edge_codec.compress(cine(), model="titok", max_error=None, tokens_per=per)
        (folder / f"{per}.ecd").write_bytes(data)
        np.save(folder / f"{per}.npy", edge_codec.decompress(data).voxels)


if __name__ == "__main__":
    main()

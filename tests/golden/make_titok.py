"""Write the golden stream of model `titok`: its tokens are promised, its pictures nearly.

    python tests/golden/make_titok.py

Like `make.py` it never overwrites: what a release has shipped stays. As long as the weights are not
released, remove the folder `tests/golden/1/titok` and run it again.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

import edge_codec
from edge_codec.base.titok import tokens_of
from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.bitstream.header import VERSION
from edge_codec.io import open_source

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"


def cine() -> edge_codec.Cine:
    """Return the heart of the example: two slices, five phases, 40 x 30."""
    source = open_source(EXAMPLE)
    frames = np.stack([frame.samples for frame in source.frames()])
    shape = (source.info.n_phases, source.info.n_slices, *source.info.frame_shape)
    heart = frames.reshape(shape).swapaxes(0, 1)[:, :15:3, 100:180:2, 100:160:2]
    return edge_codec.Cine.from_array(np.ascontiguousarray(heart))


def main() -> None:
    """Write the stream, its tokens and its voxels."""
    folder = HERE / str(VERSION) / "titok"
    folder.mkdir()  # refuses to overwrite
    patient = ClinicalFacts(height_cm=172.5, weight_kg=80, group="HCM")
    data = edge_codec.compress(cine(), model="titok", max_error=None, patient=patient)
    (folder / "titok.ecd").write_bytes(data)
    np.save(folder / "tokens.npy", tokens_of(io.BytesIO(data)))
    np.save(folder / "voxels.npy", edge_codec.decompress(data).voxels)


if __name__ == "__main__":
    main()

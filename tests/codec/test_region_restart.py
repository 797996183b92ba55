"""A restarted encoder codes each slice with its own region of interest."""

import numpy as np

from edge_codec import Encoder, StreamSpec
from edge_codec.region import Region
from edge_codec.spec import CineInfo

INFO = CineInfo(2, 0, 32, 48, np.dtype(np.int16))  # live: slices stay open


def coded(encoder, voxels):
    return [
        encoder.push(voxels[index, phase], slice_index=index).pack()
        for phase in range(voxels.shape[1])
        for index in range(INFO.n_slices)
    ]


def test_a_restarted_encoder_keeps_each_slices_region():
    mask = np.zeros((2, 32, 48), dtype=bool)
    mask[0, 4:20, 4:20] = True
    spec = StreamSpec(INFO, low=0, high=1000, max_error=9, region=Region.of_mask(mask, 0, 0))
    voxels = np.random.default_rng(7).integers(0, 1000, (2, 2, 32, 48)).astype(np.int16)
    encoder = Encoder(spec)
    first = coded(encoder, voxels)
    encoder.restart()
    assert coded(encoder, voxels) == first

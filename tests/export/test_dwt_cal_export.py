"""The integer twin of a small DWT-CAL decodes what the float model decodes, nearly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_codec.base.dwt_cal_vae.codec import code_frame, halves
from edge_codec.base.dwt_cal_vae.networks import Networks, load_networks
from edge_codec.base.dwt_cal_vae.numbers import PIXEL_BITS
from edge_codec.base.dwt_cal_vae.scales import symbol_bits
from edge_codec.errors import CalibrationError
from edge_codec.export import dwt_cal
from edge_codec.export.dwt_cal_layers import FloatLayer, LayerFile
from edge_codec.export.dwt_cal_ranges import Ranges, fraction_bits
from edge_codec.export.dwt_cal_tables import laplace_table
from edge_codec.manifest import load_manifest
from edge_codec.nn.dwt_cal import DwtCal, DwtCalConfig
from edge_codec.nn.laplace import laplace_bits
from edge_codec.runtime.phantom import heart
from edge_codec.spec import ModelId
from edge_codec.training.pack import CineSequence

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
CONFIG = DwtCalConfig(
    features=16, side=4, analysis_depth=1, prior_depth=1, synthesis_depth=2, filter_width=6
)


@pytest.fixture(scope="module")
def sequence() -> CineSequence:
    voxels = heart(5, 40, 48, np.dtype(np.uint16))
    width = int(np.percentile(voxels, 99.9))
    mask = np.zeros(voxels.shape[1:], bool)
    return CineSequence("phantom", "phantom", 0, voxels, 0, width, int(voxels.max()), mask)


@pytest.fixture(scope="module")
def model() -> DwtCal:
    """Weights as at the start of a training, but none of those that begin with zero."""
    torch.manual_seed(1)
    made = DwtCal(CONFIG)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02)
    return made.eval()


@pytest.fixture(scope="module")
def twin(model, sequence) -> dwt_cal.IntegerTwin:
    return dwt_cal.integer_twin(model, [sequence])


@pytest.fixture(scope="module")
def networks(twin, tmp_path_factory) -> Networks:
    out = tmp_path_factory.mktemp("twin")
    dwt_cal.write_networks(twin, out)
    return load_networks((out / "decoder.npz").read_bytes(), (out / "encoder.npz").read_bytes())


class Given:
    """Symbols that the float model has chosen."""

    def __init__(self, symbols) -> None:
        self._side, self._motion, self._latents = (
            part[0].permute(1, 2, 0).numpy().astype(np.int16)
            for part in (symbols.side, symbols.motion, symbols.latents)
        )
        self.scales: list[np.ndarray] = []

    def side(self, expected, known):
        del known
        self.scales.append(expected.scale)
        return self._side

    def motion(self, scales):
        self.scales.append(scales)
        return self._motion

    def latents(self, expected, known, places):
        del known
        self.scales.append(expected.scale.ravel()[places])
        return self._latents.ravel()[places]


@torch.no_grad()
@pytest.mark.parametrize("quality", [3, 30, 50])
def test_the_same_symbols_give_nearly_the_same_frames(model, networks, sequence, quality):
    frames = torch.from_numpy(sequence.units())
    float_state = state = None
    for phase in range(len(frames)):
        coded = model(frames[None, phase : phase + 1], float_state, torch.tensor([float(quality)]))
        float_state = coded.state
        given = Given(coded.symbols)
        kind = "key" if state is None else "inter"
        state = code_frame(networks.frames[kind], state, quality, (5, 6), given)
        exact = coded.decoded[0, 0].numpy() * (1 << PIXEL_BITS)
        error = state.decoded - exact
        assert np.sqrt((error**2).mean()) < 6
        assert np.abs(error).max() < 60
        bits = float(coded.bits[0])
        assert estimated_bits(given) == pytest.approx(bits, rel=0.01, abs=20)


def estimated_bits(given: Given) -> float:
    table = symbol_bits()
    total = 0.0
    parts = [given._side, given._motion] if len(given.scales) == 4 else [given._side]
    parts += [given._latents.ravel()[places] for places in halves(*given._latents.shape[:2])]
    for scale, part in zip(given.scales, parts, strict=True):
        total += float(bits_of(table, scale, part).sum())
    return total


def bits_of(table, scale, symbols):
    size = np.abs(symbols)
    return np.where(size, table.first[scale] + (size - 1.0) * table.more[scale], table.zero[scale])


def test_tables_are_those_of_the_laplace_distribution():
    table = laplace_table()
    frequencies = np.diff(table.astype(np.int64), axis=1)
    assert frequencies.min() >= 0
    assert (frequencies[:, 255] >= 1).all()
    widths = torch.from_numpy(symbol_bits().width)
    for symbol, value in ((0, 0), (1, 1), (2, -1), (7, 4)):
        exact = laplace_bits(torch.full_like(widths, value), widths).numpy()
        often = frequencies[:, symbol] > 500
        found = -np.log2(frequencies[often, symbol] / 65536)
        assert np.abs(found - exact[often]).max() < 0.04


def test_encoder_knows_the_laplace_costs():
    table = symbol_bits()
    widths = torch.from_numpy(table.width)
    for value in (0, 1, 3):
        exact = laplace_bits(torch.full_like(widths, value), widths).numpy()
        found = bits_of(table, np.arange(64), np.full(64, value))
        assert np.allclose(found, exact, rtol=1e-4, atol=1e-5)


def test_no_sum_can_leave_32_bits(twin):
    for file in (twin.decoder, twin.encoder):
        for name, bound in file.sums.items():
            weight = np.abs(file.arrays[f"{name}.weight"].astype(np.int64)).sum(axis=(1, 2, 3))
            bias = np.abs(file.arrays[f"{name}.bias"].astype(np.int64)).max(axis=0)
            assert bound == (weight * 2**15 + bias).max() < 2**31


def test_weights_without_a_scale_are_refused():
    file, bits = LayerFile(), np.zeros(1, np.int64)
    layer = FloatLayer(np.full((1, 1, 1, 1), 40000.0), np.zeros((1, 1)))
    with pytest.raises(CalibrationError, match="train with weight decay"):
        file.add("a", layer, bits, bits)


def test_ranges_leave_room_for_twice_as_much():
    assert fraction_bits(1.0) == 13
    assert 2 * 5.0 * 2 ** fraction_bits(5.0) < 32768 < 4 * 5.0 * 2 ** fraction_bits(5.0)
    assert fraction_bits(0.0) == 14


def test_ranges_need_groups_of_frames(model, sequence):
    ranges = Ranges(model)
    single = dataclasses.replace(sequence, voxels=sequence.voxels[:1])
    ranges.observe([single], [20])
    with pytest.raises(CalibrationError, match="did not run"):
        ranges.given("inter.window")
    with pytest.raises(CalibrationError, match="cine"):
        dwt_cal.read_sequences([], 2, 3)


def test_the_command_writes_a_whole_folder(model, tmp_path, capsys):
    torch.save(
        {"config": dataclasses.asdict(CONFIG), "state": model.state_dict()}, tmp_path / "a.pt"
    )
    out = tmp_path / "dwt_cal_vae"
    arguments = ["--checkpoint", tmp_path / "a.pt", "--out", out, "--volumes", EXAMPLE]
    arguments += ["--phases", 2, "--slices", 1, "--note", "Hardly trained."]
    dwt_cal.main([str(argument) for argument in arguments])
    manifest = load_manifest(ModelId.DWT_CAL_VAE, tmp_path)
    assert manifest.name == "dwt-cal-vae"
    assert len(manifest.decoding_hashes()) == 1
    load_networks(manifest.read("decoder.npz"), manifest.read("encoder.npz"))
    fields = json.loads((out / "manifest.json").read_text())
    assert fields["wire_id"] == ModelId.DWT_CAL_VAE
    card = (out / "MODEL_CARD.md").read_text()
    assert "Hardly trained." in card
    assert "non-commercial" in card

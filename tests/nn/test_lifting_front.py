"""The wavelet in front of the network undoes, is the codec's, and weighs all subbands alike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_codec.errors import SpecError  # noqa: E402
from edge_codec.nn.lifting import (  # noqa: E402
    BANDS,
    COEFFICIENTS,
    Lifting,
    coefficient_parity,
    pad_to_blocks,
)
from edge_codec.transform.wavelet import analyze  # noqa: E402


@pytest.mark.parametrize("kind", ["5/3", "9/7"])
@pytest.mark.parametrize("shape", [(8, 8), (24, 40)])
def test_inverse_undoes_whatever_the_steps(kind: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    lifting = Lifting(kind, learned=True)
    with torch.no_grad():
        lifting.steps.add_(0.1 * torch.randn_like(lifting.steps))
    frame = torch.randn(2, 1, *shape)
    torch.testing.assert_close(lifting.inverse(lifting(frame)), frame, atol=1e-4, rtol=0)


def test_subbands_are_those_of_the_integer_wavelet() -> None:
    frame = np.random.default_rng(0).integers(0, 4000, (32, 48))
    lifting = Lifting("5/3")
    found = (lifting(torch.from_numpy(frame)[None, None].float()) / lifting.gains)[0].numpy()
    low, details = analyze(frame, 3)
    assert np.abs(found[0] - low).max() < 4  # roundings of three levels
    finest = details[0]
    for index, band in enumerate((finest.hl, finest.lh, finest.hh)):
        own = found[16 + 16 * index : 32 + 16 * index].reshape(4, 4, 4, 6)
        assert np.abs(own.transpose(2, 0, 3, 1).reshape(16, 24) - band).max() < 3


def test_errors_cost_about_as_much_in_every_subband() -> None:
    torch.manual_seed(0)
    lifting = Lifting("9/7")
    for band in range(len(BANDS)):
        noise = torch.zeros(1, COEFFICIENTS, 24, 24)
        start = sum(BANDS[:band])
        noise[:, start : start + BANDS[band]] = torch.randn(1, BANDS[band], 24, 24)
        energy = float(lifting.inverse(noise).square().sum() / noise.square().sum())
        assert energy == pytest.approx(1.0, abs=0.15)


def test_neighbors_within_a_block_have_other_parities() -> None:
    parity = coefficient_parity()
    finest = parity[16:32].reshape(4, 4)
    assert bool((finest[:, 1:] != finest[:, :-1]).all())
    assert bool((finest[1:] != finest[:-1]).all())
    assert int(parity.sum()) == COEFFICIENTS // 2


def test_unknown_wavelet_is_refused() -> None:
    with pytest.raises(SpecError, match="5/3 or 9/7"):
        Lifting("haar")


def test_padding_repeats_the_edge() -> None:
    frames = torch.arange(6.0).reshape(1, 2, 3)
    padded = pad_to_blocks(frames)
    assert padded.shape == (1, 8, 8)
    assert torch.equal(padded[:, :2, :3], frames)
    assert bool((padded[0, 2:, 3:] == 5.0).all())

"""The whole codec: it works before it is trained, holds what is still, and learns everywhere."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from edge_codec.errors import SpecError  # noqa: E402
from edge_codec.nn.cost import multiplications, parameters  # noqa: E402
from edge_codec.nn.dwt_cal import FRAME_RANGE, SIZES, DwtCal, DwtCalConfig  # noqa: E402
from edge_codec.nn.dwt_cal_parts import FEATURE_RANGE  # noqa: E402

TINY = DwtCalConfig(
    features=8, side=4, analysis_depth=1, prior_depth=1, synthesis_depth=1, filter_width=4
)


@pytest.fixture
def model() -> DwtCal:
    torch.manual_seed(0)
    return DwtCal(TINY).eval()


def smooth_frames(count: int, rows: int, columns: int) -> torch.Tensor:
    """A moving blob, shape (1, count, rows, columns)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    frames = [
        torch.exp(-((y - rows / 2 - t) ** 2 + (x - columns / 2) ** 2) / 50.0) for t in range(count)
    ]
    return torch.stack(frames)[None]


@torch.no_grad()
def test_fresh_model_is_a_working_codec(model: DwtCal) -> None:
    frames = smooth_frames(4, 24, 40)
    fine = model.rollout(frames, torch.full((1, 4), 60.0))
    coarse = model.rollout(frames, torch.full((1, 4), 10.0))
    assert fine.decoded.shape == frames.shape
    assert fine.bits.shape == (1, 4)
    assert float((fine.decoded - frames).square().mean()) < 2e-4
    assert float((coarse.decoded - frames).square().mean()) < 2e-2
    assert float(coarse.bits.sum()) < 0.5 * float(fine.bits.sum())


@torch.no_grad()
def test_what_is_still_stays_exactly_and_costs_little(model: DwtCal) -> None:
    frame, quality = smooth_frames(1, 24, 40), torch.tensor([30.0])
    key = model(frame, None, quality)
    coded = model(key.decoded, key.state, quality)
    assert torch.equal(coded.decoded, key.decoded)
    assert float(coded.bits) < 0.3 * float(key.bits)


@torch.no_grad()
def test_untrained_rollout_does_not_decay(model: DwtCal) -> None:
    frame = smooth_frames(1, 24, 40)
    noisy = frame + 0.01 * torch.randn(1, 12, 24, 40)
    decoded = model.rollout(noisy, torch.full((1, 12), 20.0)).decoded
    error = (decoded - frame).square().mean(dim=(0, 2, 3))
    assert float(error[-1]) < 1.5 * float(error[0])


@torch.no_grad()
def test_decoder_makes_the_same_frames_from_the_symbols(model: DwtCal) -> None:
    for parameter in model.parameters():  # nothing that is zero at the start may hide a mistake
        parameter.add_(0.02 * torch.randn_like(parameter))
    frames, quality = smooth_frames(3, 24, 40), torch.tensor([35.0])
    encoder = decoder = None
    for index in range(3):
        coded = model(frames[:, index, None], encoder, quality)
        again = model.decode(coded.symbols, decoder, quality)
        assert torch.equal(again.decoded, coded.decoded)
        assert torch.equal(again.bits, coded.bits)
        assert bool(coded.symbols.motion.any()) == (index > 0)
        assert bool(coded.symbols.latents.any())
        assert torch.equal(coded.symbols.latents, coded.symbols.latents.round())
        encoder, decoder = coded.state, again.state


def test_every_weight_learns_from_a_rollout(model: DwtCal) -> None:
    for name, parameter in model.named_parameters():  # layers that start at zero hide others
        if name.endswith("weight") and not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.01)
    frames = smooth_frames(3, 24, 40) + 0.05 * torch.randn(1, 3, 24, 40)
    rollout = model.train().rollout(frames, torch.tensor([[50.0, 47.0, 40.0]]))
    (rollout.bits.mean() + 1e4 * (rollout.decoded - frames).square().mean()).backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]
    # A key frame's prediction is black: nothing is learned from attending to it.
    assert silent == ["key.analysis.attention.reference.weight"]


def test_gradient_of_a_late_frame_reaches_the_key_frame(model: DwtCal) -> None:
    frames = smooth_frames(3, 16, 16)
    rollout = model.train().rollout(frames, torch.full((1, 3), 40.0))
    (rollout.decoded[:, 2] - frames[:, 2]).square().sum().backward()
    gradient = model.key.prior.step.table.grad
    assert gradient is not None
    assert bool(gradient.any())


@torch.no_grad()
def test_what_is_carried_on_is_bounded_whatever_the_weights(model: DwtCal) -> None:
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter))
    state = None
    for frame in smooth_frames(4, 24, 40)[0]:
        coded = model(40.0 * frame[None, None] - 20.0, state, torch.tensor([30.0]))
        state = coded.state
        for image in (coded.decoded, coded.prediction):
            assert float(image.min()) >= FRAME_RANGE[0]
            assert float(image.max()) <= FRAME_RANGE[1]
        assert float(state.features.abs().max()) <= FEATURE_RANGE[1]
    assert float(coded.decoded.max()) == FRAME_RANGE[1]
    assert float(coded.state.features.max()) == FEATURE_RANGE[1]


@pytest.mark.parametrize("quality", [10.0, 40.0])
def test_gradient_does_not_grow_with_the_number_of_frames(model: DwtCal, quality: float) -> None:
    """None passes through skipped latents and the encoder: it grew with each frame back."""
    with torch.no_grad():
        model.inter.analysis.leave.conv.weight.normal_()
    frames = smooth_frames(1, 24, 40) + 0.02 * torch.randn(1, 17, 24, 40)
    norms = []
    for count in (5, 17):
        model.zero_grad()
        rollout = model.rollout(frames[:, :count], torch.full((1, count), quality))
        (rollout.decoded[:, -1] - frames[:, count - 1]).square().mean().backward()
        found = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        norms.append(float(torch.stack(found).sum().sqrt()))
    assert norms[1] < 30 * norms[0]


def test_sizes_that_are_no_multiples_are_refused(model: DwtCal) -> None:
    with pytest.raises(SpecError, match="multiples of 8"):
        model(torch.zeros(1, 1, 20, 24), None, torch.zeros(1))


def test_inter_starts_with_the_key_codecs_steps_but_its_own_expectations(model: DwtCal) -> None:
    with torch.no_grad():
        for parameter in model.key.parameters():
            parameter.fill_(0.125)
    expected = model.inter.prior.expect_first.head.conv.weight.clone()
    model.start_inter_from_key()
    assert bool((model.inter.prior.step.table == 0.125).all())
    assert torch.equal(model.inter.prior.expect_first.head.conv.weight, expected)


def test_small_size_fits_its_budget() -> None:
    torch.manual_seed(0)
    model = DwtCal(SIZES["s"])
    totals = multiplications(model, 64, 64)
    per_frame = {name: 16 * count for name, count in totals.items()}  # of 256x256
    assert max(per_frame.values()) < 5e9
    assert per_frame["inter_decoder"] < per_frame["inter"]
    assert 5e5 < parameters(model) < 5e6


def test_medium_size_is_larger() -> None:
    small, medium = (dataclasses.asdict(SIZES[name]) for name in ("s", "m"))
    assert medium["features"] > small["features"]
    assert medium["synthesis_depth"] > small["synthesis_depth"]

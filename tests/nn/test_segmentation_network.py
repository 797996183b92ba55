"""The segmentation network takes frames of any size and gives each pixel four logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edge_codec.nn.segmentation import (  # noqa: E402
    STRIDE,
    ResidualBlock,
    SegmentationConfig,
    SegmentationNetwork,
    frame_of_codes,
)

WIDTHS = (4, 6, 8, 10)


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    made = SegmentationNetwork(SegmentationConfig(WIDTHS))
    with torch.no_grad():  # statistics that are not those of an untrained network
        made.train()(torch.rand(4, 1, 48, 48))
    return made.eval()


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (32, 48), (95, 100)])
def test_any_size_is_that_of_the_frame_extended_by_its_edges(network, size) -> None:
    rows, columns = size
    frame = torch.rand(2, 1, rows, columns)
    below, right = -rows % STRIDE, -columns % STRIDE
    extended = frame[:, :, [*range(rows), *[rows - 1] * below]]
    extended = extended[..., [*range(columns), *[columns - 1] * right]]
    with torch.no_grad():
        found = network(frame)
        expected = network.logits(extended)[..., :rows, :columns]
    assert found.shape == (2, 4, rows, columns)
    assert torch.equal(found, expected)


def test_features_halve_the_resolution_and_have_the_widths(network) -> None:
    maps = network.features(torch.rand(1, 1, 64, 96))
    shapes = [(width, 32 >> i, 48 >> i) for i, width in enumerate(WIDTHS)]
    assert [tuple(x.shape[1:]) for x in maps] == shapes


def test_pixels_far_apart_know_of_each_other_and_keep_their_place(network) -> None:
    frame = torch.zeros(1, 1, 64, 64, requires_grad=True)
    network.logits(frame)[0, 2, 5, 7].backward()
    reach = frame.grad[0, 0].abs()
    assert reach[5, 7] > 0
    assert reach[40, 40] > 0


def test_a_block_of_the_same_shape_adds_its_input_as_it_is() -> None:
    block = ResidualBlock(3, 3).eval()
    with torch.no_grad():
        for parameter in block.second.parameters():
            parameter.zero_()
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(block(x), x)


def test_code_128_is_one() -> None:
    codes = torch.tensor([0, 128, 255], dtype=torch.uint8)
    assert frame_of_codes(codes).tolist() == [0.0, 1.0, 255 / 128]

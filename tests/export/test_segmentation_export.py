"""The integer segmentation network is exact and close to the float one, or it is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
yaml = pytest.importorskip("yaml")

from segmentation_samples import WIDTHS, tiny_config, write_data  # noqa: E402

from edge_codec.calibration.power_of_two import EXACT_FLOAT32  # noqa: E402
from edge_codec.errors import CalibrationError  # noqa: E402
from edge_codec.export.segmentation import (  # noqa: E402
    calibration_frames,
    check_loss,
    float_model,
    main,
)
from edge_codec.export.segmentation_integer import (  # noqa: E402
    IntegerSegmentation,
    exponents_of,
    folded,
    observe,
)
from edge_codec.manifest import load_manifest  # noqa: E402
from edge_codec.nn.segmentation import (  # noqa: E402
    SegmentationConfig,
    SegmentationNetwork,
    frame_of_codes,
)
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402
from edge_codec.training.segmentation import Trainer, train  # noqa: E402
from edge_codec.training.segmentation_data import read_labeled  # noqa: E402


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    """Random weights, statistics of random frames."""
    torch.manual_seed(1)
    made = SegmentationNetwork(SegmentationConfig(WIDTHS))
    with torch.no_grad():
        for _ in range(20):
            made.train()(torch.rand(4, 1, 48, 48) * 1.5)
    return made.eval()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 192, (48, 48)).astype(np.uint8) for _ in range(6)]


@pytest.fixture(scope="module")
def graph(network: SegmentationNetwork, frames: list[np.ndarray]) -> IntegerSegmentation:
    return IntegerSegmentation(network, exponents_of(network, observe(network, frames), "mse"))


@pytest.fixture(scope="module")
def integers(graph: IntegerSegmentation) -> bytes:
    return graph.model().SerializeToString()


@pytest.fixture(scope="module")
def floats(network: SegmentationNetwork) -> onnx.ModelProto:
    return float_model(network)


def logits_of(network: SegmentationNetwork, codes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.logits(frame_of_codes(torch.from_numpy(codes))).numpy()


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (3, 1, 48, 80)])
def test_the_exported_float_network_is_the_network(network, floats, shape) -> None:
    codes = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    found = OrtEngine(floats.SerializeToString(), threads=1).run(codes)
    np.testing.assert_allclose(found, logits_of(network, codes), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 16, 32), (2, 1, 64, 48)])
def test_integers_are_close_to_floats_and_the_same_however_they_are_run(
    network, integers, shape
) -> None:
    codes = np.random.default_rng(3).integers(0, 192, shape).astype(np.uint8)
    found = OrtEngine(integers, threads=1).run(codes)
    as_written = OrtEngine(integers, threads=1, optimize=False).run(codes)
    np.testing.assert_array_equal(found, as_written)
    expected = logits_of(network, codes)
    assert found.shape == expected.shape
    noise = np.square(found - expected).mean() / np.square(expected - expected.mean()).mean()
    assert noise < 0.005  # 0.0014 of rounding; another interpolation gives 0.025


def test_weights_are_seven_bits_and_sums_are_proven(graph, integers) -> None:
    model = onnx.load_model_from_string(integers)
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
    ]
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(layers) == len(graph.bounds) == 28
    assert max(abs(weight.astype(int)).max() for weight in weights) <= 63
    assert max(graph.bounds.values()) < EXACT_FLOAT32


def test_every_convolution_is_rounded_to_bytes(integers) -> None:
    model = onnx.load_model_from_string(integers)
    readers = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type == "Conv":
            reader = readers[node.output[0]]
            if reader.op_type == "Relu":
                reader = readers[reader.output[0]]
            assert reader.op_type == "QuantizeLinear"


def test_normalization_is_in_the_weights(network) -> None:
    unit = network.encoder[1][0].first
    weight, bias = folded(unit)
    x = torch.rand(1, 4, 6, 6)
    expected = unit.norm(unit.conv(x))
    found = torch.nn.functional.conv2d(
        x, torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), stride=2, padding=1
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(CalibrationError, match="no layer"):
        folded(torch.nn.ReLU())


def test_what_loses_dice_is_refused() -> None:
    reference = {"acdc": [0.9, 0.8, 0.95], "fullfov": [0.9, 0.9, 0.9]}
    check_loss(reference, {"acdc": [0.892, 0.801, 0.95], "fullfov": [1.0, 1.0, 1.0]})
    with pytest.raises(CalibrationError, match=r"acdc: the integer network loses 0\.0033"):
        check_loss(reference, {"acdc": [0.89, 0.8, 0.95], "fullfov": [1.0, 1.0, 1.0]})


def test_calibration_frames_are_of_both_data_sets(tmp_path: Path) -> None:
    write_data(tmp_path)
    found = calibration_frames(read_labeled(tmp_path))
    assert sorted({frame.shape for frame in found}) == [(48, 48), (80, 64)]
    assert len(found) == 6


def test_the_command_writes_a_model_of_the_zoo(
    tmp_path: Path, floats: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    # PyTorch's exporter takes seconds; what it makes is tested above.
    monkeypatch.setattr("edge_codec.export.segmentation.float_model", lambda network: floats)
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "zoo" / "segmentation"
    write_data(data)
    run.mkdir()
    config = tiny_config(steps=12, learning_rate=1e-2, ema_decay=0.5)
    train(Trainer(config, run), read_labeled(data))
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))))
    )
    (tmp_path / "s.json").write_text('{"train": ["patient001", "patient014"]}')
    call = ["--checkpoint", str(run / "averaged.pt"), "--config", str(tmp_path / "c.yaml")]
    call += ["--data", str(data), "--splits", str(tmp_path / "s.json"), "--out", str(out)]
    monkeypatch.setattr("edge_codec.export.segmentation.LARGEST_LOSS", -2.0)
    with pytest.raises(SystemExit, match=r"error: .* Dice, at most -2\.0"):
        main(call)
    assert not out.exists()
    monkeypatch.setattr("edge_codec.export.segmentation.LARGEST_LOSS", 2.0)
    main([*call, "--float", str(tmp_path / "float.onnx"), "--note", "a test"])
    manifest = load_manifest("segmentation", tmp_path / "zoo")
    codes = np.random.default_rng(4).integers(0, 192, (1, 1, 32, 32)).astype(np.uint8)
    for network in (manifest.read("segmentation.onnx"), (tmp_path / "float.onnx").read_bytes()):
        assert OrtEngine(network, threads=1).run(codes).shape == (1, 4, 32, 32)
    card = (out / "MODEL_CARD.md").read_text()
    assert "trained on 1 patients" in card
    assert "Held out of it for validation: patient014" in card
    assert "a test" in card

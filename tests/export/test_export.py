"""From a small trained-like network to ONNX: fake quantization, integers and backends agree."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_codec.calibration.qat import (  # noqa: E402
    calibrate,
    fake_quantize,
    load_quantized,
    quantized_twin,
    save_quantized,
)
from edge_codec.errors import CalibrationError  # noqa: E402
from edge_codec.export.parity import mismatches  # noqa: E402
from edge_codec.export.vqvae import (  # noqa: E402
    IntegerVQVAE,
    decoder_model,
    encoder_model,
    integer_vqvae,
)
from edge_codec.nn.vqvae import CODE_SCALE, VQVAE, VQVAEConfig  # noqa: E402
from edge_codec.runtime.integer_reference import IntegerReference  # noqa: E402

TINY = VQVAEConfig(
    codes=64, code_dim=8, fine=8, coarse=16, embed=16, encoder_depth=1, decoder_depth=1
)


@pytest.fixture(scope="module")
def twin() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(TINY).eval()
    batch = (255 * torch.rand(4, 1, 32, 32)).round()
    with torch.no_grad():
        latent = model.analysis(batch * CODE_SCALE)
        model.codebook.initialize(latent.permute(0, 2, 3, 1).reshape(-1, 8)[:256])
    return quantized_twin(model, calibrate(model, [batch])).eval()


@pytest.fixture(scope="module")
def network(twin: VQVAE) -> IntegerVQVAE:
    return integer_vqvae(twin)


def frames() -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (2, 1, 24, 40)).astype(np.uint8)


def encode(network: IntegerVQVAE, batch: np.ndarray) -> np.ndarray:
    """Tokens of frames: the encoder's latents, and the nearest code by its definition."""
    latents = IntegerReference(encoder_model(network).SerializeToString()).run(batch)
    difference = latents[..., None, :].astype(np.int64) - network.codebook
    return (difference**2).sum(axis=-1).argmin(axis=-1).astype(np.int32)


def test_fake_quantization_rounds_clips_and_passes_gradients_inside() -> None:
    x = torch.tensor([0.3, 0.25, -1.0, 9.0], requires_grad=True)
    y = fake_quantize(x, 0.5, 0, 4)
    assert y.tolist() == [0.5, 0.0, 0.0, 2.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_decoder_file_is_the_quantized_network(twin: VQVAE, network: IntegerVQVAE) -> None:
    tokens = np.random.default_rng(2).integers(0, 64, (2, 3, 5)).astype(np.int32)
    with torch.no_grad():
        expected = (twin.decode(torch.from_numpy(tokens).long()) / CODE_SCALE).numpy()
    found = IntegerReference(decoder_model(network).SerializeToString()).run(tokens)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_encoder_file_is_the_quantized_network(twin: VQVAE, network: IntegerVQVAE) -> None:
    frame = frames()
    with torch.no_grad():
        expected = twin.encode(torch.from_numpy(frame).float() * CODE_SCALE).numpy()
    assert np.array_equal(encode(network, frame), expected)


def test_backends_agree_on_the_decoder(network: IntegerVQVAE) -> None:
    tokens = np.random.default_rng(3).integers(0, 64, (1, 5, 3)).astype(np.int32)
    counts = mismatches(decoder_model(network).SerializeToString(), tokens)
    assert len(counts) >= 4
    assert not any(counts.values()), counts


def test_permuted_codes_give_the_same_frames(network: IntegerVQVAE) -> None:
    order = np.random.default_rng(4).permutation(64)
    permuted = network.permute(order)
    tokens, plain = encode(permuted, frames()), encode(network, frames())
    assert np.array_equal(network.codebook[plain], permuted.codebook[tokens])
    decoded = IntegerReference(decoder_model(permuted).SerializeToString()).run(tokens)
    original = IntegerReference(decoder_model(network).SerializeToString()).run(plain)
    assert np.array_equal(decoded, original)


def test_every_scale_is_a_power_of_two(network: IntegerVQVAE) -> None:
    for model in (encoder_model(network), decoder_model(network)):
        constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
        scales = [
            constants[node.input[1]]
            for node in model.graph.node
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        ]
        assert scales
        for scale in scales:
            assert np.array_equal(np.exp2(np.round(np.log2(scale))), scale)


def test_saved_twin_comes_back_the_same(
    twin: VQVAE, network: IntegerVQVAE, tmp_path: object
) -> None:
    from pathlib import Path

    exponents = {
        name: module.output_exponent
        for name, module in twin.named_modules()
        if hasattr(module, "output_exponent")
    }
    path = Path(str(tmp_path)) / "quantized.pt"
    save_quantized(twin, exponents, {"float": {"acdc": 30.0}}, path)
    loaded, metrics = load_quantized(path)
    assert metrics == {"float": {"acdc": 30.0}}
    again = decoder_model(integer_vqvae(loaded)).SerializeToString()
    assert again == decoder_model(network).SerializeToString()


def test_export_refuses_a_float_network() -> None:
    with pytest.raises(CalibrationError, match="not quantized"):
        integer_vqvae(VQVAE(TINY))

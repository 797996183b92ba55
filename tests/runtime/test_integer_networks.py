"""The shipped networks give the same integers on every backend, and a defect would be seen."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from edge_codec.base.lookup import CodebookLookup  # noqa: E402
from edge_codec.io import open_source  # noqa: E402
from edge_codec.manifest import load_manifest  # noqa: E402
from edge_codec.runtime.integer_reference import (  # noqa: E402
    IntegerReference,
    shift_half_even,
)
from edge_codec.runtime.pick import available, load_engine  # noqa: E402
from edge_codec.spec import ModelId  # noqa: E402

ROOT = Path(__file__).parent.parent.parent

OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture(scope="module")
def decoder() -> bytes:
    return load_manifest(ModelId.VQVAE).read("decoder.onnx")


@pytest.fixture(scope="module")
def encoder() -> bytes:
    return load_manifest(ModelId.VQVAE).read("encoder.onnx")


def synthetic_frame(rows: int, columns: int) -> NDArray[np.uint8]:
    """A bright ring on a gradient with noise, (1, 1, rows, columns)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:rows, :columns]
    radius = np.hypot(y - rows / 2, x - columns / 2)
    frame = 40 + 30 * x / columns + 120 * np.exp(-(((radius - 20) / 5) ** 2))
    noisy = np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255)
    return noisy.astype(np.uint8)[None, None]


def real_frame() -> NDArray[np.uint8]:
    """Window codes of a frame of the shipped heart, (1, 1, 64, 64)."""
    frame = next(iter(open_source(ROOT / "examples" / "tiny.nii.gz").frames())).samples
    codes = np.clip(frame.astype(np.int64) * 192 // max(1, int(frame.max())), 0, 255)
    return codes.astype(np.uint8)[None, None]


def encode(encoder: bytes, frame: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Tokens of a frame, (1, h, w)."""
    codebook = np.load(io.BytesIO(load_manifest(ModelId.VQVAE).read("codebook.npy")))
    latents = run_onnxruntime(encoder, frame, True, 1)
    return CodebookLookup(codebook).nearest(latents.astype(np.int8)).astype(np.int32)


def token_batches(n_codes: int, encoder: bytes) -> dict[str, NDArray[np.int32]]:
    rng = np.random.default_rng(5)
    return {
        "one token": rng.integers(0, n_codes, (1, 1, 1)).astype(np.int32),
        "odd sizes": rng.integers(0, n_codes, (2, 7, 5)).astype(np.int32),
        "extreme codes": np.array([[[0, n_codes - 1] * 4] * 3], np.int32),
        "a made frame's own": encode(encoder, synthetic_frame(72, 88)),
        "a real frame's own": encode(encoder, real_frame()),
    }


def run_onnxruntime(
    model: bytes, tensor: NDArray[np.generic], optimize: bool, threads: int
) -> NDArray[np.generic]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: tensor})[0]


def run_openvino(model: bytes, tensor: NDArray[np.generic], hint: str) -> NDArray[np.generic]:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    return np.array(compiled([tensor])[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimize", [False, True])
def test_decoder_is_exact_on_onnxruntime(
    decoder: bytes, encoder: bytes, optimize: bool, threads: int
) -> None:
    n_codes = load_manifest(ModelId.VQVAE).n_codes
    reference = IntegerReference(decoder)
    for name, tokens in token_batches(n_codes, encoder).items():
        expected = reference.run(tokens)
        found = run_onnxruntime(decoder, tokens, optimize, threads)
        assert found.dtype == np.uint8
        assert found.shape == (len(tokens), 1, 8 * tokens.shape[1], 8 * tokens.shape[2])
        assert int((found != expected).sum()) == 0, name


@pytest.mark.skipif(not OPENVINO, reason="openvino is not installed")
@pytest.mark.parametrize("hint", ["f32", "bf16", "f16"])
def test_decoder_is_exact_on_openvino(decoder: bytes, encoder: bytes, hint: str) -> None:
    n_codes = load_manifest(ModelId.VQVAE).n_codes
    reference = IntegerReference(decoder)
    for name, tokens in token_batches(n_codes, encoder).items():
        found = run_openvino(decoder, tokens, hint)
        assert int((found != reference.run(tokens)).sum()) == 0, name


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", available())
def test_engines_of_the_product_are_exact(
    decoder: bytes, encoder: bytes, backend: str, threads: int
) -> None:
    decode, analyze = (load_engine(model, backend, threads) for model in (decoder, encoder))
    n_codes = load_manifest(ModelId.VQVAE).n_codes
    for name, tokens in token_batches(n_codes, encoder).items():
        assert np.array_equal(decode.run(tokens), IntegerReference(decoder).run(tokens)), name
    for frame in (real_frame(), synthetic_frame(40, 72), real_frame()):  # shapes come back
        assert np.array_equal(analyze.run(frame), IntegerReference(encoder).run(frame))


@pytest.mark.parametrize("optimize", [False, True])
def test_encoder_is_exact_on_onnxruntime(encoder: bytes, optimize: bool) -> None:
    frame = synthetic_frame(40, 72)
    found = run_onnxruntime(encoder, frame, optimize, 1)
    assert found.shape == (1, 5, 9, 32)
    assert found.dtype == np.int8
    assert np.array_equal(found, IntegerReference(encoder).run(frame))


@pytest.mark.skipif(not OPENVINO, reason="openvino is not installed")
@pytest.mark.parametrize("hint", ["f32", "bf16", "f16"])
def test_encoder_is_exact_on_openvino(encoder: bytes, hint: str) -> None:
    frame = synthetic_frame(40, 72)
    assert np.array_equal(run_openvino(encoder, frame, hint), IntegerReference(encoder).run(frame))


def test_reconstruction_resembles_the_frame(decoder: bytes, encoder: bytes) -> None:
    frame = synthetic_frame(72, 88)
    tokens = encode(encoder, frame)
    error = run_onnxruntime(decoder, tokens, True, 1).astype(float) - frame
    # The frame alone has noise of standard deviation 4; a wrong decoder is off by tens.
    assert np.sqrt((error**2).mean()) < 15


def with_one_weight_changed(model: bytes, channel: int) -> bytes:
    """Change the center weight of one input channel of the last convolution."""
    proto = onnx.load_model_from_string(model)
    makers = {node.output[0]: node for node in proto.graph.node}
    last = [node for node in proto.graph.node if node.op_type == "Conv"][-1]
    name = makers[last.input[1]].input[0]
    constant = next(c for c in proto.graph.initializer if c.name == name)
    weight = onnx.numpy_helper.to_array(constant).copy()
    weight[5, channel, 1, 1] += -40 if weight[5, channel, 1, 1] > 0 else 40
    constant.CopyFrom(onnx.numpy_helper.from_array(weight, name))
    return proto.SerializeToString()


def test_one_changed_weight_is_detected(decoder: bytes) -> None:
    tokens = np.random.default_rng(1).integers(0, 2048, (1, 6, 6)).astype(np.int32)
    expected = IntegerReference(decoder).run(tokens)
    detected = 0
    for channel in range(8):
        changed = with_one_weight_changed(decoder, channel)
        detected += bool((run_onnxruntime(changed, tokens, True, 1) != expected).any())
    # A weight on a channel that these tokens leave silent cannot show; most are not.
    assert detected >= 5


def test_one_wrong_scale_is_detected(decoder: bytes) -> None:
    proto = onnx.load_model_from_string(decoder)
    constants = {c.name: c for c in proto.graph.initializer}
    last = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"][-1]
    scale = constants[last.input[1]]
    wrong = onnx.numpy_helper.from_array(np.float32(2.0**-6), "wrong_scale")
    proto.graph.initializer.append(wrong)
    assert onnx.numpy_helper.to_array(scale) != np.float32(2.0**-6)
    last.input[1] = "wrong_scale"
    tokens = np.random.default_rng(1).integers(0, 256, (1, 4, 4)).astype(np.int32)
    found = run_onnxruntime(proto.SerializeToString(), tokens, True, 1)
    assert (found != IntegerReference(decoder).run(tokens)).any()


def test_a_scale_that_is_no_power_of_two_is_refused(decoder: bytes) -> None:
    from edge_codec.errors import EngineError

    proto = onnx.load_model_from_string(decoder)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.01), "wrong_scale"))
    nodes = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    nodes[0].input[1] = "wrong_scale"
    reference = IntegerReference(proto.SerializeToString())
    with pytest.raises(EngineError, match="power of two"):
        reference.run(np.zeros((1, 1, 1), np.int32))


def test_manifest_describes_the_networks(encoder: bytes, decoder: bytes) -> None:
    manifest = load_manifest(ModelId.VQVAE)
    tokens = encode(encoder, synthetic_frame(64, 64))
    assert tokens.max() < manifest.n_codes
    assert sum(f.stat().st_size for f in Path(manifest.folder).iterdir()) < 8 << 20


def test_shift_rounds_half_to_even() -> None:
    q = np.array([-6, -5, -2, -1, 0, 1, 2, 3, 5, 6, 7, 10])
    assert shift_half_even(q, 2).tolist() == np.rint(q / 4).astype(int).tolist()
    assert shift_half_even(q, -3).tolist() == (q * 8).tolist()
    assert shift_half_even(q, 0).tolist() == q.tolist()

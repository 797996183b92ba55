"""Custom nodes: one file runs everywhere, and gives what the torch op gives."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from rtx_build import build  # noqa: E402
from tiny_networks import float_onnx, random_input  # noqa: E402

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export.custom_ops import (  # noqa: E402
    NODES,
    PLUGIN_ATTRIBUTES,
    add_functions,
    inline_functions,
    strip_functions,
    translations,
)
from edge_codec.export.float_zoo import Network  # noqa: E402
from edge_codec.export.fp16 import to_float16  # noqa: E402
from edge_codec.export.graph import export_network  # noqa: E402
from edge_codec.kernels.dispatch import attention  # noqa: E402
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402

OPENVINO = importlib.util.find_spec("openvino") is not None
RTX = importlib.util.find_spec("tensorrt_rtx") is not None
needs_openvino = pytest.mark.skipif(not OPENVINO, reason="openvino is not installed")
needs_rtx = pytest.mark.skipif(not RTX, reason="tensorrt_rtx is not installed")


class Mixer(torch.nn.Module):
    """Self-attention, then attention to the first half of its result: both custom nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(32, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, 32) float to the same."""
        n, tokens, _ = x.shape
        heads = self.project(x).reshape(n, tokens, 3, 2, 16).permute(2, 0, 3, 1, 4)
        mixed = attention(heads[0], heads[1], heads[2])
        mask = (torch.arange(tokens) < tokens // 2)[None].expand(n, -1)
        mixed = attention(heads[1], mixed, mixed, mask)
        return mixed.transpose(1, 2).reshape(n, tokens, 32)


@cache
def mixer() -> tuple[torch.nn.Module, onnx.ModelProto]:
    torch.manual_seed(0)
    module = Mixer().eval()
    axes = {"x": {0: torch.export.Dim("n"), 1: torch.export.Dim("tokens")}}
    network = Network("mixer", module, {"x": torch.randn(2, 6, 32)}, axes, ("y",))
    return module, export_network(network)


def lookup_model(codes: np.ndarray) -> onnx.ModelProto:
    """A model of one lookup, of latents of the type of the codes."""
    kind = helper.np_dtype_to_tensor_dtype(codes.dtype)
    norms = 0.5 * np.square(codes.astype(np.float32)).sum(axis=1)
    node = helper.make_node(
        "CodebookLookup", ["x", "c", "n"], ["y"], domain="edge_codec", **PLUGIN_ATTRIBUTES
    )
    graph = helper.make_graph(
        [node],
        "lookup",
        [helper.make_tensor_value_info("x", kind, ["b", "h", "w", codes.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["b", "h", "w"])],
        [numpy_helper.from_array(codes, "c"), numpy_helper.from_array(norms, "n")],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("edge_codec", 1)]
    return add_functions(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def run_openvino(model: onnx.ModelProto, tensor: np.ndarray, hint: str) -> np.ndarray:
    from edge_codec.runtime.openvino_backend import OpenVinoEngine

    data = inline_functions(model.SerializeToString())
    return OpenVinoEngine(data, threads=1, precision=hint).run(tensor)


def backends(model: onnx.ModelProto, tensor: np.ndarray) -> dict[str, np.ndarray]:
    data = model.SerializeToString()
    found = {f"ort {o}": OrtEngine(data, 1, optimize=o).run(tensor) for o in (False, True)}
    if OPENVINO:
        found["openvino"] = run_openvino(model, tensor, "f32")
    return found


def tied_codes(n_codes: int, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents, codes of which each is there three times, and the lowest index of the nearest."""
    rng = np.random.default_rng(n_codes)
    once = rng.integers(-3, 4, (n_codes, 8))
    codes = np.concatenate([once] * 3)
    latents = rng.integers(-3, 4, (2, 11, 7, 8))
    distances = np.square(latents[..., None, :] - codes).sum(axis=-1)
    return latents.astype(dtype), codes.astype(dtype), distances.argmin(axis=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n_codes", [1, 7, 300])
def test_the_lowest_index_wins_a_tie_on_every_backend(n_codes: int, dtype: type) -> None:
    latents, codes, expected = tied_codes(n_codes, dtype)
    for backend, found in backends(lookup_model(codes), latents).items():
        assert found.dtype == np.int32
        assert np.array_equal(found, expected), backend


@needs_openvino
@pytest.mark.parametrize("hint", ["bf16", "f16"])
def test_the_lowest_index_wins_a_tie_at_openvinos_lower_precisions(hint: str) -> None:
    latents, codes, expected = tied_codes(64, np.float32)  # small integers: exact in 8 bits
    assert np.array_equal(run_openvino(lookup_model(codes), latents, hint), expected)


@pytest.mark.parametrize("tokens", [1, 6, 37])
def test_exported_attention_is_the_torch_ops(tokens: int) -> None:
    module, model = mixer()
    x = torch.randn(3, tokens, 32, generator=torch.Generator().manual_seed(tokens))
    with torch.no_grad():
        expected = module(x).numpy()
    names = [node.op_type for node in model.graph.node if node.domain == "edge_codec"]
    assert names == ["ShortAttention", "MaskedShortAttention"]
    for backend, found in backends(model, x.numpy()).items():
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6, err_msg=backend)


def test_attention_cast_to_float16_keeps_its_softmax() -> None:
    _, model = mixer()
    x = np.random.default_rng(0).standard_normal((2, 50, 32)).astype(np.float32)
    exact = OrtEngine(model.SerializeToString(), 1).run(x)
    half = to_float16(model)
    assert half.functions == model.functions
    found = OrtEngine(half.SerializeToString(), 1, optimize=False).run(x)
    # Eleven bits at each of a handful of roundings.
    assert 0 < np.abs(found - exact).max() < 8 * 2**-11 * np.abs(exact).max()


def test_without_a_visible_key_attention_is_zero() -> None:
    nodes = [helper.make_node("MaskedShortAttention", list("qkvm"), ["y"], domain="edge_codec")]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 16]) for n in "qkv"]
    inputs.append(helper.make_tensor_value_info("m", TensorProto.BOOL, [1, 4]))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 16])
    graph = helper.make_graph(nodes, "masked", inputs, [output])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("edge_codec", 1)]
    model = add_functions(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    import onnxruntime

    rng = np.random.default_rng(0)
    values = {n: rng.standard_normal((1, 1, 4, 16)).astype(np.float32) for n in "qkv"}
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {**values, "m": np.zeros((1, 4), bool)})[0]
    assert not found.any()


@needs_rtx
@pytest.mark.parametrize("half", [False, True])
def test_rtx_builds_the_same_files(half: bool) -> None:
    models = {"tokens": float_onnx("tokens"), "mixer": mixer()[1]}
    if half:
        models = {name: to_float16(model) for name, model in models.items()}
    frames = ((1, 1, 8, 8), (1, 1, 64, 64), (2, 1, 128, 128))
    assert build(models["tokens"].SerializeToString(), {"frame": frames}) > 10_000
    sizes = ((1, 2, 32), (1, 64, 32), (2, 128, 32))
    assert build(models["mixer"].SerializeToString(), {"x": sizes}) > 10_000


def test_stripped_nodes_are_left_for_the_plugins() -> None:
    model = float_onnx("tokens")
    stripped = strip_functions(model)
    assert not stripped.functions
    assert len(model.functions) == 1
    assert stripped.graph == model.graph
    node = next(node for node in stripped.graph.node if node.domain == "edge_codec")
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert found == {"plugin_namespace": b"edge_codec", "plugin_version": b"1", "aot": 1}
    with pytest.raises(EngineError, match="CodebookLookup"):
        OrtEngine(stripped.SerializeToString(), 1)
    again = add_functions(stripped)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_functions_of_others_stay() -> None:
    other = helper.make_function(
        "theirs", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 19)],
    )  # fmt: skip
    model = onnx.ModelProto()
    model.CopyFrom(float_onnx("tokens"))
    model.functions.append(other)
    assert [f.name for f in strip_functions(model).functions] == ["Twice"]


def test_inlining_changes_no_result_and_leaves_plain_files_alone() -> None:
    frame = random_input("tokens", (1, 3, 2))
    model = float_onnx("tokens").SerializeToString()
    inlined = inline_functions(model)
    assert not onnx.load_model_from_string(inlined).functions
    assert np.array_equal(OrtEngine(inlined, 1).run(frame), OrtEngine(model, 1).run(frame))
    assert inline_functions(inlined) is inlined


def test_bodies_come_and_go_without_torch(tmp_path: Path) -> None:
    """A machine that only builds engines has no torch."""
    path = tmp_path / "tokens.onnx"
    onnx.save(float_onnx("tokens"), path)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['triton'] = None\n"
        "import onnx; from edge_codec.export.custom_ops import add_functions, strip_functions\n"
        "from edge_codec.export.fp16 import to_float16\n"
        f"model = to_float16(onnx.load({str(path)!r}))\n"
        "print(len(strip_functions(model).functions), len(add_functions(model).functions))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["0", "1"]


def test_a_node_without_a_body_is_refused() -> None:
    model = lookup_model(np.eye(4, 8, dtype=np.float32))
    model.graph.node[0].op_type = "Unknown"
    with pytest.raises(EngineError, match="edge_codec::Unknown"):
        add_functions(model)


def test_every_plugin_has_a_node_of_its_name() -> None:
    from edge_codec.kernels.plugin import NAMES

    assert set(NAMES) <= set(NODES)
    # TensorRT's parser would take it for the standard operator.
    assert not {name for name in NODES if onnx.defs.has(name)}


def test_every_torch_op_that_we_translate_has_a_node_for_each_form() -> None:
    assert set(NODES) == {"CodebookLookup", "ShortAttention", "MaskedShortAttention"}
    assert {str(op) for op in translations()} == {
        "edge_codec.codebook_lookup.default",
        "edge_codec.attention.default",
    }

"""TensorRT-RTX builds every network of the zoo on the CPU; what is refused, and with which words.

What this proves: TensorRT's parser and compiler take the networks for these GPUs, and run every
convolution in int8. What it cannot prove without a GPU: that an engine runs, and its integers.
"""

import re
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_codec.errors import EngineError
from edge_codec.export import engine_builder
from edge_codec.export.custom_ops import DOMAIN, PLUGIN_ATTRIBUTES, add_functions
from edge_codec.export.engine_builder import (
    build_engine,
    build_payload,
    plugin_target,
    prepare_network,
    read_network,
    tensorrt_onnx,
)
from edge_codec.export.trt_profile import Profile, frame_profile
from edge_codec.kernels.plugin import PluginTarget
from edge_codec.manifest import load_manifest
from edge_codec.runtime.engine_cache import EngineKey
from edge_codec.runtime.tensorrt_module import TensorRt, load_tensorrt
from edge_codec.spec import ModelId

NAMES = ("encoder", "decoder")


def zoo(name):
    return load_manifest(ModelId.VQVAE).read(f"{name}.onnx")


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine")
    return load_tensorrt(("tensorrt_rtx",))


def convolutions(engine):
    """Return (name, type of its input) of each convolution in the program of an RTX engine.

    The engine holds its program as text: `corrltn` is a convolution. The format is not documented;
    the version that writes it is pinned.
    """
    text = engine.decode("latin-1")
    types = dict(re.findall(r'tensor=\{[^\n]*? name="([^"]+)"[^\n]*? type=(\w+) \}', text))
    found = re.findall(r'corrltn=\{ name="([^"]+)" output=\{[^}]*\} input=\{"([^"]+)"', text)
    return [(name, types[source]) for name, source in found]


@pytest.mark.parametrize("capability", [86, 89, 120])
@pytest.mark.parametrize("name", NAMES)
def test_rtx_builds_the_zoo_in_int8(rtx, name, capability):
    proto = prepare_network(read_network(zoo(name)), "int8")
    engine = build_engine(proto, rtx, frame_profile(proto, 256, 256), capability=capability)
    expected = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    assert convolutions(engine) == [(conv, "int8") for conv in expected]
    assert b"tf32=0" in engine
    assert b"tf32=1" not in engine


def test_rtx_refuses_the_zoo_as_it_is(rtx):
    """The reason for `trt_network`: should this fail one day, it may go."""
    with pytest.raises(EngineError, match=r"refuses the network: .*UINT8"):
        build_engine(read_network(zoo("encoder")), rtx, Profile(), capability=86)


def float_network(width=8):
    """Return a float convolution whose inner type is that of its constants."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["frame", "weight"], ["y"], "conv", pads=[1] * 4),
            helper.make_node("Relu", ["y"], ["features"], "relu"),
        ],
        "test",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["n", 1, "h", width])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4, "h", width])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_rtx_builds_float_networks_in_float16(rtx):
    proto = prepare_network(float_network(), "fp16")
    engine = build_engine(proto, rtx, frame_profile(proto, 64, 64), capability=89)
    assert [kind for _, kind in convolutions(engine)] == ["half"]


def lookup_network():
    """Return a float network with a node of our own and its function body."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(50, 16)).astype(np.float32)
    constants = {"codes": codes, "norms": (codes**2).sum(1) / 2}
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["features"], ["latents"], "relu"),
            helper.make_node(
                "CodebookLookup",
                ["latents", "codes", "norms"],
                ["tokens"],
                "lookup",
                domain=DOMAIN,
                **PLUGIN_ATTRIBUTES,
            ),
        ],
        "test",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [5, 7, 16])],
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, [5, 7])],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return add_functions(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def test_rtx_runs_the_bodies_of_our_nodes(rtx):
    proto = prepare_network(lookup_network(), "fp16")
    key = EngineKey("00" * 32, "tensorrt_rtx", rtx.version, "1", "fp16", 89)
    assert plugin_target(proto, rtx, key) is None
    assert len(build_engine(proto, rtx, Profile(), capability=89)) > 1000


@pytest.mark.parametrize(
    ("version", "precision", "target"),
    [
        ("10.16.1.11", "fp16", PluginTarget(87, 92)),
        ("10.9.0", "fp16", PluginTarget(87, 92)),
        ("10.3.0", "fp16", None),
        ("10.16.1.11", "int8", None),
    ],
)
def test_plugins_where_there_can_be_some(version, precision, target):
    trt = TensorRt(SimpleNamespace(), "tensorrt", version)
    key = EngineKey("00" * 32, "tensorrt", version, "1", precision, 87, "Orin", "13.2")
    assert plugin_target(lookup_network(), trt, key) == target
    assert plugin_target(float_network(), trt, key) is None


def test_no_plugins_without_triton(monkeypatch, caplog):
    monkeypatch.setattr(engine_builder.importlib.util, "find_spec", lambda name: None)
    trt = TensorRt(SimpleNamespace(), "tensorrt", "10.16.1.11")
    key = EngineKey("00" * 32, "tensorrt", "10.16.1.11", "1", "fp16", 87, "Orin", "13.2")
    assert plugin_target(lookup_network(), trt, key) is None
    assert "no plugins, but slower standard operators" in caplog.text


def test_plugins_take_the_place_of_the_bodies(monkeypatch):
    calls, registered = [], []
    monkeypatch.setattr(engine_builder, "register_plugins", registered.append)
    trt = fake_tensorrt(FakeBuilder(calls))
    proto, target = lookup_network(), PluginTarget(87, 92)
    build_engine(proto, trt, Profile(), plugins=target)
    assert registered == [target]
    assert calls[0] == ("flags", 2 | 8)
    parsed = onnx.load_model_from_string(calls[1][1])
    assert [node.op_type for node in parsed.graph.node] == ["Relu", "CodebookLookup"]
    assert list(parsed.functions) == []
    assert len(proto.functions) == 1


def test_precision_must_fit_the_network():
    quantized = read_network(zoo("encoder"))
    with pytest.raises(EngineError, match="would give other integers"):
        prepare_network(quantized, "fp16")
    with pytest.raises(EngineError, match="not quantized; use --precision fp16"):
        prepare_network(float_network(), "int8")
    with pytest.raises(EngineError, match="precision 'fp8' is unknown; use int8 or fp16"):
        prepare_network(quantized, "fp8")


def test_the_profile_of_frames_and_of_tokens():
    frames = frame_profile(read_network(zoo("encoder")), 250, 300, batch=4)
    assert frames.shapes == {"frame": ((1, 1, 8, 8), (1, 1, 256, 304), (4, 1, 1024, 1024))}
    tokens = frame_profile(read_network(zoo("decoder")), 250, 300)
    assert tokens.shapes == {"tokens": ((1, 1, 1), (1, 32, 38), (1, 128, 128))}
    assert str(tokens) == "tokens 1x1x1 1x32x38 1x128x128"
    fixed = float_network()
    del fixed.graph.input[0].type.tensor_type.shape.dim[:]
    assert frame_profile(fixed, 8, 8) == Profile()


@pytest.mark.parametrize("sizes", [(0, 8, 1), (8, 1025, 1), (8, 8, 0), (8, 8, 257)])
def test_impossible_frames(sizes):
    with pytest.raises(EngineError, match="sides of 1 to 1024"):
        frame_profile(read_network(zoo("encoder")), *sizes)


def test_an_input_of_another_kind_has_no_profile():
    proto = float_network()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    with pytest.raises(EngineError, match="neither frames nor tokens"):
        frame_profile(proto, 8, 8)


@pytest.mark.parametrize("data", [b"", b"xx", b"\x08" * 99])
def test_what_is_no_onnx(data):
    with pytest.raises(EngineError, match="not a valid ONNX file"):
        read_network(data)


def test_shapes_that_do_not_fit(rtx):
    proto = prepare_network(read_network(zoo("decoder")), "int8")
    backwards = Profile({"tokens": ((1, 9, 9), (1, 8, 8), (1, 7, 7))})
    with pytest.raises(EngineError, match=r"shapes tokens .* are refused|builds no engine"):
        build_engine(proto, rtx, backwards, capability=86)


def test_targets_that_do_not_exist(rtx):
    proto = prepare_network(read_network(zoo("decoder")), "int8")
    with pytest.raises(EngineError, match=r"has no target sm_87, but 75, 80, 86, 89, 120"):
        build_engine(proto, rtx, frame_profile(proto, 64, 64), capability=87)


def test_a_key_is_all_that_a_build_needs(rtx):
    key = EngineKey("00" * 32, "tensorrt_rtx", rtx.version, "1", "int8", 86)
    assert len(convolutions(build_payload(zoo("decoder"), key))) == 7


def test_our_own_backend_has_no_float16():
    key = EngineKey("00" * 32, "triton", "", "1", "fp16", 86)
    with pytest.raises(EngineError, match="integer networks; use --precision int8"):
        build_payload(zoo("decoder"), key)


def test_onnx_runtimes_provider_gets_a_network_without_uint8_zero_points():
    graph = read_network(tensorrt_onnx(zoo("decoder"))).graph
    assert all(constant.data_type != TensorProto.UINT8 for constant in graph.initializer)


class FakeBuilder:
    """Records what TensorRT proper would be asked for."""

    def __init__(self, calls, plan=b"plan", known=True):
        self.calls, self.plan, self.known = calls, plan, known

    def create_network(self, flags):
        self.calls.append(("flags", flags))
        return "network"

    def create_builder_config(self):
        def create_timing_cache(data):
            self.calls.append(("timings", data))
            return SimpleNamespace(serialize=lambda: b"new timings")

        def set_timing_cache(cache, ignore_mismatch):
            assert not ignore_mismatch
            self.cache = cache

        return SimpleNamespace(
            clear_flag=lambda flag: self.calls.append(("clear", flag)),
            create_timing_cache=create_timing_cache,
            set_timing_cache=set_timing_cache,
            get_timing_cache=lambda: self.cache,
        )

    def build_serialized_network(self, network, config):
        return self.plan


def fake_tensorrt(builder):
    class Parser:
        num_errors = 2

        def __init__(self, network, sink):
            pass

        def parse(self, data):
            builder.calls.append(("parse", data))
            return builder.known

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: f"reason {index}")

    module = SimpleNamespace(
        ILogger=type(
            "Logger",
            (),
            {"Severity": SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)},
        ),
        Builder=lambda sink: builder,
        OnnxParser=Parser,
        BuilderFlag=SimpleNamespace(TF32="TF32"),
        NetworkDefinitionCreationFlag=SimpleNamespace(
            STRONGLY_TYPED=1, PREFER_AOT_PYTHON_PLUGINS=3
        ),
    )
    return TensorRt(module, "tensorrt", "10.16.1.11")


def test_tensorrt_is_asked_for_strong_types_and_keeps_its_timings(tmp_path):
    calls, timings = [], tmp_path / "new" / "timing.cache"
    trt = fake_tensorrt(FakeBuilder(calls))
    proto = float_network()
    assert build_engine(proto, trt, Profile(), timing_cache=timings) == b"plan"
    parsed = ("parse", proto.SerializeToString())
    assert calls == [("flags", 2), parsed, ("clear", "TF32"), ("timings", b"")]
    build_engine(proto, trt, Profile(), timing_cache=timings)
    assert calls[-1] == ("timings", b"new timings")


def test_timings_that_cannot_be_kept_cost_no_engine(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    trt = fake_tensorrt(FakeBuilder([]))
    path = tmp_path / "file" / "timing.cache"
    assert build_engine(float_network(), trt, Profile(), timing_cache=path) == b"plan"
    assert "timings are not kept" in caplog.text


def test_tensorrt_says_why():
    with pytest.raises(EngineError, match="refuses the network: reason 0; reason 1"):
        build_engine(float_network(), fake_tensorrt(FakeBuilder([], known=False)), Profile())
    with pytest.raises(EngineError, match="builds no engine: it gave no reason"):
        build_engine(float_network(), fake_tensorrt(FakeBuilder([], plan=None)), Profile())
    with pytest.raises(EngineError, match="--target this on the machine with sm_87"):
        build_engine(float_network(), fake_tensorrt(FakeBuilder([])), Profile(), capability=87)

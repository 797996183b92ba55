"""The TensorRT backend on a fake GPU, and TensorRT-RTX itself as far as it goes without one."""

import numpy as np
import pytest
from fake_tensorrt import FakeDevice, fake_tensorrt

from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.runtime.trt_backend import MAX_SHAPES, TensorRtEngine
from edge_codec.spec import ModelId

DECODER = load_manifest(ModelId.VQVAE).read("decoder.onnx")


def tokens(seed, *shape):
    return np.random.default_rng(seed).integers(0, 2048, shape).astype(np.int32)


def expected(tensor):
    return OrtEngine(DECODER, 1).run(tensor)


def test_frames_are_those_of_the_network():
    device = FakeDevice()
    trt = fake_tensorrt(device)
    engine = TensorRtEngine(DECODER, device, trt)
    for seed in range(3):
        tensor = tokens(seed, 1, 4, 5)
        found = engine.run(tensor)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected(tensor))
    assert engine.name == "tensorrt 10.16.1.11 Fake GPU"
    # The first frame runs by itself, the others are one launch of what was recorded.
    assert [graph.replays for graph in device.graphs] == [2]


def test_results_outlive_the_next_frame():
    device = FakeDevice()
    engine = TensorRtEngine(DECODER, device, fake_tensorrt(device))
    first, second = tokens(0, 1, 4, 5), tokens(1, 1, 4, 5)
    kept = engine.run(first)
    engine.run(second)
    np.testing.assert_array_equal(kept, expected(first))


def test_every_shape_has_its_own_graph_and_old_ones_go():
    device = FakeDevice()
    trt = fake_tensorrt(device)
    engine = TensorRtEngine(DECODER, device, trt)
    for rows in (*range(1, MAX_SHAPES + 2), 2, 1):
        tensor = tokens(rows, 1, rows, 3)
        np.testing.assert_array_equal(engine.run(tensor), expected(tensor))
    shapes = [context.shape[1] for context in trt.module.engines[0].contexts]
    assert shapes == [*range(1, MAX_SHAPES + 2), 1]


def test_without_graphs_it_says_so_and_runs(caplog):
    device = FakeDevice(can_record=False)
    engine = TensorRtEngine(DECODER, device, fake_tensorrt(device))
    for seed in range(2):
        tensor = tokens(seed, 1, 4, 5)
        np.testing.assert_array_equal(engine.run(tensor), expected(tensor))
    assert caplog.messages == [
        "tensorrt 10.16.1.11 Fake GPU runs without a CUDA graph: capture is not permitted"
    ]


@pytest.mark.parametrize("shape", [(1, 100, 3), (10, 3, 3), (1, 3), (1, 0, 3)])
def test_shapes_outside_of_the_profile(shape):
    device = FakeDevice()
    engine = TensorRtEngine(DECODER, device, fake_tensorrt(device))
    with pytest.raises(EngineError, match=r"from \(1, 1, 1\) to \(9, 99, 99\).*edge-codec build"):
        engine.run(tokens(0, *shape))
    assert device.allocated == 0


def test_another_dtype():
    device = FakeDevice()
    engine = TensorRtEngine(DECODER, device, fake_tensorrt(device))
    with pytest.raises(EngineError, match="takes int32, not int64"):
        engine.run(tokens(0, 1, 3, 3).astype(np.int64))


def test_an_engine_that_is_refused():
    device = FakeDevice()
    trt = fake_tensorrt(device, refuses="built for another version")
    with pytest.raises(EngineError, match=r"on Fake GPU: built for another version; build it"):
        TensorRtEngine(DECODER, device, trt)


def test_a_network_that_does_not_run():
    device = FakeDevice()
    engine = TensorRtEngine(DECODER, device, fake_tensorrt(device, fails=True))
    with pytest.raises(EngineError, match="does not run the network"):
        engine.run(tokens(0, 1, 3, 3))


def test_rtx_without_a_driver_says_what_is_missing():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine")
    from edge_codec.runtime.tensorrt_module import load_tensorrt

    trt = load_tensorrt(("tensorrt_rtx",))
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.\d.* does not load the engine on Fake"):
        TensorRtEngine(b"no engine", FakeDevice(), trt)

"""`--backend triton` through the whole codec, its GPU replaced by Triton's interpreter."""

import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("triton")
pytest.importorskip("onnx")

from edge_codec.bench.kernels.interpreter_device import InterpreterDevice, compile_nothing
from edge_codec.cine import Cine
from edge_codec.errors import EngineError
from edge_codec.export import engine_builder, gpu_engine, gpu_frame
from edge_codec.manifest import load_manifest
from edge_codec.runtime import gpu_pick
from edge_codec.runtime.arrays import decompress
from edge_codec.runtime.engine_cache import EngineCache
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import CompressOptions
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU that interprets kernels, and a builder without a compiler."""
    monkeypatch.setenv("EDGE_CODEC_CACHE", str(tmp_path))
    device = InterpreterDevice()
    monkeypatch.setattr(gpu_pick, "open_gpu", lambda: device)
    own = partial(gpu_engine.build_engine, compiler=compile_nothing)
    monkeypatch.setattr(engine_builder, "_build_own", lambda model, key: own(model, key.capability))
    built = partial(gpu_frame.build_model_file, compiler=compile_nothing)
    monkeypatch.setattr(gpu_frame, "build_model_file", built)
    # The comparison with the CPU on a sample is tested elsewhere, and slow here.
    monkeypatch.setattr(gpu_pick, "check_integers", lambda *_: None)
    return EngineCache(tmp_path)


class WrongBase:
    """A coder whose base frame is off by one voxel."""

    def __init__(self, coder):
        self._coder = coder

    def encode(self, samples, key):
        payload, base = self._coder.encode(samples, key)
        base[-1, -1] ^= not key
        return payload, base


@pytest.mark.slow
def test_a_gpu_whose_frames_are_wrong_is_refused(gpu, monkeypatch):
    right = gpu_pick.load_gpu_frames(load_manifest(ModelId.VQVAE))
    wrong = SimpleNamespace(coder=lambda spec: WrongBase(right.coder(spec)))
    monkeypatch.setattr(gpu_pick, "load_gpu_frames", lambda _: wrong)
    with pytest.raises(EngineError, match="the CPU decodes otherwise"):
        load_model(ModelId.VQVAE, backend="triton")


@pytest.mark.slow
@pytest.mark.parametrize("high", [900, 70_000])
def test_streams_of_the_gpu_are_decoded_by_the_cpu(gpu, high):
    voxels = np.random.default_rng(1).integers(0, high, (1, 2, 9, 10)).astype(np.int32)
    voxels[0, 0, 0, :2] = 0, high
    file = io.BytesIO()
    options = CompressOptions(ModelId.VQVAE, 0, backend="triton")
    encode_stream(Cine.from_array(voxels), file, options)
    assert np.array_equal(decompress(file.getvalue()).voxels, voxels)
    assert len(gpu.entries()) == 3  # encoder, decoder, whole frames


def test_the_file_of_frames_belongs_to_all_files_of_the_model(gpu):
    manifest = load_manifest(ModelId.VQVAE)
    key = gpu_pick.frame_key(manifest, 90)
    assert key.capability == 90
    for name in manifest.hashes:
        hashes = {**manifest.hashes, name: "0" * 64}
        other = gpu_pick.frame_key(type(manifest)(**{**fields(manifest), "hashes": hashes}), 90)
        assert other.model != key.model


def fields(manifest):
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}


def test_a_model_for_decoding_needs_no_file_of_frames(gpu):
    model = load_model(ModelId.VQVAE, backend="triton", decode_only=True)
    assert model.frame_encoder is None
    assert len(gpu.entries()) == 1

"""Whole frames through the GPU backend, on Triton's interpreter, against `VqvaeCoder`."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stub_cuda.stub import Stub, python

pytest.importorskip("torch")
pytest.importorskip("triton")
pytest.importorskip("onnx")

import gpu_samples
from frame_samples import CLUSTERS, frames, network, onnx_files, stream, token_model

from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.base.vqvae import VqvaeCoder, VqvaeModel
from edge_codec.bench.kernels.interpreter_device import InterpreterDevice, compile_nothing
from edge_codec.errors import EngineError, FrameError
from edge_codec.export.gpu_engine import build_engine
from edge_codec.export.gpu_frame import build_frame_file
from edge_codec.manifest import load_manifest
from edge_codec.runtime.gpu_archive import (
    Index,
    Members,
    read_archive,
    write_archive,
)
from edge_codec.runtime.gpu_frame import GpuVqvae, GpuVqvaeFrame, load_gpu_vqvae
from edge_codec.runtime.gpu_frame_file import (
    FORMAT,
    VERSION,
    read_frame_file,
    write_frame_file,
)
from edge_codec.runtime.integer_reference import IntegerReference
from edge_codec.runtime.models import load_model
from edge_codec.spec import ModelId, StreamSpec


@cache
def frame_file() -> bytes:
    return build_frame_file(*onnx_files(), network().codebook, token_model(), 90, compile_nothing)


def gpu_model(device: InterpreterDevice) -> GpuVqvae:
    file = read_frame_file(frame_file())
    return GpuVqvae(file, network().codebook, token_model(), device)


@cache
def cpu_model() -> VqvaeModel:
    encoder, decoder = (IntegerReference(model) for model in onnx_files())
    lookup = CodebookLookup(network().codebook, CLUSTERS, probes=CLUSTERS)
    return VqvaeModel(decoder, TokenCoder(token_model()), encoder, lookup)


# Four graphs: tokens go to either of two places, predicted from the other or not.
@pytest.mark.parametrize(
    ("size", "keys"), [((9, 13), (True, False, False, True)), ((1, 9), (False, False))]
)
def test_frames_are_those_of_the_cpu(size: tuple[int, int], keys: tuple[bool, ...]) -> None:
    spec = stream(*size)
    model = replace(cpu_model(), frame_encoder=gpu_model(InterpreterDevice()).coder)
    coder, expected, decoder = (VqvaeCoder(known, spec) for known in (model, *[cpu_model()] * 2))
    payloads = set()
    for number, (frame, key) in enumerate(zip(frames(spec, len(keys)), keys, strict=True)):
        payload, base = coder.encode(frame, number, key)
        known_payload, known_base = expected.encode(frame, number, key)
        assert payload == known_payload
        assert base.dtype == np.uint32
        np.testing.assert_array_equal(base, known_base)
        np.testing.assert_array_equal(base, decoder.decode(payload, number, key or number == 0))
        payloads.add(payload)
    assert len(payloads) == len(keys)


@pytest.mark.slow
def test_a_frame_of_the_zoo_is_that_of_the_cpu() -> None:
    manifest, spec = load_manifest(ModelId.VQVAE), stream(8, 15)
    codebook = np.load(io.BytesIO(manifest.read("codebook.npy")))
    tokens = load_token_model(manifest.read("token_model.npz"))
    networks = manifest.read("encoder.onnx"), manifest.read("decoder.onnx")
    data = build_frame_file(*networks, codebook, tokens, 90, compile_nothing)
    coder = load_gpu_vqvae(data, manifest, InterpreterDevice()).coder(spec)
    known = replace(
        load_model(ModelId.VQVAE, backend="onnxruntime", threads=1),
        lookup=CodebookLookup(codebook, tokens.n_clusters, probes=tokens.n_clusters),
    )
    frame = frames(spec, 1)[0]
    payload, base = coder.encode(frame, True)
    known_payload, known_base = VqvaeCoder(known, spec).encode(frame, 0, True)
    assert payload == known_payload
    np.testing.assert_array_equal(base, known_base)


def test_slices_do_not_see_each_other_and_frames_allocate_nothing() -> None:
    spec = stream(8, 8)
    device = InterpreterDevice()
    model = gpu_model(device)
    frame = frames(spec, 1)[0]
    first = model.coder(spec)
    alone, _ = first.encode(frame, False)
    second = model.coder(spec)
    for place in second._tokens:  # whatever lies there is no previous frame
        device.upload(np.zeros(1, np.int32), place)
    assert second.encode(frame, False)[0] == alone
    allocations = device.allocations
    predicted, _ = first.encode(frame, False)
    assert device.allocations == allocations
    assert predicted != alone
    assert predicted == TokenCoder(token_model()).encode(*[tokens_of(frame, spec)] * 2)


def tokens_of(frame: NDArray[np.uint32], spec: StreamSpec) -> NDArray[np.uint16]:
    payload, _ = VqvaeCoder(cpu_model(), spec).encode(frame, 0, True)
    rows, columns = (-(-side // 8) for side in spec.info.frame_shape)
    return TokenCoder(token_model()).decode(payload, rows, columns, None)


@pytest.fixture(scope="module")
def coder() -> GpuVqvaeFrame:
    return gpu_model(InterpreterDevice()).coder(stream(8, 9))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((9, 8), np.uint32),
        np.zeros((8, 9), np.uint16),
        np.zeros((1, 8, 9), np.uint32),
        np.full((8, 9), 4101, np.uint32),
        np.full((8, 9), 1 << 16, np.uint32),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    coder: GpuVqvaeFrame, frame: NDArray[np.uint32]
) -> None:
    with pytest.raises(FrameError):
        coder.encode(frame, True)


def test_more_than_16_bits_are_refused() -> None:
    model = gpu_model(InterpreterDevice())
    model.coder(stream(8, 8, low=-5, high=65530))
    with pytest.raises(EngineError, match="samples span 65537 values"):
        model.coder(stream(8, 8, low=-5, high=65531))


def test_a_file_is_written_as_it_was_read() -> None:
    assert write_frame_file(read_frame_file(frame_file())) == frame_file()


def changed(kernel: str, **fields: object) -> bytes:
    """The file with another kernel, its hashes right."""

    def rewrite(index: Index, members: Members) -> bytes:
        index["kernels"][kernel].update(fields)
        return write_archive(FORMAT, VERSION, index, members)

    return read_archive(FORMAT, VERSION, frame_file(), rewrite)


@pytest.mark.parametrize(
    "fields",
    [
        {"function": "os:system"},
        {"arguments": ["*i32"]},
        {"arguments": None},
        {"num_warps": -1},
        {"shared_bytes": 1.5},
        {"constants": {"DIM": "4"}},
        {"constants": []},
        {"constants": {"BLOCK_M": 0, "BLOCK_N": 64}},
        {"constants": {"BLOCK_M": 32}},
    ],
)
def test_altered_kernels_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="build the engine file again"):
        read_frame_file(changed("nearest", **fields))


@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        ("nearest", {"DIM": 8}),
        ("nearest", {"SHORT": True}),
        ("rates_key", {"CLUSTERS": 32}),
        ("rates_predicted", {"PREDICTED": False}),
        ("rans", {"LANES": 2}),
    ],
)
def test_kernels_of_another_model_are_refused(kernel: str, constants: dict[str, int]) -> None:
    known = read_frame_file(frame_file()).kernels[kernel].constants
    file = read_frame_file(changed(kernel, constants={**known, **constants}))
    with pytest.raises(EngineError, match=f"kernel '{kernel}' was compiled for"):
        GpuVqvae(file, network().codebook, token_model(), InterpreterDevice())


def test_another_codebook_is_refused() -> None:
    file = read_frame_file(frame_file())
    for codebook in (network().codebook[1:], network().codebook.astype(np.int16)):
        with pytest.raises(EngineError, match="the codebook is"):
            GpuVqvae(file, codebook, token_model(), InterpreterDevice())


def test_another_architecture_is_refused() -> None:
    with pytest.raises(EngineError, match="sm_90"):
        gpu_model(InterpreterDevice(capability=120))
    file = replace(read_frame_file(frame_file()), capability=120)
    with pytest.raises(EngineError, match="sm_120"):
        GpuVqvae(file, network().codebook, token_model(), InterpreterDevice())


def test_networks_that_were_exchanged_are_refused() -> None:
    file = read_frame_file(frame_file())
    exchanged = replace(file, encoder=file.decoder, decoder=file.encoder)
    with pytest.raises(EngineError, match="no encoder and decoder"):
        exchanged.engines()


def test_networks_of_another_model_are_refused() -> None:
    file = read_frame_file(frame_file())
    other = build_engine(gpu_samples.decoder(), 90, compile_nothing)
    with pytest.raises(EngineError, match=r"24, .*not .*256"):
        GpuVqvae(
            replace(file, decoder=other), network().codebook, token_model(), InterpreterDevice()
        )


def test_a_file_without_a_kernel_is_refused() -> None:
    def without(index: Index, members: Members) -> bytes:
        del index["kernels"]["rans"]
        return write_archive(FORMAT, VERSION, index, members)

    with pytest.raises(EngineError, match="damaged"):
        read_frame_file(read_archive(FORMAT, VERSION, frame_file(), without))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    whole = frame_file()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = whole[:place]
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EngineError):
        read_frame_file(cut)
    try:  # what is flipped in the archive's own fields may be without consequence
        file = read_frame_file(bytes(flipped))
    except EngineError:
        return
    assert write_frame_file(file) == whole


def test_a_small_codebook_is_refused() -> None:
    with pytest.raises(EngineError, match="a codebook of 63 codes"):
        build_frame_file(*onnx_files(), network().codebook[:63], token_model(), 90, compile_nothing)


@pytest.mark.slow
def test_machine_code_takes_what_a_frame_passes(tmp_path: Path) -> None:
    """On the stub driver, which compares every launch with the machine code and runs nothing."""
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is missing")
    python("frame_file.py", str(tmp_path))
    stub = Stub(tmp_path, tmp_path)
    seen = stub.run("whole_frame")
    # No kernel has run: what comes down is what lay there.
    assert "the GPU gives a payload of -1515870811 bytes in a slot of 20" in seen["said"]
    assert stub.violations() == []
    start = stub.log.index("graph of 15 in 2 branches") + 1
    work = [" ".join(line.split()[: 2 if "launch" in line else 1]) for line in stub.log[start:]]
    assert work[:15] == [
        "upload",
        f"launch {seen['normalize']}",
        *(f"launch {symbol}" for symbol in seen["encoder"]),
        f"launch {seen['nearest']}",
        *(f"launch {symbol}" for symbol in seen["decoder"]),
        f"launch {seen['denormalize']}",
        "download",
        f"launch {seen['rates_key']}",
        f"launch {seen['rans']}",
        *("download", "download"),
    ]

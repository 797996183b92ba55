"""Whole frames, host to host: the payload and the base frame of the CPU, and how long they take."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_proof.devices import INTERPRETED, open_device, own_engine
from benchmarks.gpu_proof.section import Row, Setting
from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import load_token_model
from edge_codec.base.vqvae import VqvaeCoder, VqvaeModel
from edge_codec.errors import EngineError
from edge_codec.export.gpu_frame import build_frame_file
from edge_codec.manifest import Manifest, load_manifest
from edge_codec.runtime.device import Device
from edge_codec.runtime.gpu_frame import GpuVqvae, load_gpu_vqvae
from edge_codec.runtime.models import load_model
from edge_codec.spec import CineInfo, ModelId, StreamSpec

SIZES = ((256, 256), (95, 100), (512, 512))
SMALL = ((8, 15),)
COMPARED = 40
COMPARED_SMALL = 2
RUNS = 2000
WARM_UP = 50
KEY_INTERVAL = 32
HIGH = 2000
NOISE = 12.0


def section(setting: Setting) -> Iterator[Row]:
    """Yield how frames agree, and the time of one frame at a time."""
    manifest = load_manifest(ModelId.VQVAE)
    device = open_device(setting)
    gpu = load_gpu_vqvae(_file(manifest, device, setting), manifest, device)
    cpu = _cpu_model(manifest)
    on_gpu = replace(cpu, decoder=own_engine(manifest.read("decoder.onnx"), setting))
    on_gpu = replace(on_gpu, frame_encoder=gpu.coder)
    rng = np.random.default_rng(setting.seed)
    for size in SMALL if setting.interpret else SIZES:
        spec = _spec(size)
        count = COMPARED_SMALL if setting.interpret else COMPARED
        _compare(cpu, gpu, spec, rng, count)
        yield {"frames": "x".join(map(str, size)), "compared": count, "mismatches": 0}
        if not setting.interpret:
            yield from _time(on_gpu, spec, rng)


def _file(manifest: Manifest, device: Device, setting: Setting) -> bytes:
    """Build the file of whole frames for a device."""
    codebook = np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False)
    tokens = load_token_model(manifest.read("token_model.npz"))
    networks = manifest.read("encoder.onnx"), manifest.read("decoder.onnx")
    if setting.interpret:
        from edge_codec.bench.kernels.interpreter_device import compile_nothing

        return build_frame_file(*networks, codebook, tokens, INTERPRETED, compile_nothing)
    return build_frame_file(*networks, codebook, tokens, device.capability)


def _cpu_model(manifest: Manifest) -> VqvaeModel:
    """Load the model on the CPU, with a search of all codes, as the GPU's is."""
    model = load_model(ModelId.VQVAE, backend="onnxruntime")
    if model is None:
        raise EngineError("the zoo has no vqvae")
    codebook = np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False)
    return replace(model, lookup=CodebookLookup(codebook, clusters=64, probes=64))


def _spec(size: tuple[int, int]) -> StreamSpec:
    info = CineInfo(1, RUNS, *size, dtype=np.dtype(np.uint16))
    return StreamSpec(info, low=0, high=HIGH, window_low=5, window_high=1500)


def _frame(rng: np.random.Generator, spec: StreamSpec, phase: int) -> NDArray[np.uint32]:
    """Make a beating ring with noise: neither flat nor the same twice."""
    rows, columns = spec.info.frame_shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    radius = np.hypot(y, 1.2 * x)
    inner = 0.35 + 0.1 * np.cos(2 * np.pi * phase / 25)
    image = 300 + 900 * (radius < inner) + 250 * (radius < inner + 0.15)
    noisy = image + rng.normal(0, NOISE, image.shape)
    return np.clip(np.rint(noisy), 0, HIGH).astype(np.uint32)


def _compare(
    cpu: VqvaeModel, gpu: GpuVqvae, spec: StreamSpec, rng: np.random.Generator, count: int
) -> None:
    """Encode frames on both, key and predicted ones.

    Raises
    ------
    EngineError
        If a byte or a voxel differs.
    """
    on_cpu, on_gpu = VqvaeCoder(cpu, spec), gpu.coder(spec)
    for phase in range(count):
        frame = _frame(rng, spec, phase)
        expected = on_cpu.encode(frame, phase, phase % 4 == 0)
        found = on_gpu.encode(frame, phase % 4 == 0)
        if expected[0] != found[0] or (expected[1] != found[1]).any():
            raise EngineError(f"frame {phase} of {frame.shape} differs between CPU and GPU")


def _time(model: VqvaeModel, spec: StreamSpec, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the time to encode and to decode a frame; tokens are decoded by the CPU."""
    encoder, decoder = VqvaeCoder(model, spec), VqvaeCoder(model, spec)
    frames = [_frame(rng, spec, phase) for phase in range(25)]
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    for number in range(WARM_UP + RUNS):
        key = number % KEY_INTERVAL == 0
        start = time.perf_counter()
        payload, _ = encoder.encode(frames[number % len(frames)], number, key)
        middle = time.perf_counter()
        decoder.decode(payload, number, key)
        end = time.perf_counter()
        times["encode"].append(1e3 * (middle - start))
        times["decode"].append(1e3 * (end - middle))
    for what, found in times.items():
        ms = np.percentile(found[WARM_UP:], [50, 90, 99, 99.9, 100])
        yield {
            "frames": "x".join(map(str, spec.info.frame_shape)),
            "what": what,
            "n": RUNS,
            "ms": dict(zip(("p50", "p90", "p99", "p99_9", "max"), map(float, ms), strict=True)),
            "frames_per_s": 1e3 / float(np.mean(found[WARM_UP:])),
        }

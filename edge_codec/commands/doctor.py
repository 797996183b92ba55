"""`edge-codec doctor`: what this machine can do, and what to install for more."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np

from edge_codec import __version__
from edge_codec.commands.report import show
from edge_codec.errors import EdgeCodecError, EngineError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.spec import ModelId

# What may be missing -> what installs it and what it gives.
OPTIONAL = {
    "av": "pip install 'edge-codec[video]': the base layer of model video",
    "openvino": "pip install 'edge-codec[openvino]': another backend for x86-64 CPUs",
    "pylibjpeg": "pip install 'edge-codec[dicom]': compressed DICOM",
    "torch": "pip install 'edge-codec[train]': training and export",
    "triton": "pip install 'edge-codec[kernels]': building engines for NVIDIA GPUs",
}
REPEATS = 20


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Look, try the networks on every backend, and print."""
    from edge_codec.runtime.native_backend import levels
    from edge_codec.runtime.pick import available, default_threads
    from edge_codec.spec import ModelId

    fields: dict[str, object] = {
        "edge_codec": __version__,
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads_per_frame": default_threads(),
        "native_coders": _try_native(ModelId.NONE),
        "dwt_cal": _try_native(ModelId.DWT_CAL),
        "native_engine": f"int8 with {', '.join(levels())}",
    }
    for package in ("numpy", "onnxruntime", "nibabel", "pydicom", *OPTIONAL):
        fields[package] = _version(package)
    gpu_fields, gpu_backends = _look_for_gpu()
    fields |= gpu_fields
    healthy, fields["segmentation"] = _try_segmenter()
    for backend in (*available(), *gpu_backends):
        try:
            agrees, milliseconds = _try_backend(backend)
        except (EdgeCodecError, ImportError) as error:
            fields[f"vqvae_on_{backend}"] = f"fails: {error}"
            healthy = False
            continue
        healthy &= agrees
        verdict = "bits right" if agrees else "BITS WRONG, do not use this backend"
        fields[f"vqvae_on_{backend}"] = f"{milliseconds:.1f} ms to synthesize 256x256, {verdict}"
    show(fields, options, console)
    if not options.json:
        print("weights: non-commercial research use only, CC BY-NC-SA 4.0", file=console.out)
    return ExitStatus.OK if healthy else ExitStatus.ENGINE


def _look_for_gpu() -> tuple[dict[str, object], tuple[str, ...]]:
    """Return what there is for GPUs, and the backends that have an engine for this one."""
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.engine_cache import EngineCache, cache_folder
    from edge_codec.runtime.gpu_pick import built_backends, open_gpu
    from edge_codec.runtime.tensorrt_module import load_tensorrt
    from edge_codec.spec import ModelId

    fields: dict[str, object] = {}
    backends: tuple[str, ...] = ()
    try:
        device = open_gpu()
        fields["gpu"] = f"{device.name}, sm_{device.capability}"
        fields["cuda_driver"] = device.driver
        backends = built_backends(load_manifest(ModelId.VQVAE).read("decoder.onnx"))
    except EngineError as error:
        fields["gpu"] = f"none: {error}"
    try:
        fields["tensorrt"] = load_tensorrt().name
    except EngineError as error:
        fields["tensorrt"] = f"missing: {error}"
    folder = cache_folder()
    fields["engine_folder"] = str(folder)
    for path, found in EngineCache(folder).entries():
        fields[path.name] = found if isinstance(found, str) else found.summary
    return fields, backends


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"missing; {OPTIONAL.get(package, f'pip install {package}')}"


def _try_backend(backend: str) -> tuple[bool, float]:
    """Return whether the decoder makes the manifest's frame, and the median time in ms."""
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.gpu_pick import load_gpu_engine
    from edge_codec.runtime.pick import GPU_BACKENDS, load_engine
    from edge_codec.spec import ModelId

    manifest = load_manifest(ModelId.VQVAE)
    network = manifest.read("decoder.onnx")
    if backend in GPU_BACKENDS:
        decoder = load_gpu_engine(network, backend, build=False)
    else:
        decoder = load_engine(network, backend)
    tokens = np.arange(1024, dtype=np.int32).reshape(1, 32, 32)
    agrees = zlib.crc32(decoder.run(tokens).tobytes()) == manifest.check
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        decoder.run(tokens)
        times.append(time.perf_counter() - start)
    return agrees, 1e3 * float(np.median(times))


def _try_native(model: ModelId) -> str:
    """Return how long the C coders take for two frames, after checking what they decode."""
    from edge_codec.codec import Decoder, Encoder
    from edge_codec.runtime.models import load_model
    from edge_codec.runtime.phantom import heart
    from edge_codec.spec import CineInfo, StreamSpec

    frames = heart(2, 256, 256, np.dtype(np.int16))
    info = CineInfo(1, len(frames), 256, 256, dtype=frames.dtype)
    spec = StreamSpec(info, low=0, high=int(frames.max()), model=model)
    start = time.perf_counter()
    encoder = Encoder(spec, load_model(model))
    packets = [encoder.push(frame) for frame in frames]
    milliseconds = 1e3 * (time.perf_counter() - start) / len(frames)
    decoder = Decoder(spec, load_model(model, decode_only=True))
    if not all(map(np.array_equal, map(decoder.push, packets), frames)):
        raise EngineError("the native coders do not give back what they coded; reinstall")
    return f"lossless frame of 256x256 in {milliseconds:.1f} ms, decoded right"


def _try_segmenter() -> tuple[bool, str]:
    """Return whether the segmentation network gives the manifest's integers, and a verdict."""
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.phantom import heart
    from edge_codec.runtime.segmenter import MODEL, exam_window, load_segmenter

    segmenter = load_segmenter()
    agrees = segmenter.probe() == load_manifest(MODEL).check
    frame = heart(1, 256, 256, np.dtype(np.int16))[0]
    window = exam_window(frame)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        segmenter.frame(frame, window)
        times.append(time.perf_counter() - start)
    verdict = "bits right" if agrees else "BITS WRONG, do not use it"
    return agrees, f"frame of 256x256 in {1e3 * float(np.median(times)):.1f} ms, {verdict}"

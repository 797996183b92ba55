"""`edge-codec build`: engines for a GPU, from the networks of the zoo or any ONNX file."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_codec.commands.coding_options import positive
from edge_codec.commands.report import add_output_options, progress
from edge_codec.errors import EngineError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console
    from edge_codec.runtime.engine_cache import EngineKey

TARGETS = (80, 86, 87, 89, 90, 100, 110, 120)
"""Compute capabilities times ten: A100, RTX 30, Orin, RTX 40, H100/H200, B200, Thor, RTX 50."""

Step = Callable[[], "tuple[EngineKey, bytes]"]

COLUMNS = ("network", "backend", "precision", "target", "bytes", "seconds", "file")


@dataclass(frozen=True, slots=True)
class Target:
    """What to build for.

    Attributes
    ----------
    capability : int
    device : StreamDevice or None
        The GPU of this machine, if that is the target.
    """

    capability: int
    device: Any = None


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = "|".join(f"sm{target}" for target in TARGETS)
    parser.add_argument(
        "--target",
        default="this",
        metavar=f"this|{names}",
        help="the GPU of this machine, or a kind of GPU: Jetson Orin is sm87, Thor sm110",
    )
    parser.add_argument(
        "--backend",
        default="triton",
        metavar="triton|tensorrt",
        help="our own kernels, for any target (needs edge-codec[kernels]), or TensorRT, for this "
        "machine; TensorRT-RTX builds for other RTX GPUs, too",
    )
    parser.add_argument("--model", default="vqvae", metavar="vqvae|FILE.onnx", help="what to build")
    parser.add_argument(
        "--precision",
        default="int8",
        metavar="int8|fp16",
        help="int8 takes quantized networks as they are; fp16 casts float ones (TensorRT only)",
    )
    parser.add_argument(
        "--shape",
        default="256x256",
        metavar="ROWSxCOLUMNS",
        help="frame size that TensorRT is to be fast for; others run, too",
    )
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="most frames at a time (TensorRT)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder, or FILE.engine for one network; without it the engines go to the cache, "
        "where --backend and auto find them",
    )
    parser.add_argument("--force", action="store_true", help="overwrite engines in --out")
    add_output_options(parser)


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Build and list what was built."""
    shape = _shape(options.shape)
    networks = _networks(options.model)
    if options.out is not None and options.out.suffix == ".engine" and len(networks) > 1:
        raise EngineError(
            f"{options.model} is {len(networks)} networks and {options.out} one file; give a folder"
        )
    target = _target(options.target)
    steps: dict[str, Step] = {
        name: partial(_compile, model, target, shape, options) for name, model in networks.items()
    }
    if options.backend == "triton" and not options.model.endswith(".onnx"):
        steps["frames"] = partial(_compile_frames, options.model, target)
    rows = [
        _build(name, step, options)
        for name, step in progress(options, console, "engine")(steps.items(), len(steps), "build")
    ]
    if options.json:
        print(json.dumps({"engines": rows}, indent=1), file=console.out)
    else:
        _print_table(rows, console)
    return ExitStatus.OK


def _networks(model: str) -> dict[str, bytes]:
    """Return ONNX files by name."""
    if model.endswith(".onnx"):
        path = Path(model)
        if not path.is_file():
            raise EngineError(f"{path} is no file; give an ONNX file or the name of a model")
        return {path.stem: path.read_bytes()}
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.options import parse_model
    from edge_codec.spec import ModelId

    chosen = parse_model(model)
    if chosen is not ModelId.VQVAE:
        raise EngineError(f"the model '{chosen.label}' has no networks; use --model vqvae")
    manifest = load_manifest(chosen)
    names = [name for name in manifest.hashes if name.endswith(".onnx")]
    return {Path(name).stem: manifest.read(name) for name in names}


def _target(name: str) -> Target:
    if name == "this":
        from edge_codec.runtime.cuda_device import open_cuda_device

        try:
            device = open_cuda_device()
        except EngineError as error:
            raise EngineError(
                f"{error}; name the target, for example --target sm87, to build for a GPU that is "
                "not here"
            ) from error
        return Target(device.capability, device)
    found = re.fullmatch(r"sm_?(\d+)", name)
    if found is None or int(found.group(1)) not in TARGETS:
        known = ", ".join(f"sm{target}" for target in TARGETS)
        raise EngineError(f"target '{name}' is unknown; use this, {known}")
    return Target(int(found.group(1)))


def _build(name: str, step: Step, options: argparse.Namespace) -> dict[str, Any]:
    """Build one engine, write it, and return its row of the table."""
    start = time.perf_counter()
    key, payload = step()
    seconds = time.perf_counter() - start
    path = _write(key, payload, options)
    target_name = f"sm{key.capability}" + (f" ({key.gpu})" if key.gpu else "")
    values = (name, key.backend, key.precision, target_name, len(payload), seconds, str(path))
    return dict(zip(COLUMNS, values, strict=True))


def _compile(
    model: bytes, target: Target, shape: tuple[int, int], options: argparse.Namespace
) -> tuple[EngineKey, bytes]:
    try:
        from edge_codec.export.engine_builder import build_payload, read_network
        from edge_codec.export.trt_profile import frame_profile
    except ImportError as error:
        raise _missing(error) from error
    from edge_codec.runtime.gpu_pick import engine_key

    profile = frame_profile(read_network(model), *shape, options.batch)
    backend, trt = _backend(options.backend, target)
    key = replace(
        engine_key(model, backend, target.capability, trt, target.device),
        precision=options.precision,
        profile="" if trt is None else str(profile),
    )
    return key, build_payload(model, key, profile)


def _compile_frames(model: str, target: Target) -> tuple[EngineKey, bytes]:
    """Build what codes whole frames of a model."""
    try:
        from edge_codec.export.gpu_frame import build_model_file
    except ImportError as error:
        raise _missing(error) from error
    from edge_codec.manifest import load_manifest
    from edge_codec.runtime.gpu_pick import frame_key
    from edge_codec.runtime.options import parse_model

    manifest = load_manifest(parse_model(model))
    return frame_key(manifest, target.capability), build_model_file(manifest, target.capability)


def _missing(error: ImportError) -> EngineError:
    return EngineError(
        f"building needs packages that are not here ({error}); pip install 'edge-codec[kernels]'"
    )


def _shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise EngineError(f"shape '{text}' is not ROWSxCOLUMNS, for example 256x256")
    return int(found.group(1)), int(found.group(2))


def _backend(name: str, target: Target) -> tuple[str, Any]:
    """Return the name in the key, and the TensorRT that builds, if one does."""
    if name == "triton":
        return name, None
    if name != "tensorrt":
        raise EngineError(f"no engines are built for backend '{name}'; use triton or tensorrt")
    from edge_codec.runtime.tensorrt_module import FLAVORS, installed_flavors, load_tensorrt

    if target.device is None and "tensorrt_rtx" not in installed_flavors():
        raise EngineError(
            "TensorRT's engines are built on the machine that runs them: run edge-codec build "
            f"--target this --backend tensorrt on the one with sm{target.capability}; or use "
            "--backend triton; or, for RTX GPUs, pip install tensorrt-rtx-cu13"
        )
    trt = load_tensorrt(FLAVORS if target.device is not None else ("tensorrt_rtx",))
    return trt.flavor, trt


def _write(key: EngineKey, payload: bytes, options: argparse.Namespace) -> Path:
    from edge_codec.runtime.engine_cache import EngineCache, cache_folder, write_engine_file

    if options.out is None:
        return EngineCache(cache_folder()).keep(key, payload)
    path: Path = options.out
    if path.suffix != ".engine":
        path.mkdir(parents=True, exist_ok=True)
        path /= key.file_name
    write_engine_file(path, key, payload, force=options.force)
    return path


def _print_table(rows: list[dict[str, Any]], console: Console) -> None:
    texts = [COLUMNS, *(_texts(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), file=console.out)


def _texts(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values())

"""Time of `titok` on the CPU: the networks alone, the coding of tokens, whole frames.

    python -m benchmarks.bench_titok [--threads N] [--backend NAME] [--runs N] [--json FILE.jsonl]

`encode`: samples to payload without the picture that the next frame needs (canvas, encoder, nearest
codes, entropy coder): the part after which a packet could leave. `frame`: `encode` of the base
layer as streams run it, with that picture, both side by side on two threads. `decode`: payload to
samples, without refining. `refine`: all phases of a slice at once. Frames are those of a beating
phantom. `processor_time_p50` is what all threads together used, which a busy machine disturbs less
than the time that passed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.base.titok.canvas import canvas_of
from edge_codec.base.titok.conditions import ClinicalFacts
from edge_codec.base.titok.model import TitokModel
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.manifest import load_manifest
from edge_codec.runtime.float_network import FLOAT_BACKENDS
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import DecompressOptions
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.shared import share
from edge_codec.runtime.whole_slices import load_refinement
from edge_codec.spec import WINDOW_ONE, CineInfo, ModelId, StreamSpec
from edge_codec.window import Window

SIZES = ((256, 256), (128, 128))
PHASES = 20
WARM_UP = 6
FILES = ("encoder.onnx", "decoder.onnx", "codebook.npy", "token_model.npz", "refiner.onnx")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="threads for a frame")
    parser.add_argument("--backend", choices=FLOAT_BACKENDS, help="one alone")
    parser.add_argument("--runs", type=int, default=60, help="of each part")
    parser.add_argument("--json", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    manifest = load_manifest(ModelId.TITOK)
    common = {
        "version": manifest.version,
        "zoo_bytes": sum((manifest.folder / name).stat().st_size for name in FILES),
        "threads": options.threads,
    }
    machine = describe_machine()
    for backend in FLOAT_BACKENDS if options.backend is None else (options.backend,):
        model = load_model(ModelId.TITOK, backend=backend, threads=options.threads)
        if not isinstance(model, TitokModel):
            raise SystemExit("the zoo's titok is none")
        for size in SIZES:
            for part, work in parts(model, size, options.threads, backend):
                row = {"part": part, "backend": backend, "rows_columns": size, **common}
                row |= measure(work, options.runs)
                print(", ".join(f"{key} {_text(value)}" for key, value in row.items()))
                if options.json is not None:
                    append_record(options.json, "titok", row, machine)


def parts(
    model: TitokModel, size: tuple[int, int], threads: int, backend: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is measured by name, each to be called for one frame after another."""
    images = heart(PHASES, *size, np.dtype(np.uint16)).astype(np.uint32)
    spec = spec_of(images)
    coder = model.coder(spec)
    payloads = [coder.encode(image, i, i == 0)[0] for i, image in enumerate(images)]
    mean = float(np.mean([len(payload) for payload in payloads]))
    print(f"{size[0]}x{size[1]}: {mean:.1f} bytes a frame")
    window, canvas = Window(spec), canvas_of(*size)
    told = {**coder._told(0), "heart": np.zeros((1, 1, 8, 8), np.float32)}
    told["anatomy"] = np.zeros((1, 16), np.float32)
    tokens, nearness = TokenCoder(model.prior), model.nearness
    frames, turns = cycle(images), cycle(range(PHASES))
    encoder = model.encoder
    if encoder is None:
        return

    def fit() -> np.ndarray[Any, np.dtype[np.float32]]:
        codes = window.normalize(next(frames)).astype(np.float32) / np.float32(WINDOW_ONE)
        return canvas.fit(codes)[None, None]

    def encode() -> bytes:
        latents = encoder.run({**told, "frame": fit()})
        key = next(turns) == 0
        return tokens.encode(tokens.choose(latents[0], nearness, model.thrift, key), key)

    first = {**told, "frame": fit()}
    chosen = tokens.choose(encoder.run(first)[0], nearness, 0.0, key=True)
    known = {name: told[name] for name in told if name not in ("heart", "anatomy")}
    painted = {**known, "codes": model.codebook[chosen][None]}
    yield "encoder", lambda: encoder.run(first)
    yield "decoder", lambda: model.decoder.run(painted)
    yield "canvas", fit
    yield "tokens", lambda: tokens.encode(chosen, next(turns) == 0)
    yield "encode", encode
    whole, numbers = model.coder(spec, share(threads)), cycle(range(PHASES))

    def frame() -> object:
        number = next(numbers)
        return whole.encode(images[number], number, number == 0)

    yield "frame", frame
    reader, places = model.coder(spec), cycle(range(PHASES))

    def decode() -> object:
        number = next(places)
        return reader.decode(payloads[number], number, number == 0)

    yield "decode", decode
    options = DecompressOptions(backend=backend, threads=threads)
    refinement = load_refinement(spec, options)
    if refinement is not None:
        keys, stored = [i == 0 for i in range(PHASES)], np.uint16
        yield (
            f"refine {PHASES} phases",
            lambda: refinement.refine(images.astype(stored), keys, spec),
        )


def spec_of(images: np.ndarray[Any, np.dtype[np.uint32]]) -> StreamSpec:
    """Describe a stream of the images."""
    info = CineInfo(1, PHASES, *images.shape[1:], np.dtype(np.uint16))
    high = int(images.max())
    facts = ClinicalFacts(n_phases=PHASES).pack()
    bounds = {"window_low": 0, "window_high": int(np.percentile(images, 99.9))}
    return StreamSpec(info, 0, high, ModelId.TITOK, max_error=None, model_data=facts, **bounds)


def measure(work: Callable[[], object], runs: int) -> dict[str, Any]:
    """Call it again and again; return percentiles of both times in ms."""
    passed, used = [], []
    for _ in range(WARM_UP):
        work()
    for _ in range(runs):
        start, busy = time.perf_counter(), time.process_time()
        work()
        passed.append(1e3 * (time.perf_counter() - start))
        used.append(1e3 * (time.process_time() - busy))
    return {
        "metric": "time", "unit": "ms", **percentiles(passed),
        "least": min(passed), "processor_time_p50": float(np.median(used)),
    }  # fmt: skip


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

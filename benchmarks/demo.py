"""`make demo`: compress and restore a real heart, print what it took, draw what came back.

    python -m benchmarks.demo [--source examples/...nii.gz] [--out out]

Every line of the table comes from decoding the very stream whose size it states.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.cine import Cine
from edge_codec.io import open_source
from edge_codec.metrics.image import psnr, squared_error, ssim
from edge_codec.runtime.memory_sink import MemorySink
from edge_codec.runtime.options import CompressOptions, DecompressOptions, TransferReport
from edge_codec.runtime.stream_decoding import decode_stream
from edge_codec.runtime.stream_encoding import encode_stream
from edge_codec.spec import ModelId

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PROFILES = {
    "lossless": CompressOptions(max_error=0),
    "max error 4": CompressOptions(max_error=4),
    "vqvae, lossless": CompressOptions(model=ModelId.VQVAE, max_error=0),
    "vqvae": CompressOptions(model=ModelId.VQVAE, max_error=None),
    "dwt-cal": CompressOptions(model=ModelId.DWT_CAL, max_error=None),
    "dwt-cal, archive": CompressOptions(model=ModelId.DWT_CAL, max_error=None, archive=True),
}
DRAWN = ("max error 4", "dwt-cal")
HEADINGS = ("profile", "bits/voxel", "ratio", "PSNR dB", "SSIM", "max error", "enc ms", "dec ms")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=SAMPLE)
    parser.add_argument("--out", type=Path, default=ROOT / "out")
    options = parser.parse_args(argv)
    cine = Cine.from_source(open_source(options.source))
    info = cine.info
    print(f"{options.source.name}: {info.n_slices} slices x {info.n_phases} phases of", end=" ")
    print(f"{info.rows}x{info.columns}, {info.dtype}, values up to {cine.voxels.max()}\n")
    print("".join(f"{heading:>17}" for heading in HEADINGS))
    decoded = {}
    for name, profile in PROFILES.items():
        decoded[name] = _run(name, cine, profile)
    print(
        "\nratio: 16 bit per voxel over every byte of the stream. PSNR: peak = maximum of the\n"
        "file, mean over all voxels. SSIM: per frame, 7x7, averaged. ms: median per frame.\n"
        "vqvae and dwt-cal alone are lossy and not for diagnosis. Research use only; vqvae's\n"
        "weights are for non-commercial use (CC BY-NC-SA 4.0)."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "demo.png"
    _draw(cine.voxels, {name: decoded[name] for name in DRAWN}, path)
    print(f"picture: {path}")


def _run(name: str, cine: Cine, profile: CompressOptions) -> NDArray[Any]:
    """Compress, restore, print one line, and return the restored voxels."""
    file = io.BytesIO()
    encoded = encode_stream(cine, file, profile)
    sink = MemorySink()
    restored = decode_stream(file, lambda _: sink, DecompressOptions())
    voxels = sink.cine(restored.spec.info).voxels
    peak = float(cine.voxels.max())
    noise = squared_error(cine.voxels, voxels) / voxels.size
    largest = int(np.abs(voxels.astype(np.int64) - cine.voxels).max())
    if profile.max_error is not None and largest > profile.max_error:
        raise SystemExit(f"{name}: a voxel is off by {largest}; this is a defect")
    cells = (
        name,
        f"{encoded.bits_per_voxel:.3f}",
        f"{16 / encoded.bits_per_voxel:.1f}",
        f"{psnr(noise, peak):.2f}",
        f"{_mean_ssim(cine.voxels, voxels, peak):.4f}",
        str(largest),
        _median(encoded),
        _median(restored),
    )
    print("".join(f"{cell:>17}" for cell in cells))
    return voxels


def _median(report: TransferReport) -> str:
    return f"{np.median(report.frame_ms):.1f}"


def _mean_ssim(original: NDArray[Any], decoded: NDArray[Any], peak: float) -> float:
    frames = zip(_frames(original), _frames(decoded), strict=True)
    return float(np.mean([ssim(a, b, peak) for a, b in frames]))


def _frames(voxels: NDArray[Any]) -> NDArray[Any]:
    return voxels.reshape(-1, *voxels.shape[-2:])


def _draw(original: NDArray[Any], decoded: dict[str, NDArray[Any]], path: Path) -> None:
    """Draw the first slice's middle phase: original, and each restored frame above its error."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    place = (0, original.shape[1] // 2)
    frame = original[place]
    white = float(np.percentile(original, 99.5))
    figure, axes = pyplot.subplots(
        2, 1 + len(decoded), figsize=(4 * (1 + len(decoded)), 8.4), layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(frame, cmap="gray", vmin=0, vmax=white)
    axes[0, 0].set_title("original, 16 bit")
    for column, (name, voxels) in enumerate(decoded.items(), start=1):
        error = voxels[place].astype(np.int64) - frame
        scale = max(1.0, float(np.percentile(np.abs(error), 99.9)))
        axes[0, column].imshow(voxels[place], cmap="gray", vmin=0, vmax=white)
        axes[0, column].set_title(name)
        image = axes[1, column].imshow(error, cmap="RdBu", vmin=-scale, vmax=scale)
        axes[1, column].set_title(f"error of {name}, stored units")
        figure.colorbar(image, ax=axes[1, column], shrink=0.8)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()

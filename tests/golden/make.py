"""Write the golden streams of the current bitstream version; tests only read them.

    python tests/golden/make.py

A stream is written once: the command adds those that are missing, and never overwrites one. After a
release, a stream that no longer decodes to its hash is a broken promise, not a reason to remove it
and run this again.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edge_codec
from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.header import VERSION
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.codec import Encoder
from edge_codec.runtime.models import load_model

HERE = Path(__file__).parent
LATE_PHASES = (0, 2, 3, 6)  # of the streams named late: no time is left for their frames
KEY_PHASES = (2, 3, 5)  # of the streams named live: key frames that need not be


def cines() -> dict[str, tuple[edge_codec.Cine, dict[str, object]]]:
    """Return the cine and the options of each golden stream."""
    rng = np.random.default_rng(20_261_121)
    y, x = np.mgrid[:24, :20]
    beat = np.array(
        [[500 + 300 * np.sin(x / 4 + p / 2 + s) * np.cos(y / 5) for p in range(7)] for s in (0, 1)]
    )
    heart = (beat + rng.normal(0, 5, beat.shape)).astype(np.int16)
    signed = rng.integers(-(2**31), 2**31, (1, 2, 5, 7)).astype(np.int32)
    return {
        "fast": (edge_codec.Cine.from_array(heart), {"effort": "fast"}),
        "lossless": (edge_codec.Cine.from_array(heart), {}),
        "best": (edge_codec.Cine.from_array(heart), {"effort": "best"}),
        "best_max_error_2": (
            edge_codec.Cine.from_array(heart),
            {"effort": "best", "max_error": 2},
        ),
        "snr_loss": (edge_codec.Cine.from_array(heart), {"snr_loss_percent": 10.0}),
        "max_error_3": (edge_codec.Cine.from_array(heart), {"max_error": 3}),
        "vqvae": (edge_codec.Cine.from_array(heart), {"model": "vqvae", "max_error": None}),
        "vqvae_lossless": (edge_codec.Cine.from_array(heart), {"model": "vqvae"}),
        "vqvae_best": (
            edge_codec.Cine.from_array(heart),
            {"model": "vqvae", "effort": "best"},
        ),
        "late": (edge_codec.Cine.from_array(heart), {}),
        "late_best_snr_loss": (
            edge_codec.Cine.from_array(heart),
            {"effort": "best", "snr_loss_percent": 10.0},
        ),
        "late_vqvae_max_error_2": (
            edge_codec.Cine.from_array(heart),
            {"model": "vqvae", "max_error": 2},
        ),
        "live": (edge_codec.Cine.from_array(heart), {}),
        "live_vqvae": (
            edge_codec.Cine.from_array(heart),
            {"model": "vqvae", "max_error": None},
        ),
        "int32_noise": (edge_codec.Cine.from_array(signed), {}),
        "one_voxel": (edge_codec.Cine.from_array(np.full((1, 1, 1, 1), 7, np.uint8)), {}),
        **video_cines(edge_codec.Cine.from_array(heart), rng),
        **region_cines(edge_codec.Cine.from_array(heart)),
    }


def video_cines(
    heart: edge_codec.Cine, rng: np.random.Generator
) -> dict[str, tuple[edge_codec.Cine, dict[str, object]]]:
    """Return those of the models whose frames are predicted from each other."""
    moving = edge_codec.Cine.from_array(moving_disk(rng))
    return {
        "dwt_cal": (moving, {"model": "dwt-cal", "max_error": None}),
        "dwt_cal_archive_best": (
            moving,
            {
                "model": "dwt-cal",
                "max_error": None,
                "archive": True,
                "effort": "best",
                "quality": 33,
            },
        ),
        "dwt_cal_vae": (
            heart,
            {"model": "dwt-cal-vae", "max_error": None},
        ),
        "dwt_cal_lossless": (heart, {"model": "dwt-cal"}),
        "dwt_cal_fallback": (
            edge_codec.Cine.from_array(noise_and_texture(rng)),
            {"model": "dwt-cal", "base_cost_percent": 5.0},
        ),
    }


def region_cines(heart: edge_codec.Cine) -> dict[str, tuple[edge_codec.Cine, dict[str, object]]]:
    """Return those with a region of interest, in one slice or in parts of both."""
    moving = edge_codec.Cine.from_array(moving_disk(np.random.default_rng(20_261_122)))
    disk, corners = np.zeros((2, 70, 100), bool), np.zeros((2, 24, 20), bool)
    disk[0, 14:56, 27:70] = True
    corners[0, :16, :16] = corners[1, 16:, 16:] = True
    bounds = {"max_error": 4, "roi": corners, "roi_max_error": 0}
    return {
        "dwt_cal_roi": (
            moving,
            {"model": "dwt-cal", "max_error": None, "roi": disk, "roi_gain": 9},
        ),
        "dwt_cal_roi_lossless": (heart, {"model": "dwt-cal", "roi_gain": 3, **bounds}),
        "late_roi_lossless": (heart, bounds),
        "best_roi_1": (heart, {"effort": "best", **bounds, "roi_max_error": 1}),
        "fast_roi_lossless": (heart, {"effort": "fast", **bounds}),
    }


def moving_disk(rng: np.random.Generator) -> NDArray[np.int16]:
    """Return two slices of nine phases, larger than a largest block of dwt-cal, noisy."""
    y, x = np.mgrid[:70, :100]
    frames = [
        [
            np.where(np.hypot(y - 35 - s, x - 48) < 18 + 5 * np.sin(p / 1.4), 700, 150 + 3 * y)
            for p in range(9)
        ]
        for s in (0, 3)
    ]
    return (np.array(frames) + rng.normal(0, 6, (2, 9, 70, 100))).astype(np.int16)


def noise_and_texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return two slices of nine phases: noise, and a texture that moves by whole pixels."""
    noise, texture = rng.integers(0, 256, (2, 9, 40, 48), np.uint8)
    texture[:] = [np.roll(texture[0], (2 * phase, phase), (0, 1)) for phase in range(9)]
    return np.stack([noise, texture])


def compress(name: str, cine: edge_codec.Cine, options: dict[str, object]) -> bytes:
    """Return the stream; the begin of its name says what is special about its frames.

    late: some fall back to effort fast. live: some are key frames that need not be, and all have
    notes.
    """
    data = edge_codec.compress(cine, **options)  # type: ignore[arg-type]
    kind = name.partition("_")[0]
    if kind not in ("late", "live"):
        return data
    spec, file = StreamReader(io.BytesIO(data)).spec, io.BytesIO()
    encoder, writer = Encoder(spec, load_model(spec.model)), StreamWriter(file, spec)
    for slice_index, phases in enumerate(cine.voxels):
        for phase, frame in enumerate(phases):
            give_up_ns = 0 if kind == "late" and phase in LATE_PHASES else None
            key = kind == "live" and phase in KEY_PHASES
            packet = encoder.push(frame, slice_index, key=key, give_up_ns=give_up_ns)
            writer.write(packet if kind == "late" else with_note(packet))
    writer.close()
    return file.getvalue()


def with_note(packet: Packet) -> Packet:
    """Return a packet with the note of a live frame."""
    n = packet.sequence
    note = LiveNote(Policy(n % 4), 1_800_000_000_000_000_000 + n, n, 2 * n, n % 3, n == 5, n == 9)
    return replace(packet, layers={**packet.layers, LayerId.LIVE: note.pack()})


def voxel_hash(cine: edge_codec.Cine) -> str:
    """Return the SHA-256 of dtype, shape and little-endian voxels."""
    voxels = cine.voxels.astype(cine.voxels.dtype.newbyteorder("<"))
    head = f"{cine.voxels.dtype.name} {voxels.shape} ".encode()
    return hashlib.sha256(head + voxels.tobytes()).hexdigest()


def main() -> None:
    """Add to `tests/golden/<version>/` what is missing there."""
    folder = HERE / str(VERSION)
    folder.mkdir(exist_ok=True)
    table = folder / "voxels.json"
    hashes = json.loads(table.read_text(encoding="utf-8")) if table.exists() else {}
    for name, (cine, options) in cines().items():
        if name in hashes:
            continue
        data = compress(name, cine, options)
        with (folder / f"{name}.ecd").open("xb") as file:  # refuses to overwrite
            file.write(data)
        hashes[name] = voxel_hash(edge_codec.decompress(data))
    table.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A tiny tokenizer and beating hearts to train it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edge_codec.nn.titok import TiTokConfig
from edge_codec.training.pack import CineSequence, sequences_of, write_pack

TINY: dict[str, Any] = {
    "width": 16, "heads": 2, "encoder_depth": 1, "decoder_depth": 1, "fine": 8, "middle": 8,
    "codes": 64, "memory": 2,
}  # fmt: skip

CASES = ("patient001", "patient002", "patient014")
"""The last is held out."""


def tiny_network(**changes: Any) -> TiTokConfig:
    return TiTokConfig(**{**TINY, **changes})


def beating_hearts(phases: int = 6) -> list[CineSequence]:
    """One slice a case: a disc that beats, with noise, and a mask of where it ever is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :32]
    found = []
    for case in CASES:
        radius = 9 + 2 * np.sin(np.arange(phases) * 2 * np.pi / phases)[:, None, None]
        disc = 800.0 * (np.hypot(y - 20, x - 16) < radius) + rng.normal(100, 10, (phases, 40, 32))
        heart = np.hypot(y - 20, x - 16) < 11
        found += sequences_of(np.rint(disc)[None].astype(np.int64), case, "acdc", heart[None])
    return found


def write_hearts(folder: Path) -> Path:
    """Write a pack of them."""
    write_pack(beating_hearts(), folder / "pack.zip")
    return folder / "pack.zip"


def stage_content(stage: str, **changes: Any) -> dict[str, Any]:
    """Return what a YAML file of a short stage says; `changes` replace fields of its sections."""
    content: dict[str, Any] = {
        "size": "s",
        "network": dict(TINY),
        "stage": stage,
        "held_out": [CASES[-1]],
        "streams": {"batch": 2, "rounds": 2, "life": [2, 4], "reverse_chance": 0.5,
                    "mirror_chance": 0.5, "shift": 0.1},
        "told": {"heart": 0.5, "anatomy": 0.5, "clinical": 0.5},
        "loss": {"pixel_squared": 10.0, "commitment": 0.25},
        "quantizer": {"noise_steps": 0},
        "train": {"seed": 3, "steps": 4, "warmup_steps": 1, "learning_rate": 1.0e-3,
                  "final_learning_rate": 1.0e-4, "weight_decay": 0.01, "clip_norm": 1.0,
                  "ema_decay": 0.9, "checkpoint_seconds": 600, "log_every": 2,
                  "validate_every": 4, "validate_frames": 2},
    }  # fmt: skip
    for section, fields in changes.items():
        content[section] = {**content[section], **fields} if isinstance(fields, dict) else fields
    return content


def write_stage(path: Path, stage: str, **changes: Any) -> Path:
    """Write such a file."""
    path.write_text(yaml.safe_dump(stage_content(stage, **changes)))
    return path

"""Make the shipped files of the VQ-VAE.

`python -m edge_codec.export.zoo --quantized quantized.pt --config C --data D --splits S --out DIR`
writes `encoder.onnx`, `codebook.npy`, `decoder.onnx`, `token_model.npz`, `manifest.json` and
`MODEL_CARD.md`. Codes are renumbered so that similar ones are neighbours, and the token model is
learned from the tokens that the exported encoder and lookup give for the training cases.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import yaml
from numpy.typing import NDArray

from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import TokenModel, load_token_model
from edge_codec.calibration.qat import load_quantized
from edge_codec.errors import CalibrationError
from edge_codec.export.model_card import model_card
from edge_codec.export.vqvae import IntegerVQVAE, decoder_model, encoder_model, integer_vqvae
from edge_codec.runtime.integer_reference import IntegerReference
from edge_codec.spec import WINDOW_ONE
from edge_codec.training.data import Exam, read_split
from edge_codec.training.token_tables import (
    TokenSet,
    bisect_codes,
    bits_per_token,
    fit,
    merge,
    positions,
)

log = logging.getLogger(__name__)

CLUSTERS = 64
WIRE_ID = 1
STRIDE = 8
LICENSE = "CC-BY-NC-SA-4.0"
SHARES = {"acdc": 0.4, "fullfov": 0.25, "sunnybrook": 0.35}
"""Parts of the token model's training positions by data set."""


def write_networks(network: IntegerVQVAE, out: Path) -> None:
    """Write both integer networks and the codebook between them."""
    np.save(out / "codebook.npy", network.codebook)
    (out / "encoder.onnx").write_bytes(encoder_model(network).SerializeToString())
    (out / "decoder.onnx").write_bytes(decoder_model(network).SerializeToString())


def exam_tokens(
    encoder: onnxruntime.InferenceSession, lookup: CodebookLookup, exam: Exam
) -> list[NDArray[np.int32]]:
    """Encode an exam as the codec does: per slice tokens, shape (phases, h, w), int32."""
    rows, columns = exam.codes.shape[2:]
    pad = ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE))
    padded = [np.pad(frames, pad, mode="edge")[:, None] for frames in exam.codes]
    latents = [encoder.run(None, {"frame": frames})[0] for frames in padded]
    return [lookup.nearest(found).astype(np.int32) for found in latents]


def token_sets(folder: Path, exams: Iterable[Exam], codes: int) -> dict[str, TokenSet]:
    """Positions of all exams by data set, encoded by the networks in a folder."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    encoder = onnxruntime.InferenceSession(
        folder / "encoder.onnx", options, providers=["CPUExecutionProvider"]
    )
    lookup = CodebookLookup(np.load(folder / "codebook.npy", allow_pickle=False))
    parts: dict[str, list[TokenSet]] = {}
    for exam in exams:
        slices = exam_tokens(encoder, lookup, exam)
        parts.setdefault(exam.group, []).extend(positions(tokens, codes) for tokens in slices)
    return {group: merge(found) for group, found in parts.items()}


def token_costs(model: TokenModel, sets: dict[str, TokenSet]) -> dict[str, dict[str, float]]:
    """Bits per token by data set: as key frames, and as predicted frames."""
    costs: dict[str, dict[str, float]] = {}
    for group, data in sets.items():
        past = data.around[2] < model.n_codes
        predicted = TokenSet(data.around[:, past], data.tokens[past])
        costs[group] = {
            "key": round(bits_per_token(model, data.without_previous(model.n_codes)), 3)
        }
        if len(predicted.tokens):
            costs[group]["predicted"] = round(bits_per_token(model, predicted), 3)
    return costs


def write_token_model(model: TokenModel, path: Path) -> None:
    """Write the tables, and read them back as the codec would."""
    tables = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    np.savez_compressed(path, **tables)
    load_token_model(path.read_bytes())


def write_manifest(out: Path, fields: dict[str, Any]) -> None:
    """Write `manifest.json` with the hashes of the files beside it."""
    names = ("encoder.onnx", "codebook.npy", "decoder.onnx", "token_model.npz")
    hashes = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}
    tokens = np.arange(1024, dtype=np.int32).reshape(1, 32, 32)
    frame = IntegerReference((out / "decoder.onnx").read_bytes()).run(tokens)
    manifest = {
        **fields,
        "sha256": hashes,
        "decoding": ["decoder.onnx", "token_model.npz"],
        "check": zlib.crc32(frame.astype(np.uint8).tobytes()),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")


def manifest_fields(
    version: str, network: IntegerVQVAE, metrics: Any, config: dict[str, Any], note: str
) -> dict[str, Any]:
    """Collect what the manifest says besides hashes."""
    codes, dim = network.codebook.shape
    return {
        "name": "vqvae",
        "wire_id": WIRE_ID,
        "version": version,
        "n_codes": codes,
        "code_dim": dim,
        "stride": STRIDE,
        "n_clusters": CLUSTERS,
        "license": LICENSE,
        "license_note": (
            "Weights learned from ACDC inherit CC BY-NC-SA 4.0: non-commercial research only. "
            "Sunnybrook Cardiac Data is CC0."
        ),
        "intended_use": "research only; not a medical device",
        "window": {
            "low": "minimum of the exam in training, 0.1th percentile in the codec",
            "high": "99.9th percentile of the exam",
            "one": WINDOW_ONE,
            "codes": "clip(floor((x - low) * 192 / (high - low) + 1/2), 0, 255), uint8",
        },
        "largest_sums": network.bounds(),
        "training": {
            "data": [
                "ACDC training patients of splits.json, all phases, heart crops and full frames",
                "Sunnybrook Cardiac Data SCD0000101 and SCD0000201, full field of view",
            ],
            "held_out": config["data"]["held_out"],
            "note": note,
            "commands": commands(),
        },
        "metrics": metrics,
    }


def learn_token_model(
    options: argparse.Namespace, config: dict[str, Any], codes: int
) -> dict[str, Any]:
    """Learn the token model from the exported encoder's tokens; return its costs."""
    held_out = frozenset(config["data"]["held_out"])
    exams, validation = read_split(options.data, options.splits, held_out)
    train_sets = token_sets(options.out, exams, codes)
    groups = [group for group in SHARES if group in train_sets]
    tables = fit(
        [train_sets[group] for group in groups],
        [SHARES[group] for group in groups],
        CLUSTERS,
        codes // CLUSTERS,
        steps=options.token_steps,
    )
    model = tables.integer_model()
    write_token_model(model, options.out / "token_model.npz")
    held_sets = token_sets(options.out, validation, codes)
    return {"held_out": token_costs(model, held_sets), "trained_on": token_costs(model, train_sets)}


def reuse_token_model(source: Path, out: Path) -> Any:
    """Copy the token model of a folder with the very same encoder; return its costs.

    Raises
    ------
    CalibrationError
        If the encoder there is another one, whose tokens mean something else.
    """
    for name in ("encoder.onnx", "codebook.npy"):
        if (source / name).read_bytes() != (out / name).read_bytes():
            raise CalibrationError(f"{source} has another {name}; learn its token model anew")
    (out / "token_model.npz").write_bytes((source / "token_model.npz").read_bytes())
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    return manifest["metrics"]["bits_per_token"]


def main(argv: list[str] | None = None) -> None:
    """Export networks, learn the token model, write manifest and model card."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    config = yaml.safe_load(options.config.read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    twin, psnr = load_quantized(options.quantized)
    network = integer_vqvae(twin)
    network = network.permute(bisect_codes(network.codebook.astype(np.float64)))
    write_networks(network, options.out)
    if options.tokens_from is not None:
        costs = reuse_token_model(options.tokens_from, options.out)
    else:
        costs = learn_token_model(options, config, len(network.codebook))
    metrics = {"psnr_db": psnr, "bits_per_token": costs}
    log.info("%s", json.dumps(metrics, indent=1))
    fields = manifest_fields(options.version, network, metrics, config, options.note)
    write_manifest(options.out, fields)
    (options.out / "MODEL_CARD.md").write_text(model_card(fields), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge_codec.export.zoo", description=__doc__)
    parser.add_argument("--quantized", type=Path, required=True, help="quantized.pt")
    parser.add_argument("--config", type=Path, required=True, help="YAML of the training")
    parser.add_argument("--data", type=Path, required=True, help="folder of NIfTI data sets")
    parser.add_argument("--splits", type=Path, required=True, help="JSON of train and test cases")
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo's files")
    parser.add_argument("--version", required=True, help="version of the weights")
    parser.add_argument("--note", default="", help="how the weights were trained, for the records")
    parser.add_argument("--token-steps", type=int, default=1500, help="steps of the token model")
    parser.add_argument("--tokens-from", type=Path, help="reuse the token model of this folder")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    return parser


def commands() -> list[str]:
    """List the commands that make the files, in order, with the data's place left open."""
    data = "--config edge_codec/training/configs/vqvae.yaml --data DATA --splits SPLITS"
    return [
        f"python -m edge_codec.training.loop {data} --out RUN",
        f"python -m edge_codec.calibration.qat --checkpoint RUN/averaged.pt {data} --out TUNED",
        f"python -m edge_codec.export.zoo --quantized TUNED/quantized.pt {data} "
        "--out edge_codec/zoo/vqvae --version VERSION",
    ]


if __name__ == "__main__":
    main()

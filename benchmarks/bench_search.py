"""Search by tokens against search by pixels, and the disease head on test patients.

`python -m benchmarks.bench_search --data ACDC --splits SPLITS --cache DIR --out RECORDS.jsonl`

The gallery is the first half of the cycle of every slice of all patients, training and test, each
half coded as a stream of its own. A query is the second half of a slice of a test patient, coded as
its own stream, so that no frame is in both. Asked is

- same slice: is the slice itself among the five most alike, or the very first;
- same patient: with the slice itself taken out of the gallery, is another slice of the patient
  among the five most alike;

both for queries as they are and for queries moved, turned or with another contrast, before coding.
Pixels are compared by the normalized cross-correlation of the slices' mean frames over their
halves, on the canvas of 128x128 that the tokenizer sees. For the disease head the streams are those
of whole exams; the encoder was told nothing of the patient.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import append_record, describe_machine
from edge_codec.base.titok.canvas import canvas_of
from edge_codec.manifest import load_manifest
from edge_codec.metrics.proportion import wilson_interval
from edge_codec.retrieval.disease_head import GROUPS
from edge_codec.retrieval.weights import CODEBOOK, MODEL, SearchModel, load_search_model
from edge_codec.runtime.segmenter import load_segmenter
from edge_codec.spec import ModelId
from edge_codec.training.shards.convert import read_split
from edge_codec.training.shards.patient import read_patient
from edge_codec.training.token_views import FIRST_HALF, SECOND_HALF, WHOLE, View, ViewCoder, seen

TOP = 5
QUERIES = {
    "as it is": SECOND_HALF,
    "moved by 4 %": View("moved-4", 0.5, 0.5, shift=(0.04, -0.04)),
    "moved by 10 %": View("moved-10", 0.5, 0.5, shift=(-0.1, 0.1)),
    "turned by 5 degrees": View("turned-5", 0.5, 0.5, angle_degrees=5.0),
    "gamma 0.8": View("gamma-0.8", 0.5, 0.5, gamma=0.8),
    "gamma 1.25": View("gamma-1.25", 0.5, 0.5, gamma=1.25),
}

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Descriptors of slices, of length 1, and whose they are."""

    descriptors: Floats
    patients: NDArray[np.str_]
    places: NDArray[np.int64]


def recalls(queries: Slices, gallery: Slices) -> dict[str, float]:
    """Return the shares of queries that find what they should."""
    cosines = queries.descriptors @ gallery.descriptors.T
    patient = queries.patients[:, None] == gallery.patients
    itself = patient & (queries.places[:, None] == gallery.places)
    order = np.argsort(-cosines, axis=1, kind="stable")
    others = np.argsort(-np.where(itself, -2, cosines), axis=1, kind="stable")
    found = np.take_along_axis(itself, order, 1)
    related = np.take_along_axis(patient & ~itself, others, 1)
    return {
        "queries": len(cosines), "gallery": cosines.shape[1],
        "same_slice_at_1": float(found[:, 0].mean()),
        "same_slice_at_5": float(found[:, :TOP].any(axis=1).mean()),
        "same_patient_at_1": float(related[:, 0].mean()),
        "same_patient_at_5": float(related[:, :TOP].any(axis=1).mean()),
    }  # fmt: skip


def by_tokens(coder: ViewCoder, patients: Sequence[str], view: View, model: SearchModel) -> Slices:
    """Describe the slices of patients by their tokens."""
    described = []
    for patient in patients:
        (one,) = coder.see(patient, [view])
        slices = model.describer.describe(model.listener.listen(one.exam)).slices
        described.append(slices.astype(np.float32))
    return _slices(patients, described)


def by_pixels(data: Path, patients: Sequence[str], view: View) -> Slices:
    """Describe the slices of patients by their mean frames, so that a product is the NCC."""
    described = []
    for patient in patients:
        voxels = read_patient(data / patient, partial=False).voxels
        phases = view.phases(voxels.shape[1])
        means = seen(voxels[:, phases], view).mean(axis=1, dtype=np.float32)
        canvas = canvas_of(*voxels.shape[2:])
        pixels = np.stack([canvas.fit(mean)[canvas.inside > 0] for mean in means])
        pixels -= pixels.mean(axis=1, keepdims=True)
        described.append(pixels / np.linalg.norm(pixels, axis=1, keepdims=True))
    return _slices(patients, described)


def _slices(patients: Sequence[str], described: Sequence[Floats]) -> Slices:
    return Slices(
        np.concatenate(described),
        np.concatenate([[p] * len(d) for p, d in zip(patients, described, strict=True)]),
        np.concatenate([np.arange(len(d)) for d in described]),
    )


def search_rows(
    data: Path, coder: ViewCoder, everyone: Sequence[str], test: Sequence[str], model: SearchModel
) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of query, by tokens and by pixels."""
    galleries = {
        "tokens": by_tokens(coder, everyone, FIRST_HALF, model),
        "pixel NCC": by_pixels(data, everyone, FIRST_HALF),
    }
    for name, view in QUERIES.items():
        queries = {
            "tokens": by_tokens(coder, test, view, model),
            "pixel NCC": by_pixels(data, test, view),
        }
        for method, gallery in galleries.items():
            yield {"variant": f"{method}, {name}", **recalls(queries[method], gallery)}


def group_row(coder: ViewCoder, test: Sequence[str], model: SearchModel) -> dict[str, Any]:
    """Return how many test patients are given their group; an unusual one is given none."""
    guesses = {}
    for patient in test:
        (one,) = coder.see(patient, [WHOLE])
        guess = model.head.guess(one.exam, model.listener.listen(one.exam))
        guesses[patient] = {
            "is": one.group, "named": None if guess.unusual else guess.group,
            "likeliest": guess.group, "unusual": guess.unusual,
            "probabilities": dict(zip(GROUPS, guess.probabilities, strict=True)),
        }  # fmt: skip
    right = sum(guess["is"] == guess["named"] for guess in guesses.values())
    return {
        "variant": "disease head", "right": right, "cases": len(guesses),
        "accuracy": right / len(guesses),
        "accuracy_95_percent": wilson_interval(right, len(guesses)), "patients": guesses,
    }  # fmt: skip


def speed_row(coder: ViewCoder, patients: Sequence[str], model: SearchModel) -> dict[str, Any]:
    """Return how long describing an exam's tokens and naming its group takes."""
    exams = [next(coder.see(patient, [WHOLE])).exam for patient in patients]
    begin = time.perf_counter()
    for exam in exams:
        known = model.listener.listen(exam)
        model.describer.describe(known)
        model.head.guess(exam, known)
    spent = time.perf_counter() - begin
    frames = sum(exam.tokens[..., 0].size for exam in exams)
    return {"variant": "describing", "ms_per_exam": 1e3 * spent / len(exams),
            "frames_per_exam": frames / len(exams)}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and append records."""
    parser = argparse.ArgumentParser(prog="benchmarks.bench_search", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of ACDC patients")
    parser.add_argument("--splits", type=Path, required=True, help="JSON with 'train' and 'test'")
    parser.add_argument("--cache", type=Path, required=True, help="that of the training command")
    parser.add_argument("--out", type=Path, required=True, help="file of records to append to")
    options = parser.parse_args(arguments)
    train, test = (
        [name for name in read_split(f"{options.splits}:{split}")[1] if name.startswith("patient")]
        for split in ("train", "test")
    )
    model, tokenizer = load_search_model(), load_manifest(ModelId.TITOK).hashes[CODEBOOK]
    coder = ViewCoder(options.data, options.cache, tokenizer, load_segmenter())
    machine = describe_machine()
    rows = [*search_rows(options.data, coder, [*train, *test], test, model)]
    rows += [group_row(coder, test, model), speed_row(coder, test, model)]
    for row in rows:
        print({key: value for key, value in row.items() if key != "patients"}, file=sys.stderr)
        weights = {"tokenizer": tokenizer, "weights": load_manifest(MODEL).hashes}
        command = "python -m benchmarks.bench_search"
        append_record(options.out, "search", {**row, **weights, "command": command}, machine)


if __name__ == "__main__":
    main()

"""Learn search and the disease head from the tokens of training patients; one command.

`python -m edge_codec.training.disease_head --data ACDC --splits SPLITS --cache DIR --out
edge_codec/zoo/disease_head` codes every training patient in several views with the shipped `titok`
(kept in the cache, so that it can be stopped and goes on), learns

- the matrices of the listener;
- the axes of the descriptors, by a discriminant: frames that show the same slice and phase, and
  slices that show the same slice, are the same thing in all views;
- the network that reads the sizes of the heart's parts;
- the regression from those sizes to the group, on sizes that networks read which had not seen the
  patient: each fold's patients by a network trained on the others;

and writes weights, manifest and model card. Its accuracy is that of the regressions of the folds on
the patients they had not seen. Test patients are not touched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok import load_codebook
from edge_codec.errors import EdgeCodecError, SourceError
from edge_codec.manifest import load_manifest
from edge_codec.metrics.proportion import wilson_interval
from edge_codec.retrieval.descriptor import DIM
from edge_codec.retrieval.disease_head import FEATURES, GROUPS, features_of
from edge_codec.retrieval.listener import WIDTH, Listener
from edge_codec.retrieval.token_reader import TokenReader, with_mean
from edge_codec.retrieval.weights import CODEBOOK
from edge_codec.runtime.segmenter import load_segmenter
from edge_codec.spec import ModelId
from edge_codec.training.discriminant import Scatter
from edge_codec.training.disease_head_zoo import write_zoo
from edge_codec.training.listening import fit_basis, fit_steps, groups_of
from edge_codec.training.regression import fit_regression, softmax
from edge_codec.training.shards.convert import read_split
from edge_codec.training.token_mixer import MixerTraining, TokenMixer, train_mixer
from edge_codec.training.token_views import WHOLE, SeenExam, ViewCoder, learning_views

SHRINKAGE = 0.1
BASIS_STRIDE = 4
"""Every so many phases are enough to find principal components."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
RIDGE = 0.1
"""What is added to the covariance of the scaled sizes before it is inverted."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to learn.

    Attributes
    ----------
    folds : int
        Of the patients, each group dealt out evenly.
    mixer : MixerTraining
    """

    folds: int = 5
    mixer: MixerTraining = field(default_factory=MixerTraining)


@dataclass(frozen=True, slots=True, eq=False)
class PatientFrames:
    """All views of one patient, as numbers.

    Attributes
    ----------
    patient : str
    group : int
        Place in `GROUPS`.
    seen : ndarray, shape (frames, 32, 2 KNOWN), float16
        Of all views.
    shares : ndarray, shape (frames, 32, 3), float16
    whole : ndarray, shape (slices, phases, 32, KNOWN), float32
        Of the whole exam.
    """

    patient: str
    group: int
    seen: NDArray[np.float16]
    shares: NDArray[np.float16]
    whole: Floats


def learn(
    exams: Mapping[str, Sequence[SeenExam]], codebook: Floats, plan: Plan, tell: Tell
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Learn everything.

    Parameters
    ----------
    exams : mapping of str to sequence of SeenExam
        All views of each patient, the whole exam among them.
    codebook : ndarray, shape (4096, 12), float32
    plan : Plan
    tell : callable
        Takes lines of text.

    Returns
    -------
    arrays : dict of str to ndarray
        As `edge_codec.retrieval.weights.make_search_model` takes them.
    measured : dict
        Accuracy over the folds and what was chosen by it.

    Raises
    ------
    TrainingError
        If there are too few exams.
    SourceError
        If a patient has no known group.
    """
    steps = learn_listener(exams, codebook)
    frames, slices = Scatter(WIDTH), Scatter(WIDTH)
    listener = Listener(codebook, steps)
    patients = [to_numbers(views, listener, frames, slices) for views in exams.values()]
    head, measured = learn_head(patients, plan, tell)
    arrays: dict[str, NDArray[Any]] = {"listener_steps": steps}
    arrays["frame_mean"], arrays["frame_axes"] = frames.axes(DIM, SHRINKAGE)
    arrays["slice_mean"], arrays["slice_axes"] = slices.axes(DIM, SHRINKAGE)
    return arrays | head, measured


def learn_listener(exams: Mapping[str, Sequence[SeenExam]], codebook: Floats) -> Floats:
    """Fit the matrices of the listener on all views; returns them as `fit_steps` does."""
    views = [view for its in exams.values() for view in its]
    basis = fit_basis(view.pictures[:, ::BASIS_STRIDE] for view in views)
    groups = [
        group
        for view in views
        for group in groups_of(
            codebook[view.exam.tokens], basis.components(view.pictures), view.exam.keys
        )
    ]
    return fit_steps(groups)


def learn_head(
    patients: Sequence[PatientFrames], plan: Plan, tell: Tell
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Learn the network that reads sizes and the regression; returns as `learn` does."""
    groups = np.array([patient.group for patient in patients])
    folds = fold_of(groups, plan.folds)
    features = np.empty((len(patients), FEATURES))
    for fold in range(plan.folds):
        tell(f"network {fold + 1} of {plan.folds + 1}")
        chosen = [patient for patient, its in zip(patients, folds, strict=True) if its != fold]
        reader = _reader(_train(chosen, plan.mixer, tell))
        for row in np.flatnonzero(folds == fold).tolist():
            features[row] = features_of(reader.shares(patients[row].whole))
    tell(f"network {plan.folds + 1} of {plan.folds + 1}")
    network = _train(patients, plan.mixer, tell).arrays()
    head, measured = _regress(features, groups, folds)
    return {f"reader_{name}": weight for name, weight in network.items()} | head, measured


def fold_of(groups: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Deal patients out to folds: each group evenly, in the patients' order."""
    dealt = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        dealt[rows] = (np.arange(len(rows)) + group) % folds
    return dealt


def to_numbers(
    views: Sequence[SeenExam], listener: Listener, frames: Scatter, slices: Scatter
) -> PatientFrames:
    """Turn a patient's views into numbers, and add them to the scatters.

    Raises
    ------
    SourceError
        If the patient has no known group.
    """
    group = views[0].group
    if group not in GROUPS:
        raise SourceError(f"{views[0].patient} is of group '{group}', none of {', '.join(GROUPS)}")
    known = [listener.listen(view.exam) for view in views]
    rows = [part.reshape(*part.shape[:2], WIDTH) for part in known]
    frames.add(
        np.concatenate([part.reshape(-1, WIDTH) for part in rows]),
        np.concatenate([_places(view).reshape(-1) for view in views]),
    )
    slices.add(
        np.concatenate([part.mean(axis=1) for part in rows]),
        np.concatenate([np.arange(len(part)) for part in rows]),
    )
    seen = np.concatenate([_frames(with_mean(part)) for part in known]).astype(np.float16)
    shares = np.concatenate([_frames(view.shares) for view in views])
    whole = next(part for part, view in zip(known, views, strict=True) if view.view == WHOLE.name)
    return PatientFrames(views[0].patient, GROUPS.index(group), seen, shares, whole)


def _frames(array: NDArray[Any]) -> NDArray[Any]:
    """Put slices and phases into one: (slices, phases, ...) to (frames, ...)."""
    return array.reshape(-1, *array.shape[2:])


def _places(view: SeenExam) -> NDArray[np.int64]:
    """Give frames numbers: the same for the same slice and phase in every view."""
    slices = np.arange(view.exam.n_slices)[:, None]
    return slices * 100_000 + view.phases


def _train(patients: Sequence[PatientFrames], plan: MixerTraining, tell: Tell) -> TokenMixer:
    seen = np.concatenate([patient.seen for patient in patients])
    shares = np.concatenate([patient.shares for patient in patients])
    return train_mixer(seen, shares, plan, tell)


def _reader(mixer: TokenMixer) -> TokenReader:
    return TokenReader(mixer.arrays())


def _regress(
    features: Doubles, groups: NDArray[np.int64], folds: NDArray[np.int64]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Choose a penalty over the folds, and fit the regression of all patients."""
    likely = {penalty: _held_out(features, groups, folds, penalty) for penalty in PENALTIES}
    losses = {
        penalty: float(-np.log(found[np.arange(len(groups)), groups]).mean())
        for penalty, found in likely.items()
    }
    penalty = min(PENALTIES, key=lambda choice: losses[choice])
    right = likely[penalty].argmax(axis=1) == groups
    mean, scale = _scaling(features)
    scaled = (features - mean) / scale
    weights, bias = fit_regression(scaled, groups, len(GROUPS), penalty)
    covariance = scaled.T @ scaled / len(scaled)
    spread = np.linalg.inv(covariance + RIDGE * np.eye(FEATURES))
    farthest = np.einsum("ni,ij,nj->n", scaled, spread, scaled).max()
    head = {
        "head_mean": mean, "head_scale": scale, "head_spread": spread,
        "head_farthest": farthest, "head_weights": weights, "head_bias": bias,
    }  # fmt: skip
    low, high = wilson_interval(int(right.sum()), len(right))
    confusion = np.zeros((len(GROUPS), len(GROUPS)), int)
    np.add.at(confusion, (groups, likely[penalty].argmax(axis=1)), 1)
    measured = {
        "patients": len(right), "folds": int(folds.max()) + 1, "right": int(right.sum()),
        "accuracy": float(right.mean()), "accuracy_95_percent": [low, high],
        "log_loss": losses[penalty], "penalty": penalty,
        "accuracy_by_penalty": {
            str(choice): float((found.argmax(axis=1) == groups).mean())
            for choice, found in likely.items()
        },
        "confusion": confusion.tolist(),
    }  # fmt: skip
    return {name: np.asarray(value, np.float32) for name, value in head.items()}, measured


def _held_out(
    features: Doubles, groups: NDArray[np.int64], folds: NDArray[np.int64], penalty: float
) -> Doubles:
    """Return the probabilities of each patient by the regression of the other folds."""
    likely = np.empty((len(groups), len(GROUPS)))
    for fold in np.unique(folds):
        others = folds != fold
        mean, scale = _scaling(features[others])
        weights, bias = fit_regression(
            (features[others] - mean) / scale, groups[others], len(GROUPS), penalty
        )
        likely[~others] = softmax((features[~others] - mean) / scale @ weights + bias)
    return likely


def _scaling(features: Doubles) -> tuple[Doubles, Doubles]:
    return features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="edge_codec.training.disease_head", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of ACDC patients")
    parser.add_argument("--splits", type=Path, required=True, help="JSON with the list 'train'")
    parser.add_argument("--cache", type=Path, required=True, help="folder of what is coded")
    parser.add_argument("--out", type=Path, required=True, help="folder of the zoo's files")
    parser.add_argument("--version", default="1.0.0", help="of the weights")
    parser.add_argument("--steps", type=int, default=MixerTraining().steps, help="of each network")
    options = parser.parse_args(arguments)
    try:
        _learn_and_write(options)
    except EdgeCodecError as error:
        raise SystemExit(f"error: {error}") from error


def _learn_and_write(options: argparse.Namespace) -> None:
    """Code the patients, learn, and write the zoo's files."""
    tokenizer = load_manifest(ModelId.TITOK).hashes[CODEBOOK]
    coder = ViewCoder(options.data, options.cache, tokenizer, load_segmenter())
    exams = {}
    for patient in training_patients(options.splits):
        exams[patient] = list(coder.see(patient, learning_views(patient)))
        _tell(f"{patient}: {len(exams[patient])} views")
    plan = Plan(mixer=replace(MixerTraining(), steps=options.steps))
    arrays, measured = learn(exams, load_codebook(), plan, _tell)
    write_zoo(options.out, arrays, measured, tokenizer, options.version)
    _tell(f"{measured['right']} of {measured['patients']} patients right over the folds")


def training_patients(splits: Path) -> list[str]:
    """Return the ACDC patients of the list 'train'.

    Raises
    ------
    SourceError
        If the file has no such list.
    """
    return [name for name in read_split(f"{splits}:train")[1] if name.startswith("patient")]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

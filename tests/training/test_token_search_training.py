"""Learning of search: each part on data of which the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from retrieval_samples import codebook, make_exam, search_model, weight_arrays

from edge_codec.errors import SourceError, TrainingError
from edge_codec.manifest import load_manifest
from edge_codec.retrieval.disease_head import GROUPS
from edge_codec.retrieval.exam_tokens import CODES, TOKENS, ExamTokens
from edge_codec.retrieval.listener import AGES, CODE_DIM, KNOWN, WIDTH, Listener
from edge_codec.retrieval.token_reader import TokenReader, with_mean
from edge_codec.retrieval.weights import make_search_model
from edge_codec.training import token_views
from edge_codec.training.discriminant import Scatter
from edge_codec.training.disease_head import (
    Plan,
    fold_of,
    learn_head,
    main,
    to_numbers,
    training_patients,
)
from edge_codec.training.disease_head_zoo import pack_weights, write_zoo
from edge_codec.training.listening import fit_basis, fit_steps, groups_of
from edge_codec.training.regression import fit_regression, softmax
from edge_codec.training.token_mixer import MixerTraining, TokenMixer, train_mixer
from edge_codec.training.token_views import (
    FIRST_HALF,
    SECOND_HALF,
    WHOLE,
    SeenExam,
    View,
    learning_views,
    moved,
    pictures_of,
    seen,
    shares_of,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_discriminant_finds_the_axis_that_parts_things():
    chance = np.random.default_rng(0)
    things = np.repeat(np.arange(50), 6)
    rows = chance.normal(size=(300, 8)).astype(np.float32)
    rows[:, 0] *= 100  # loud, and says nothing
    rows[:, 3] = 0.1 * rows[:, 3] + chance.normal(size=50)[things]
    scatter = Scatter(8)
    scatter.add(rows[:120], things[:120])
    scatter.add(rows[120:], things[120:])
    mean, axes = scatter.axes(2, 1e-6)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-3, atol=1e-3)
    assert np.abs(axes[:, 0]).argmax() == 3
    # In units of the spread within things.
    assert np.abs(np.delete(axes[:, 0], 3)).max() < 0.1 * axes[3, 0]


def test_the_discriminant_needs_more_rows_than_axes():
    scatter = Scatter(8)
    scatter.add(np.ones((3, 8), np.float32), np.arange(3))
    with pytest.raises(TrainingError, match="3 rows"):
        scatter.axes(4, 0.1)


def test_the_regression_is_at_its_minimum():
    chance = np.random.default_rng(1)
    rows, classes = chance.normal(size=(60, 3)), chance.integers(4, size=60)
    rows[:, 0] += classes
    weights, bias = fit_regression(rows, classes, 4, 0.05)

    def cost(change):
        likely = softmax(rows @ (weights + change) + bias)
        fit = -np.log(likely[np.arange(60), classes]).mean()
        return fit + 0.025 * np.square(weights + change).sum()

    least = cost(0)
    for _ in range(20):
        assert cost(0.01 * chance.normal(size=weights.shape)) > least
    assert (softmax(rows @ weights + bias).argmax(axis=1) == classes).mean() > 0.35


def test_the_mixer_and_its_twin_without_torch_agree():
    torch.manual_seed(0)
    mixer = TokenMixer().eval()
    known = np.random.default_rng(0).normal(size=(1, 5, TOKENS, KNOWN)).astype(np.float32)
    with torch.no_grad():
        expected = mixer(torch.from_numpy(with_mean(known))[0]).numpy()
    np.testing.assert_allclose(TokenReader(mixer.arrays()).shares(known)[0], expected, atol=2e-6)


def test_the_mixer_learns_and_is_the_same_every_time():
    chance = np.random.default_rng(2)
    known = chance.normal(size=(1, 64, TOKENS, KNOWN)).astype(np.float32)
    shares = np.zeros((64, TOKENS, 3), np.float16)
    shares[..., 2] = known[0, ..., 0] > 0
    plan = MixerTraining(steps=20, batch=8, rate=1e-2, noise=0)
    mixers = [train_mixer(with_mean(known)[0].astype(np.float16), shares, plan) for _ in range(2)]
    found = [TokenReader(mixer.arrays()).shares(known)[0] for mixer in mixers]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0][..., 0].mean() < 0.1
    right = (found[0][..., 2] > 0.5) == (shares[..., 2] > 0.5)
    assert right.mean() > 0.6


def test_halves_of_a_cycle_share_no_phase_and_leave_none_out():
    for n_phases in range(2, 40):
        both = np.concatenate([FIRST_HALF.phases(n_phases), SECOND_HALF.phases(n_phases)])
        np.testing.assert_array_equal(both, np.arange(n_phases))
        np.testing.assert_array_equal(WHOLE.phases(n_phases), np.arange(n_phases))


def test_views_to_learn_from_are_the_same_every_time():
    assert learning_views("patient001") == learning_views("patient001")
    assert learning_views("patient001") != learning_views("patient002")


def spot():
    voxels = np.full((1, 1, 64, 64), 10, np.int16)
    voxels[0, 0, 30:34, 30:34] = 200
    return voxels


def test_a_shift_goes_right_and_down():
    there = moved(spot(), View("v", shift=(0.25, 0.125)), "bilinear")[0, 0]
    rows, columns = np.nonzero(there > 100)
    assert (rows.mean(), columns.mean()) == (31.5 + 8, 31.5 + 16)


def test_a_larger_scale_enlarges_and_gamma_keeps_the_window():
    larger = seen(spot(), View("v", scale=2.0))
    assert larger.dtype == np.int16
    assert (larger > 100).sum() == pytest.approx(4 * 16, abs=8)
    ramp = np.arange(4096, dtype=np.int16).reshape(1, 1, 64, 64)
    dark = seen(ramp, View("v", gamma=2.0))
    assert abs(int(dark[0, 0, 63, 50]) - int(ramp[0, 0, 63, 50])) < 60
    assert dark[0, 0, 32, 0] == pytest.approx(1024, abs=20)
    assert seen(ramp, WHOLE) is ramp


def test_shares_are_those_of_the_places():
    labels = np.zeros((1, 1, 128, 128), np.uint8)
    labels[0, 0, 16:32, 32:48] = 3  # the left half of place 5
    labels[0, 0, :16, :32] = 1
    shares = shares_of(labels)[0, 0].astype(float)
    assert shares[5, 2] == pytest.approx(0.5, abs=1e-3)
    assert shares[0, 0] == pytest.approx(1)
    assert shares.sum() == pytest.approx(1.5, abs=1e-2)


def test_pictures_are_those_of_the_places():
    voxels = np.zeros((1, 1, 128, 128), np.int16)
    voxels[0, 0, 20:24, 40:44] = 100  # in place 5: row 1, column 2 of its coarse picture
    voxels[0, 0, 112:, 96:] = 100  # all of place 31
    picture = pictures_of(voxels)[0, 0]
    assert picture.shape == (TOKENS, 32)
    assert picture[5, 10] == picture[31].min() == picture.max()
    assert (picture > 0).sum() == 33


def test_the_basis_gives_components_of_variance_one():
    chance = np.random.default_rng(3)
    pictures = np.clip(chance.normal(100, 5, (500, 4, 32)) + 30 * chance.normal(size=(500, 4, 1)),
                       0, 255).astype(np.uint8)  # fmt: skip
    basis = fit_basis([pictures[:100], pictures[100:]])
    components = basis.components(pictures).reshape(-1, KNOWN)
    np.testing.assert_allclose(components.T @ components / 2000, np.eye(KNOWN), atol=1e-3)
    assert np.corrcoef(components[:, 0], pictures.mean(axis=2).ravel())[0, 1] > 0.99


def test_the_listener_learns_a_predictive_code():
    """Codes that tell, at each age in another way, what is new: the truth can be followed."""
    chance = np.random.default_rng(4)
    truth = np.cumsum(chance.normal(size=(6, 20, TOKENS, KNOWN)), axis=1).astype(np.float32)
    news = np.diff(truth, axis=1, prepend=np.zeros_like(truth[:, :1]))
    keys = np.zeros((6, 20), bool)
    keys[:, [0, 15]] = True
    news[:, 15] = truth[:, 15]
    ways = [np.linalg.qr(chance.normal(size=(CODE_DIM, KNOWN)))[0] for _ in range(AGES)]
    ages = [*range(15), *range(5)]
    codes = np.stack([news[:, t] @ ways[min(ages[t], AGES - 1)] for t in range(20)], axis=1)
    groups = groups_of(codes.astype(np.float32), truth, keys)
    assert sorted(len(group.codes) for group in groups) == [5] * 6 + [15] * 6
    steps = fit_steps(groups)
    book = np.zeros((CODES, CODE_DIM), np.float32)
    tokens = np.arange(TOKENS * 20).reshape(1, 20, TOKENS).astype(np.uint16)
    book[tokens[0]] = codes[0]
    known = Listener(book, steps).listen(ExamTokens(tokens, keys[:1]))
    assert np.square(known[0] - truth[0]).mean() < 0.01 * truth[0].var()


def test_the_listener_learns_from_short_groups():
    exam = make_exam(1, 1, 3)
    truth = np.ones((1, 3, TOKENS, KNOWN), np.float32)
    steps = fit_steps(groups_of(codebook()[exam.tokens], truth, exam.keys))
    np.testing.assert_array_equal(steps[3:], np.broadcast_to(steps[2], steps[3:].shape))
    with pytest.raises(TrainingError, match="more exams"):
        fit_steps([])


def test_a_view_is_coded_once(tmp_path, monkeypatch):
    calls = []

    def code_view(voxels, labels, view):
        calls.append(view.name)
        shares = np.zeros((1, 2, TOKENS, 3), np.float16)
        pictures = np.zeros((1, 2, TOKENS, 32), np.uint8)
        return token_views.CodedView(make_exam(1, 1, 2), np.arange(2), shares, pictures)

    class Patient:
        voxels = np.zeros((1, 4, 8, 8), np.int16)
        info = type("Info", (), {"group": "RV"})

    class NoHeart:
        def exam(self, voxels):
            return np.zeros(voxels.shape, np.uint8)

    monkeypatch.setattr(token_views, "code_view", code_view)
    monkeypatch.setattr(token_views, "read_patient", lambda folder, partial: Patient)
    for _ in range(2):
        coder = token_views.ViewCoder(tmp_path, tmp_path / "cache", "ab" * 32, NoHeart())
        both = list(coder.see("patient001", [WHOLE, SECOND_HALF]))
        assert [(exam.patient, exam.group, exam.view) for exam in both] == [
            ("patient001", "RV", "whole"), ("patient001", "RV", "second-half")
        ]  # fmt: skip
        np.testing.assert_array_equal(both[0].exam.tokens, make_exam(1, 1, 2).tokens)
    assert calls == ["whole", "second-half"]


def test_folds_deal_out_every_group_evenly():
    groups = np.repeat(np.arange(5), 14)
    folds = fold_of(groups, 5)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (groups, folds), 1)
    assert counts.min() >= 2
    assert counts.max() <= 3


def known_exams():
    """Patients whose first token says how large the heart is, by group."""
    exams = {}
    for number in range(15):
        group = number % 5
        views = []
        for view in ("whole", "second-half"):
            exam = make_exam((number, len(view)), 2, 6)
            exam.tokens[..., ::2] = 50 * (group + 1)
            shares = np.full((2, 6, TOKENS, 3), 0.05 + 0.15 * group, np.float16)
            pictures = np.zeros((2, 6, TOKENS, 32), np.uint8)
            views.append(
                SeenExam(f"p{number}", GROUPS[group], view, exam, np.arange(6), shares, pictures)
            )
        exams[f"p{number}"] = views
    return exams


def test_all_is_learned_and_comes_back_from_the_zoo(tmp_path):
    listener, scatters = search_model().listener, (Scatter(WIDTH), Scatter(WIDTH))
    patients = [to_numbers(views, listener, *scatters) for views in known_exams().values()]
    told = []
    plan = Plan(folds=3, mixer=MixerTraining(steps=30, batch=8, rate=1e-2))
    head, measured = learn_head(patients, plan, told.append)
    arrays = {**weight_arrays(), **head}
    assert measured["patients"] == 15
    assert measured["right"] >= 7  # by chance 3
    assert len(told) == 4
    assert np.sum(measured["confusion"]) == 15
    write_zoo(tmp_path / "disease_head", arrays, measured, "cd" * 32, "9.9.9")
    make_search_model(arrays, codebook(), "new")
    manifest = load_manifest("disease_head", tmp_path)
    assert manifest.read("head.npz") == pack_weights(arrays, "cd" * 32)
    assert "non-commercial" in (tmp_path / "disease_head" / "LICENSE-WEIGHTS").read_text()
    assert "9.9.9" in (tmp_path / "disease_head" / "MODEL_CARD.md").read_text()


def test_an_unknown_group_is_refused():
    views = known_exams()["p0"]
    odd = replace(views[0], group="XYZ")
    with pytest.raises(SourceError, match="XYZ"):
        to_numbers([odd], search_model().listener, Scatter(WIDTH), Scatter(WIDTH))


def test_only_acdc_patients_are_learned_from(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": ["patient002", "SCD0000101", "patient001"]}))
    assert training_patients(path) == ["patient001", "patient002"]


def test_a_damaged_file_of_the_cache_is_named(tmp_path):
    coder = token_views.ViewCoder(tmp_path / "data", tmp_path / "cache", "0" * 64, None)
    path = tmp_path / "cache" / ("0" * 16) / "patient001-whole.npz"
    np.savez(path, group="NOR")
    whole = path.read_bytes()
    for data in (b"", b"PK", whole[:-30], whole):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"patient001-whole\.npz is damaged .*; delete it"):
            list(coder.see("patient001", [WHOLE]))


def test_voxels_that_are_nearly_all_the_same_keep_their_contrast():
    voxels = np.zeros((1, 2, 60, 60), np.int16)
    voxels[0, 0, 30, 30] = 900
    assert seen(voxels, View("gamma", gamma=0.8)).max() == 900


def test_the_command_says_in_a_line_what_is_wrong(tmp_path):
    paths = {"--data": "data", "--splits": "none.json", "--cache": "cache", "--out": "out"}
    arguments = [text for name, path in paths.items() for text in (name, str(tmp_path / path))]
    with pytest.raises(SystemExit, match=r"error: --split .* cannot be read"):
        main(arguments)
    assert not (tmp_path / "out").exists()

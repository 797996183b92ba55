"""Labeled frames are read with their window, changed together, learned, and resumed to the bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")

from acdc_samples import write_nifti  # noqa: E402
from segmentation_samples import CONFIG, heart, tiny_config, write_case, write_data  # noqa: E402

from edge_codec.errors import SourceError, SpecError  # noqa: E402
from edge_codec.nn.segmentation import SegmentationConfig, SegmentationNetwork  # noqa: E402
from edge_codec.runtime.segmenter import exam_window, window_codes  # noqa: E402
from edge_codec.training.segmentation import (  # noqa: E402
    Trainer,
    load_network,
    main,
    read_config,
    train,
)
from edge_codec.training.segmentation_augment import (  # noqa: E402
    LabeledFrame,
    cut,
    draw_batch,
    frames_of,
)
from edge_codec.training.segmentation_data import read_cases, read_labeled  # noqa: E402
from edge_codec.training.segmentation_measure import (  # noqa: E402
    mean_dice,
    segmentation_loss,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def test_frames_have_the_window_of_their_exam(data: Path) -> None:
    volumes = read_labeled(data, ["patient001", "patient999"])
    names = [(volume.group, volume.name) for volume in volumes]
    assert names == [
        ("acdc", "patient001_frame01"),
        ("acdc", "patient001_frame03"),
        ("fullfov", "patient001_frame01"),
    ]
    exam = np.stack([heart(36, 40, radius, 0)[0] for radius in (8, 6, 5, 7)])
    samples, labels = heart(36, 40, 5, 0)
    np.testing.assert_array_equal(volumes[1].labels[0], labels)
    np.testing.assert_array_equal(volumes[1].codes[0], window_codes(samples, exam_window(exam)))
    samples, labels = heart(70, 60, 9, 100)
    np.testing.assert_array_equal(volumes[2].labels[0], labels)
    np.testing.assert_array_equal(volumes[2].codes[0], window_codes(samples, exam_window(samples)))


def test_problems_of_the_data_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no labeled frames"):
        read_labeled(tmp_path)
    write_case(tmp_path, "patient002", 0)
    labels = tmp_path / "acdc" / "patient002" / "patient002_frame03_gt.nii.gz"
    write_nifti(labels, np.full((40, 36, 1), 4, np.uint8))
    with pytest.raises(SourceError, match=r"patient002_frame03_gt.nii.gz: labels 4 to 4"):
        read_labeled(tmp_path)
    for value, dtype in ((-1, np.int16), (1.5, np.float32), (np.nan, np.float32)):
        write_nifti(labels, np.full((40, 36, 1), value, dtype))
        with pytest.raises(SourceError, match="expected whole numbers from 0 to 3"):
            read_labeled(tmp_path)
    write_nifti(labels, np.zeros((40, 36, 1, 2), np.uint8))
    with pytest.raises(SourceError, match="expected one phase"):
        read_labeled(tmp_path)
    write_nifti(labels, np.zeros((36, 40, 1), np.uint8))
    with pytest.raises(SourceError, match=r"shape \(1, 1, 40, 36\) for a frame of shape"):
        read_labeled(tmp_path)
    labels.unlink()
    (labels.parent / "patient002_4d.nii.gz").unlink()
    with pytest.raises(SourceError, match=r"patient002_4d.nii.gz does not exist"):
        read_labeled(tmp_path)


def test_splits_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["a"]}')
    assert read_cases(path, "train") == ["a"]
    with pytest.raises(SourceError, match="no list of 'test' cases"):
        read_cases(path, "test")


def test_a_square_is_where_the_labels_are(data: Path) -> None:
    options = tiny_config().augment
    options = dataclasses.replace(options, heart_chance=1.0, heart_spread_px=0.0)
    for frame in frames_of(read_labeled(data)):
        codes, labels = cut(frame, options, np.random.default_rng(1))
        side = int(options.size * options.margin)
        assert codes.shape == labels.shape == (side, side)
        assert (labels > 0).sum() > 0.6 * (frame.labels > 0).sum()
        bright = codes > 100
        assert bright[np.isin(labels, (1, 3))].all()
        assert not bright[labels == 2].any()


def test_a_square_is_centered_on_the_heart() -> None:
    options = dataclasses.replace(tiny_config().augment, heart_chance=1.0, heart_spread_px=0.0)
    labels = np.zeros((120, 100), np.uint8)
    labels[70:81, 25:36] = 1
    _, found = cut(LabeledFrame("acdc", labels, labels), options, np.random.default_rng(0))
    np.testing.assert_array_equal(np.argwhere(found).mean(axis=0), np.array(found.shape) // 2)


def test_images_and_labels_move_together_and_stay_codes(data: Path) -> None:
    options = tiny_config().augment
    frames = frames_of(read_labeled(data))
    images, labels = draw_batch(frames, options, 12, np.random.default_rng(3))
    assert images.shape == (12, 1, 32, 32)
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}
    codes = images * 128
    assert torch.equal(codes, codes.round())
    assert 0 <= codes.min() <= codes.max() <= 255
    inside = images[:, 0][labels == 3].mean()
    wall = images[:, 0][labels == 2].mean()
    assert inside > 2 * wall
    again, _ = draw_batch(frames, options, 12, np.random.default_rng(3))
    assert torch.equal(images, again)


def test_labels_are_never_mixed() -> None:
    options = tiny_config().augment
    labels = np.zeros((50, 50), np.uint8)
    labels[10:40, 10:40] = 3
    frame = LabeledFrame("acdc", labels, labels)
    _, moved = draw_batch([frame], options, 4, np.random.default_rng(0))
    assert moved.unique().tolist() == [0, 3]


def test_small_frames_are_extended() -> None:
    options = tiny_config().augment
    frame = LabeledFrame("acdc", np.full((9, 60), 5, np.uint8), np.full((9, 60), 3, np.uint8))
    sums = set()
    for seed in range(8):
        codes, labels = cut(frame, options, np.random.default_rng(seed))
        side = int(options.size * options.margin)
        assert codes.shape == labels.shape == (side, side)
        assert (labels == 3).sum() == 9 * side
        sums.add(int(codes.sum()))
    assert sums == {5 * 9 * side, 5 * side * side}  # black, or repeated


def test_the_loss_is_least_where_every_pixel_is_right() -> None:
    labels = torch.tensor([[[0, 1], [2, 3]]])
    weights = torch.ones(4)
    right = 20.0 * torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert float(segmentation_loss(right, labels, weights)) < 1e-3
    nothing = torch.zeros(1, 4, 2, 2)
    # Cross-entropy log 4; of each class one pixel, found with 1/4 in each of four.
    expected = np.log(4) + 1 - (2 * 0.25 + 1) / (1 + 1 + 1)
    assert float(segmentation_loss(nothing, labels, weights)) == pytest.approx(expected)


def test_dice_is_of_a_volume_and_absent_classes_count_as_found(data: Path) -> None:
    volume = read_labeled(data, ["patient001"])[0]
    stacked = dataclasses.replace(
        volume,
        codes=np.concatenate([volume.codes, volume.codes]),
        labels=np.concatenate([volume.labels, np.zeros_like(volume.labels)]),
    )
    truth = np.where(volume.labels[0] == 1, 0, volume.labels[0])
    found = mean_dice(lambda codes: truth, [stacked])
    assert found == {"acdc": [0.0, pytest.approx(2 / 3), pytest.approx(2 / 3)]}
    empty = dataclasses.replace(volume, labels=np.zeros_like(volume.labels))
    assert mean_dice(lambda codes: np.zeros_like(codes), [empty]) == {"acdc": [1.0, 1.0, 1.0]}


def test_it_learns_rings(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = tiny_config(
        steps=45, batch=4, learning_rate=1e-2, ema_decay=0.9, log_every=15, validate_every=45
    )
    trainer = Trainer(config, tmp_path)
    train(trainer, read_labeled(data))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [15, 30, 45]
    assert rows[2]["loss"] < 0.6 * rows[0]["loss"]
    assert rows[2]["lr"] == pytest.approx(config.train.final_learning_rate)
    assert set(rows[2]["dice"]) == {"acdc", "fullfov"}
    assert rows[2]["dice"]["acdc"][2] > 0.5
    network = load_network(tmp_path / "averaged.pt")
    assert not network.training


def test_resumed_training_is_the_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    volumes = read_labeled(data)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(Trainer(tiny_config(), whole), volumes)
    halted = Trainer(tiny_config(), parts)
    halted.train_step(frames_of([one for one in volumes if one.case != "patient014"]))
    halted.save()
    resumed = Trainer(tiny_config(), parts)
    resumed.resume()
    assert resumed.step == 1
    train(resumed, volumes)
    one, other = (torch.load(p / "averaged.pt", weights_only=True) for p in (whole, parts))
    assert one["step"] == other["step"] == 3
    for name, value in one["state"].items():
        assert torch.equal(value, other["state"][name]), name


def test_averages_follow_the_statistics_of_normalization(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(ema_decay=0.5), tmp_path)
    before = {name: value.clone() for name, value in trainer.averaged.values.items()}
    trainer.train_step(frames_of(read_labeled(data)))
    name = "stem.norm.running_var"
    current = trainer.network.state_dict()[name]
    # After the first step the decay is 1/10.
    expected = 0.1 * before[name] + 0.9 * current
    torch.testing.assert_close(trainer.averaged.values[name], expected)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot resume"):
        Trainer(tiny_config(), tmp_path).resume()
    Trainer(tiny_config(), tmp_path).save()
    other = dataclasses.replace(tiny_config(), widths=(4, 4, 4, 4))
    with pytest.raises(SourceError, match="cannot resume"):
        Trainer(other, tmp_path).resume()
    with pytest.raises(SourceError, match="no segmentation network"):
        load_network(tmp_path / "checkpoint.pt")


def test_a_case_is_needed_that_is_not_held_out(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="all cases are held out"):
        train(Trainer(tiny_config(), tmp_path), read_labeled(data, ["patient014"]))


def test_the_shipped_configuration_is_that_of_the_shipped_weights() -> None:
    config = read_config(CONFIG)
    assert config.widths == SegmentationConfig().widths
    weights = Path(__file__).parents[2] / "checkpoints" / "segmentation-1.0.0-float.pt"
    content = torch.load(weights, weights_only=True)
    assert content["step"] == config.train.steps
    SegmentationNetwork(SegmentationConfig(config.widths)).load_state_dict(content["state"])


def test_a_configuration_with_a_wrong_field_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(CONFIG.read_text())
    content["train"]["speed"] = 1
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match="speed"):
        read_config(path)


def test_the_command_trains_and_goes_on(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    plain = dataclasses.asdict(tiny_config())
    config.write_text(yaml.safe_dump(json.loads(json.dumps(plain))))
    out = tmp_path / "out"
    call = ["--config", str(config), "--data", str(data), "--out", str(out), "--threads", "1"]
    main([*call, "--steps", "1"])
    main([*call, "--steps", "2", "--resume"])
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    with pytest.raises(SystemExit, match=r"error: .* holds no labeled frames"):
        main([*call[:2], "--data", str(tmp_path), "--out", str(out)])

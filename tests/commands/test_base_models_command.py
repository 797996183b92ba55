"""`compress`, `decompress` and `info` with every model that has qualities, on real cine."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.header import pack_header
from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.io.samples import to_voxels

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES, SIDE = 5, 64


def run(*arguments) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


def voxels(path: Path) -> np.ndarray:
    source = open_source(path)
    return np.stack([to_voxels(frame.samples, source.info) for frame in source.frames()])


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> Path:
    """The heart of the example: two slices, some phases."""
    frames = voxels(EXAMPLE)[: 2 * PHASES, 96 : 96 + SIDE, 96 : 96 + SIDE]
    path = tmp_path_factory.mktemp("heart") / "heart.npy"
    np.save(path, frames.reshape(PHASES, 2, SIDE, SIDE).swapaxes(0, 1))
    return path


def coded(heart: Path, folder: Path, *options) -> tuple[dict, dict, np.ndarray]:
    """Compress and decompress; return what is reported, what `info` says, and the voxels."""
    stream, back = folder / "a.ecd", folder / "a.npy"
    status, out, err = run("compress", heart, stream, "--json", "--force", *options)
    assert (status, err) == (ExitStatus.OK, "")
    info = json.loads(run("info", stream, "--json")[1])
    assert run("verify", stream, "--decode")[0] == ExitStatus.OK
    assert run("decompress", stream, back, "--force")[0] == ExitStatus.OK
    return json.loads(out), info, voxels(back)


def psnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    error = found.astype(float) - expected
    return 10 * math.log10(int(expected.max()) ** 2 / (error**2).mean())


FAST = ["--effort", "fast"]
MODELS = {
    "dwt-cal": ["--model", "dwt-cal", *FAST],
    "archive": ["--model", "dwt-cal", *FAST, "--archive"],
    "video": ["--model", "video", *FAST],
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_base_layer_alone(heart, tmp_path, options):
    report, info, back = coded(heart, tmp_path, *options)
    expected = voxels(heart)
    found = report["psnr_db_of_the_whole_exam_peak_its_maximum"]
    assert found == pytest.approx(psnr_db(back, expected))
    assert found > 35
    assert report["bits_per_voxel"] < 2
    assert report["promise"].startswith("none: base layer of a model")
    for field in ("promise", "model", "order", "effort"):
        assert info[field] == report[field]
    assert report["model"] == options[1]
    assert report["order"].startswith("archive" if "--archive" in options else "low delay")


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("bound", [0, 3])
def test_promises_hold_over_every_base_layer(heart, tmp_path, options, bound):
    promise = ["--max-error", bound] if bound else ["--lossless"]
    promise += ["--base-cost", 100]
    report, info, back = coded(heart, tmp_path, *options, *promise)
    error = np.abs(back.astype(int) - voxels(heart))
    assert error.max() == bound
    assert info["max_error"] == bound
    assert "psnr_db_of_the_whole_exam_peak_its_maximum" not in report
    stream, preview = tmp_path / "a.ecd", tmp_path / "preview.npy"
    assert run("decompress", stream, preview, "--preview")[0] == ExitStatus.OK
    assert psnr_db(voxels(preview), voxels(heart)) > 35


def test_snr_loss_over_a_base_layer(heart, tmp_path):
    report, info, back = coded(heart, tmp_path, "--model", "dwt-cal", *FAST, "--snr-loss", 20)
    assert report["max_error"] == info["max_error"] > 0
    assert np.abs(back.astype(int) - voxels(heart)).max() <= report["max_error"]


@pytest.mark.parametrize("archive", [[], ["--archive"]])
def test_quality_is_size_and_distance(heart, tmp_path, archive):
    found = []
    for quality in (0, 20, 40, 63):
        options = ["--model", "dwt-cal", "--quality", quality, *FAST, *archive]
        report, info, back = coded(heart, tmp_path, *options)
        coarse, fine = info["quantizer_range"]
        found.append((report["stream_bytes"], psnr_db(back, voxels(heart)), -coarse, -fine))
    for column in zip(*found, strict=True):
        assert list(column) == sorted(set(column))


@pytest.mark.parametrize(
    ("encoder", "codec", "bits", "makers"),
    [
        ("x265", "hevc", 12, "x265"),
        ("x265-main10", "hevc", 10, "x265-main10 or nvenc"),
        ("svt-av1", "av1", 10, "svt-av1"),
    ],
)
def test_info_says_which_video_it_is(heart, tmp_path, encoder, codec, bits, makers):
    _, info, _ = coded(heart, tmp_path, *MODELS["video"], "--video-encoder", encoder)
    assert (info["video_codec"], info["video_bits_per_sample"]) == (codec, bits)
    assert info["video_rows_columns"] == [SIDE, SIDE]
    assert info["video_encoder"] == makers
    assert (info["video_parameter_set_bytes"] > 0) == (codec == "hevc")
    shown = run("info", tmp_path / "a.ecd")[1]
    assert re.search(rf"^video codec +{codec}$", shown, re.MULTILINE)
    _, info, _ = coded(heart, tmp_path, *MODELS["dwt-cal"])
    assert not [field for field in info if field.startswith("video")]


def test_info_of_a_video_that_this_version_does_not_know(heart, tmp_path):
    path = tmp_path / "a.ecd"
    run("compress", heart, path, *MODELS["video"])
    with path.open("rb") as file:
        spec = StreamReader(file).spec
    header = pack_header(spec)
    other = pack_header(replace(spec, model_data=b"\x63" + spec.model_data[1:]))
    path.write_bytes(other + path.read_bytes()[len(header) :])
    status, out, _ = run("info", path, "--json")
    assert status == ExitStatus.OK
    assert "names video format 99" in json.loads(out)["video_codec"]


def test_bits_per_frame_are_kept_to(heart, tmp_path):
    sizes = []
    for bits in (1500, 6000):
        options = ["--model", "dwt-cal", *FAST, "--bits-per-frame", bits]
        report, info, _ = coded(heart, tmp_path, *options)
        check = 2  # bytes of a frame's layer that are no payload
        sizes.append(8 * (info["layer_bytes"]["base"] / info["frames"] - check))
        assert report["bits_per_frame_asked_for"] == bits
        assert report["bits_per_frame_mean"] == pytest.approx(sizes[-1])
        assert sizes[-1] < report["bits_per_frame_largest"] < 32 * bits
        assert report["frames_over_the_buffer"] == 0
    assert sizes[0] < 0.7 * sizes[1]
    assert sizes[1] < 2 * 6000


def test_bits_per_frame_that_cannot_be_kept_to_are_said(heart, tmp_path):
    np.save(tmp_path / "long.npy", np.tile(np.load(heart), (1, 8, 1, 1)))
    options = ["--model", "dwt-cal", *FAST, "--bits-per-frame", 8, "--key-interval", 1]
    status, out, _ = run("compress", tmp_path / "long.npy", tmp_path / "a.ecd", *options)
    assert status == ExitStatus.OK
    fields = dict(line.split("  ", 1) for line in out.splitlines())
    assert int(fields["frames over the buffer"]) > 0
    assert float(fields["bits per frame mean"]) > 8


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_target_is_reached_with_the_least_quality(heart, tmp_path, options):
    report, _, back = coded(heart, tmp_path, *options, "--psnr", 37)
    assert psnr_db(back, voxels(heart)) >= 37
    less = report["quality"] - 1
    _, _, worse = coded(heart, tmp_path, *options, "--quality", less)
    assert psnr_db(worse, voxels(heart)) < 37


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--quality", 9], ExitStatus.INPUT, "no choice of quality"),
        (["--model", "vqvae", "--bits-per-frame", 900], ExitStatus.INPUT, "bits per frame"),
        (["--model", "dwt-cal", "--quality", 64], ExitStatus.INPUT, "integer of 0 to 63"),
        (["--model", "video", "--archive"], ExitStatus.INPUT, "no archive order"),
        (["--archive"], ExitStatus.INPUT, "no archive order"),
        (["--model", "dwt-cal", "--backend", "openvino"], ExitStatus.INPUT, "has no networks"),
        (["--psnr", 40], ExitStatus.INPUT, "no choice of quality"),
        (["--model", "dwt-cal", "--psnr", 40, "--lossless"], ExitStatus.INPUT, "base layer alone"),
        (["--model", "dwt-cal", "--psnr", 400], ExitStatus.INPUT, "quality 63 reaches"),
        (["--model", "dwt-cal", "--archive", "--key-interval", 65], ExitStatus.INPUT, "at most 64"),
    ],
)
def test_options_that_make_no_sense(heart, tmp_path, options, status, message):
    found, _, err = run("compress", heart, tmp_path / "a.ecd", *FAST, *options)
    assert found == status
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [["--bits-per-frame", 900], ["--psnr", 40]])
def test_aims_that_exclude_each_other(heart, tmp_path, capsys, other):
    options = ["--model", "dwt-cal", "--quality", 9, *other]
    assert run("compress", heart, tmp_path / "a.ecd", *options)[0] == ExitStatus.USAGE
    assert "not allowed with" in capsys.readouterr().err


def test_a_standard_codec_that_is_not_there(heart, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, err = run("compress", heart, tmp_path / "a.ecd", "--model", "video")
    assert status == ExitStatus.ENGINE
    assert "pip install 'edge-codec[video]'" in err

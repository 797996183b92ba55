"""`compress --video-encoder` and files for players out of `decompress`, on real cine."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-codec[video]'")

from edge_codec.base.video.encoders import ENCODERS
from edge_codec.base.video.libav import load
from edge_codec.base.video.model import VideoModel
from edge_codec.bitstream.container import StreamReader, StreamWriter
from edge_codec.bitstream.packet import LayerId
from edge_codec.cli import Console, main
from edge_codec.codec import Encoder
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.io.samples import to_voxels

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES, SIDE = 4, 72
FAST = ["--effort", "fast"]


def run(*arguments) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


def voxels(path: Path) -> np.ndarray:
    """Return all frames, shape (phases, slices, rows, columns)."""
    source = open_source(path)
    frames = [to_voxels(frame.samples, source.info) for frame in source.frames()]
    return np.reshape(frames, (-1, source.info.n_slices, *source.info.frame_shape))


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> Path:
    """The heart of the example: two slices, some phases."""
    path = tmp_path_factory.mktemp("heart") / "heart.npy"
    np.save(path, voxels(EXAMPLE)[:PHASES, :, 96 : 96 + SIDE, 96 : 96 + SIDE].swapaxes(0, 1))
    return path


@pytest.fixture(scope="module")
def streams(heart) -> dict[str, Path]:
    """A stream of each encoder that runs anywhere, and one without model."""
    paths = {}
    for name in ("x265", "x265-main10", "svt-av1"):
        paths[name] = heart.with_name(f"{name}.ecd")
        options = ["--model", "video", "--video-encoder", name, *FAST]
        assert run("compress", heart, paths[name], *options)[0] == ExitStatus.OK
    paths["none"] = heart.with_name("none.ecd")
    assert run("compress", heart, paths["none"], *FAST)[0] == ExitStatus.OK
    return paths


def test_the_help_names_every_encoder(capsys):
    main(["compress", "--help"])
    listed = re.search(r"--video-encoder\s+([\w|-]+)", capsys.readouterr().out)
    assert listed[1].split("|") == list(ENCODERS)


def test_streams_are_of_the_encoder_that_was_chosen(heart, streams):
    formats = {"x265": 0, "x265-main10": 2, "svt-av1": 1}
    for name, number in formats.items():
        with streams[name].open("rb") as file:
            assert StreamReader(file).spec.model_data[0] == number
    usual = heart.with_name("usual.ecd")
    assert run("compress", heart, usual, "--model", "video", *FAST)[0] == ExitStatus.OK
    assert usual.read_bytes() == streams["x265"].read_bytes()


def test_a_target_psnr_is_sought_with_the_encoder(heart, tmp_path):
    options = ["--model", "video", "--video-encoder", "svt-av1", *FAST, "--psnr", 36, "--json"]
    status, out, err = run("compress", heart, tmp_path / "a.ecd", *options)
    assert (status, err) == (ExitStatus.OK, "")
    report = json.loads(out)
    assert report["psnr_db_of_the_whole_exam_peak_its_maximum"] >= 36
    less = ["--quality", report["quality"] - 1, "--json", *options[:6]]
    found = json.loads(run("compress", heart, tmp_path / "b.ecd", *less)[1])
    assert found["psnr_db_of_the_whole_exam_peak_its_maximum"] < 36


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("x265", ".mp4"), ("x265", ".mkv"), ("x265-main10", ".mp4"), ("svt-av1", ".mp4"),
     ("svt-av1", ".mkv"), ("svt-av1", ".webm"), ("svt-av1", ".ivf")],
)  # fmt: skip
def test_players_see_the_slice_that_was_chosen(streams, tmp_path, name, suffix):
    target, back = tmp_path / f"slice{suffix}", tmp_path / "back.npy"
    status, out, err = run("decompress", streams[name], target, "--slice", 1, "--json")
    assert (status, err) == (ExitStatus.OK, "")
    report = json.loads(out)
    assert (report["slice"], report["frames"]) == (1, PHASES)
    assert report["promise"].startswith("none: base layer of a model")
    assert run("decompress", streams[name], back)[0] == ExitStatus.OK
    stored = np.load(back)[1]
    with load().open(str(target)) as file:
        video = file.streams.video[0]
        if suffix == ".mp4":
            assert video.codec_context.codec_tag == ("av01" if name == "svt-av1" else "hvc1")
        shown = [np.frombuffer(frame.planes[0], np.uint16) for frame in file.decode(video)]
    assert len(shown) == PHASES
    low = int(voxels(EXAMPLE)[:PHASES, :, 96 : 96 + SIDE, 96 : 96 + SIDE].min())
    up = (12 if name == "x265" else 10) - int(stored.max() - low).bit_length()
    for words, frame in zip(shown, stored, strict=True):
        levels = words.reshape(SIDE, -1)[:, :SIDE].astype(int)
        np.testing.assert_allclose(levels / (1 << up), frame - low, atol=0.5)


def test_a_residual_layer_is_left_out(heart, streams, tmp_path):
    both = tmp_path / "both.ecd"
    options = ["--model", "video", *FAST, "--lossless"]
    assert run("compress", heart, both, *options)[0] == ExitStatus.OK
    for stream in (both, streams["x265"]):
        target = tmp_path / f"{stream.stem}.mkv"
        assert run("decompress", stream, target, "--slice", 0)[0] == ExitStatus.OK
    assert (tmp_path / "both.mkv").read_bytes() == (tmp_path / "x265.mkv").read_bytes()


def test_groups_without_base_layer_cannot_be_shown(tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, (1, 3, 64, 64), np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    options = ["--model", "video", *FAST, "--lossless", "--base-cost", 1]
    status, _, err = run("compress", tmp_path / "noise.npy", tmp_path / "a.ecd", *options)
    assert (status, err) == (ExitStatus.OK, "")
    status, _, err = run("decompress", tmp_path / "a.ecd", tmp_path / "a.mp4")
    assert status == ExitStatus.INPUT
    assert "phase 0 of slice 0 has no base layer" in err
    assert not (tmp_path / "a.mp4").exists()


def test_one_slice_needs_no_choice(heart, tmp_path):
    one = tmp_path / "one.npy"
    np.save(one, np.load(heart)[:1])
    assert run("compress", one, tmp_path / "a.ecd", "--model", "video", *FAST)[0] == ExitStatus.OK
    status, out, _ = run("decompress", tmp_path / "a.ecd", tmp_path / "a.mp4", "--json")
    assert (status, json.loads(out)["slice"]) == (ExitStatus.OK, 0)


def test_slices_of_a_live_stream_may_differ_in_length(heart, streams, tmp_path):
    with streams["x265"].open("rb") as file:
        whole = StreamReader(file).spec
    spec = replace(whole, info=replace(whole.info, n_phases=0))
    encoder = Encoder(spec, VideoModel(effort=spec.effort))
    frames = np.load(heart)
    with (tmp_path / "live.ecd").open("wb") as file:
        writer = StreamWriter(file, spec)
        for phase, index in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0)):
            writer.write(encoder.push(frames[index, phase], index))
        writer.close()
    for index, count in ((0, 3), (1, 2)):
        target = tmp_path / f"{index}.mp4"
        status, out, _ = run(
            "decompress", tmp_path / "live.ecd", target, "--slice", index, "--json"
        )
        assert (status, json.loads(out)["frames"]) == (ExitStatus.OK, count)


@pytest.mark.parametrize(
    ("name", "target", "options", "message"),
    [
        ("none", "a.mp4", [], "base layer 'none', which no player knows; compress with --model"),
        ("x265", "a.mp4", [], "the stream has 2; choose with --slice 0 to 1"),
        ("x265", "a.mp4", ["--slice", 2], "it has 0 to 1"),
        ("x265", "a.mp4", ["--slice", -1], "it has 0 to 1"),
        ("x265", "a.webm", ["--slice", 0], "use a name that ends in .mp4 or .mkv"),
        ("x265", "a.npy", ["--slice", 0], "is no such file"),
        ("x265", "a.mp4", ["--slice", 0, "--recover"], "made of a whole stream"),
        ("x265", "no/a.mp4", ["--slice", 0], "cannot be written"),
    ],
)
def test_what_cannot_be_a_player_file_says_why(streams, tmp_path, name, target, options, message):
    status, out, err = run("decompress", streams[name], tmp_path / target, *options)
    assert (status, out) == (ExitStatus.INPUT, "")
    assert message in err
    assert not (tmp_path / target).exists()


def test_files_are_not_overwritten_without_force(streams, tmp_path):
    target = tmp_path / "a.mp4"
    target.write_bytes(b"mine")
    arguments = ["decompress", streams["x265"], target, "--slice", 0]
    assert "use --force" in run(*arguments)[2]
    assert target.read_bytes() == b"mine"
    assert run(*arguments, "--force")[0] == ExitStatus.OK
    assert target.stat().st_size > 100
    stream = tmp_path / "b.mp4"
    stream.write_bytes(streams["x265"].read_bytes())
    assert "the stream itself" in run("decompress", stream, stream, "--slice", 0, "--force")[2]


def test_damage_leaves_no_player_file(streams, tmp_path):
    data = bytearray(streams["x265"].read_bytes())
    data[len(data) // 2] ^= 1
    damaged, target = tmp_path / "damaged.ecd", tmp_path / "a.mp4"
    damaged.write_bytes(data)
    found = [run("decompress", damaged, target, "--slice", index)[0] for index in (0, 1)]
    assert ExitStatus.DAMAGED in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video-encoder", "svt-av1"], "takes no video encoder; use model video"),
        (["--model", "video", "--video-encoder", "h264"], "use one of x265, "),
    ],
)
def test_encoders_that_cannot_be_chosen(heart, tmp_path, options, message):
    status, _, err = run("compress", heart, tmp_path / "a.ecd", *options)
    assert status == ExitStatus.INPUT
    assert message in err


def test_what_lacks_pyav_says_how_to_get_it(streams, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, err = run("decompress", streams["x265"], tmp_path / "a.mp4", "--slice", 0)
    assert status == ExitStatus.ENGINE
    assert "pip install 'edge-codec[video]'" in err


@pytest.mark.parametrize("layer", [b"", b"x", b"xx"])
def test_a_stream_of_a_base_alone_that_lacks_a_frame_is_damaged(streams, tmp_path, layer):
    damaged = tmp_path / "a.ecd"
    with streams["x265"].open("rb") as whole, damaged.open("wb") as file:
        reader = StreamReader(whole)
        writer = StreamWriter(file, reader.spec)
        for number, packet in enumerate(reader.packets()):
            writer.write(replace(packet, layers={LayerId.BASE: layer}) if number == 4 else packet)
        writer.close()
    status, _, err = run("decompress", damaged, tmp_path / "a.mp4", "--slice", 0)
    assert (status, "video payload holds 0 pictures" in err) == (ExitStatus.DAMAGED, True)

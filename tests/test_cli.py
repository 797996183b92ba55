"""The command line, run in process: exit statuses, output, and what is left on the disk."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.runtime.ort_backend import OrtEngine

TINY = Path(__file__).parent.parent / "examples" / "tiny.nii.gz"


def run(*arguments):
    """Run one command and return (status, stdout, stderr)."""
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture
def stream(tmp_path):
    target = tmp_path / "heart.ecd"
    assert run("compress", TINY, target, "--quiet")[0] == ExitStatus.OK
    return target


def voxels(path):
    return np.stack([frame.samples for frame in open_source(path).frames()])


def test_lossless_round_trip_of_the_uncompressed_file_is_byte_exact(tmp_path):
    source = tmp_path / "heart.nii"
    source.write_bytes(gzip.decompress(TINY.read_bytes()))
    assert run("compress", source, tmp_path / "heart.ecd")[0] == ExitStatus.OK
    assert run("decompress", tmp_path / "heart.ecd", tmp_path / "back.nii")[0] == ExitStatus.OK
    assert (tmp_path / "back.nii").read_bytes() == source.read_bytes()


def test_compress_reports_json(tmp_path):
    status, out, err = run("compress", TINY, tmp_path / "h.ecd", "--json", "--max-error", 2)
    report = json.loads(out)
    assert (status, err) == (ExitStatus.OK, "")
    assert report["stream_bytes"] == (tmp_path / "h.ecd").stat().st_size
    frames = voxels(TINY)
    assert report["bits_per_voxel"] == pytest.approx(8 * report["stream_bytes"] / frames.size)
    assert report["promise"] == "no voxel off by more than 2 stored units"


def test_max_error_holds_in_the_written_file(tmp_path):
    run("compress", TINY, tmp_path / "h.ecd", "--max-error", 3)
    run("decompress", tmp_path / "h.ecd", tmp_path / "back.nii.gz")
    error = np.abs(voxels(tmp_path / "back.nii.gz").astype(int) - voxels(TINY))
    assert 0 < error.max() <= 3


def test_snr_loss_sets_the_bound(tmp_path):
    stream, back = tmp_path / "h.ecd", tmp_path / "back.nii.gz"
    status, out, _ = run("compress", TINY, stream, "--snr-loss", 5, "--json")
    report = json.loads(out)
    assert status == ExitStatus.OK
    assert (report["max_error"], report["snr_loss_percent"]) == (1, 5.0)
    assert report["noise_sigma"] == pytest.approx(2.61, abs=0.01)
    assert report["promise"] == (
        "no voxel off by more than 1 stored units; SNR loss at most 5 % of an estimated noise of "
        "sigma 2.61"
    )
    info = json.loads(run("info", stream, "--json")[1])
    for field in ("max_error", "snr_loss_percent", "noise_sigma", "promise"):
        assert info[field] == report[field]
    assert run("decompress", stream, back)[0] == ExitStatus.OK
    error = voxels(back).astype(int) - voxels(TINY)
    assert np.abs(error).max() == 1
    assert (error**2).mean(axis=(1, 2)).max() <= 2.61**2 * (1 / 0.95**2 - 1)


def test_snr_loss_of_little_noise_is_lossless_and_says_so(tmp_path):
    status, out, _ = run("compress", TINY, tmp_path / "h.ecd", "--snr-loss", 0.5)
    assert status == ExitStatus.OK
    assert "lossless: an estimated noise of sigma 2.61 is too little" in out
    run("decompress", tmp_path / "h.ecd", tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "back.nii.gz"), voxels(TINY))


def test_snr_loss_with_a_model_has_a_preview(tmp_path):
    stream, preview = tmp_path / "h.ecd", tmp_path / "preview.nii.gz"
    options = ["--model", "vqvae", "--snr-loss", 5, "--json"]
    promise = json.loads(run("compress", TINY, stream, *options)[1])["promise"]
    assert promise.startswith("no voxel off by more than 1 stored units; SNR loss")
    status, out, _ = run("decompress", stream, preview, "--preview", "--json")
    assert status == ExitStatus.OK
    assert json.loads(out)["promise"].startswith("none: base layer")


@pytest.mark.parametrize("effort", ["fast", "default", "best"])
def test_effort(tmp_path, effort):
    stream, back = tmp_path / "h.ecd", tmp_path / "back.nii.gz"
    out = run("compress", TINY, stream, "--effort", effort, "--json")[1]
    assert json.loads(out)["effort"] == effort
    assert json.loads(run("info", stream, "--json")[1])["effort"] == effort
    assert run("decompress", stream, back)[0] == ExitStatus.OK
    np.testing.assert_array_equal(voxels(back), voxels(TINY))


def test_model_with_and_without_a_promise(tmp_path):
    frames = voxels(TINY)
    for promise, name in (([], "base"), (["--lossless"], "both")):
        target = tmp_path / f"{name}.ecd"
        assert run("compress", TINY, target, "--model", "vqvae", *promise)[0] == ExitStatus.OK
        assert run("decompress", target, tmp_path / f"{name}.nii.gz")[0] == ExitStatus.OK
    np.testing.assert_array_equal(voxels(tmp_path / "both.nii.gz"), frames)
    preview = tmp_path / "preview.nii.gz"
    assert run("decompress", tmp_path / "both.ecd", preview, "--preview")[0] == ExitStatus.OK
    np.testing.assert_array_equal(voxels(preview), voxels(tmp_path / "base.nii.gz"))


def test_info(stream):
    status, out, _ = run("info", stream, "--json")
    fields = json.loads(out)
    assert status == ExitStatus.OK
    assert fields["complete"]
    assert fields["promise"] == "lossless"
    assert fields["snr_loss_percent"] is None
    assert fields["noise_sigma"] is None
    assert fields["effort"] == "default"
    assert fields["stream_bytes"] == stream.stat().st_size
    assert "promise" in run("info", stream)[1]


def test_verify_finds_a_flipped_byte(stream):
    assert run("verify", stream, "--decode")[0] == ExitStatus.OK
    data = bytearray(stream.read_bytes())
    data[len(data) // 2] ^= 1
    stream.write_bytes(data)
    status, out, _ = run("verify", stream, "--json")
    assert status == ExitStatus.DAMAGED
    assert json.loads(out)["problems"]


def test_a_cut_stream_is_refused_and_recovered_on_request(stream, tmp_path):
    data = stream.read_bytes()
    stream.write_bytes(data[: len(data) * 2 // 3])
    back = tmp_path / "back.nii.gz"
    status, _, err = run("decompress", stream, back)
    assert status == ExitStatus.DAMAGED
    assert "--recover" in err
    assert not back.exists()
    status, out, err = run("decompress", stream, back, "--recover", "--json")
    assert status == ExitStatus.RECOVERED
    missing = json.loads(out)["missing_frames"]
    frames, whole = voxels(back), voxels(TINY)
    assert 0 < missing < len(whole)
    np.testing.assert_array_equal(frames[:-missing], whole[:-missing])
    assert (frames[-missing:] == whole.min()).all()


class TestFailures:
    def test_an_existing_target_is_kept_without_force(self, stream):
        before = stream.read_bytes()
        status, _, err = run("compress", TINY, stream)
        assert status == ExitStatus.INPUT
        assert "--force" in err
        assert stream.read_bytes() == before
        assert run("compress", TINY, stream, "--force")[0] == ExitStatus.OK

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("empty.nii", b""),
            ("short.nii.gz", TINY.read_bytes()[:5000]),
            ("text.npy", b"hello"),
            ("heart.xyz", b"what is this"),
        ],
    )
    def test_bad_sources_leave_nothing_behind(self, tmp_path, name, content):
        source = tmp_path / name
        source.write_bytes(content)
        status, out, err = run("compress", source, tmp_path / "h.ecd")
        assert (status, out) == (ExitStatus.INPUT, "")
        assert err.startswith("edge-codec: ")
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == [source]

    def test_a_missing_source(self, tmp_path):
        status, _, err = run("compress", tmp_path / "none.nii", tmp_path / "h.ecd")
        assert status == ExitStatus.INPUT
        assert "none.nii" in err

    @pytest.mark.parametrize("command", ["decompress", "info", "verify"])
    def test_what_is_no_stream(self, tmp_path, command):
        target = [tmp_path / "back.nii"] if command == "decompress" else []
        status, out, err = run(command, TINY, *target)
        assert status == ExitStatus.DAMAGED
        assert "defect" not in err + out
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("other", [["--max-error", 1], ["--snr-loss", 1]])
    def test_options_that_exclude_each_other(self, tmp_path, capsys, other):
        status, _, _ = run("compress", TINY, tmp_path / "h", "--lossless", *other)
        assert status == ExitStatus.USAGE
        assert "not allowed with" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "option",
        [
            ["--max-error", -1],
            ["--model", "h264"],
            ["--key-interval", 0],
            ["--effort", "9"],
            ["--snr-loss", 0],
            ["--snr-loss", 51],
            ["--snr-loss", "nan"],
        ],
    )
    def test_impossible_options(self, tmp_path, option):
        status, _, err = run("compress", TINY, tmp_path / "h.ecd", *option)
        assert status == ExitStatus.INPUT
        assert err.startswith("edge-codec: ")
        assert not list(tmp_path.iterdir())

    def test_the_source_is_never_the_target(self, tmp_path, stream):
        source = tmp_path / "heart"
        source.write_bytes(stream.read_bytes())
        assert run("decompress", source, source, "--force")[0] == ExitStatus.INPUT
        named = tmp_path / "heart.nii.gz"
        named.write_bytes(TINY.read_bytes())
        for target in (named, tmp_path / "other.nii"):
            status, _, err = run("compress", named, target, "--force")
            assert status == ExitStatus.INPUT
            assert ".ecd" in err
        assert named.read_bytes() == TINY.read_bytes()

    def test_devices_are_not_replaced(self):
        assert run("compress", TINY, "/dev/null", "--force")[0] == ExitStatus.INPUT
        assert Path("/dev/null").is_char_device()

    def test_an_unknown_backend(self, tmp_path):
        options = ["--model", "vqvae", "--backend", "abacus"]
        assert run("compress", TINY, tmp_path / "h.ecd", *options)[0] == ExitStatus.ENGINE


def test_doctor():
    status, out, _ = run("doctor", "--json")
    fields = json.loads(out)
    assert status == ExitStatus.OK
    assert "bits right" in fields["vqvae_on_onnxruntime"]
    assert "decoded right" in fields["native_coders"]
    assert "decoded right" in fields["dwt_cal"]
    assert "bits right" in fields["segmentation"]


def test_doctor_finds_wrong_arithmetic(monkeypatch):
    right = OrtEngine.run
    monkeypatch.setattr(OrtEngine, "run", lambda self, tensor: -right(self, tensor))
    status, out, _ = run("doctor", "--json")
    assert status == ExitStatus.ENGINE
    assert "BITS WRONG" in json.loads(out)["vqvae_on_onnxruntime"]
    assert "BITS WRONG" in json.loads(out)["segmentation"]


def test_version(capsys):
    assert run("--version")[0] == 0
    assert capsys.readouterr().out.startswith("edge-codec ")

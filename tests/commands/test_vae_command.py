"""`compress`, `decompress`, `info` and `verify` with `--model dwt-cal-vae`, on real cine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import edge_codec
from edge_codec.cli import Console, main
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.io.samples import to_voxels
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
PHASES, SIDE = 4, 64
VAE = ["--model", "dwt-cal-vae"]


def run(*arguments: object) -> tuple[int, str, str]:
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


def coded(heart: Path, folder: Path, *options: object) -> tuple[dict, dict, np.ndarray]:
    """Compress and decompress; return what is reported, what `info` says, and the voxels."""
    stream, back = folder / "a.ecd", folder / "a.npy"
    status, out, err = run("compress", heart, stream, "--json", "--force", *VAE, *options)
    assert (status, err) == (ExitStatus.OK, "")
    info = json.loads(run("info", stream, "--json")[1])
    assert run("verify", stream, "--decode")[0] == ExitStatus.OK
    assert run("decompress", stream, back, "--force")[0] == ExitStatus.OK
    return json.loads(out), info, voxels(back)


def test_a_base_layer_alone_gets_larger_and_nearer(heart, tmp_path):
    sizes, errors = [], []
    for quality in (0, 20, 40):
        report, info, back = coded(heart, tmp_path, "--quality", quality)
        sizes.append(report["stream_bytes"])
        errors.append(float(((back.astype(float) - voxels(heart)) ** 2).mean()))
        assert info["model"] == report["model"] == "dwt-cal-vae"
        digest = load_manifest(ModelId.DWT_CAL_VAE).hashes["decoder.npz"]
        assert digest in str(info["model_sha256"])
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)


@pytest.mark.parametrize("bound", [0, 3])
def test_promises_hold_over_it(heart, tmp_path, bound):
    promise = ["--max-error", bound] if bound else ["--lossless"]
    _, info, back = coded(heart, tmp_path, *promise)
    assert np.abs(back.astype(int) - voxels(heart)).max() == bound
    assert info["max_error"] == bound
    preview = tmp_path / "preview.npy"
    assert run("decompress", tmp_path / "a.ecd", preview, "--preview")[0] == ExitStatus.OK
    error = voxels(preview).astype(float) - voxels(heart)
    assert 1 < np.sqrt((error**2).mean()) < 40


def test_a_target_is_reached(heart, tmp_path):
    report, _, back = coded(heart, tmp_path, "--psnr", 33)
    mean = ((back.astype(float) - voxels(heart)) ** 2).mean()
    assert 10 * np.log10(int(voxels(heart).max()) ** 2 / mean) >= 33
    assert 0 < report["quality"] < 63


def test_python_calls(heart):
    cine = edge_codec.Cine.from_array(np.load(heart))
    data = edge_codec.compress(cine, model="dwt-cal-vae", max_error=0)
    assert np.array_equal(edge_codec.decompress(data).voxels, cine.voxels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--archive"], "no archive order"),
        (["--bits-per-frame", 900], "bits per frame"),
        (["--backend", "onnxruntime"], "has no networks"),
        (["--quality", 64], "integer of 0 to 63"),
    ],
)
def test_what_it_does_not_offer_is_refused(heart, tmp_path, options, message):
    status, _, err = run("compress", heart, tmp_path / "a.ecd", *VAE, *options)
    assert status == ExitStatus.INPUT
    assert message in err
    assert not list(tmp_path.iterdir())

"""`edge-codec calibrate`, run in process: files, exit statuses, and what is left on the disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from float_networks import DECODED, FRAME, Builder, autoencoder  # noqa: E402
from onnx import TensorProto  # noqa: E402

from edge_codec.calibration.observers import RULES  # noqa: E402
from edge_codec.calibration.prove import prove  # noqa: E402
from edge_codec.calibration.table import read_table  # noqa: E402
from edge_codec.cli import Console, main  # noqa: E402
from edge_codec.commands.calibrate import OBSERVERS  # noqa: E402
from edge_codec.exit_status import ExitStatus  # noqa: E402

TINY = Path(__file__).parents[2] / "examples" / "tiny.nii.gz"
LOOSE = ("--max-psnr-loss", "9", "--max-ssim-loss", "0.1")


def run(*arguments: object) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main(["calibrate", *map(str, arguments)], console)
    return status, console.out.getvalue(), console.err.getvalue()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "float.onnx"
    path.write_bytes(autoencoder())
    return path


def test_writes_an_exact_network_and_its_table(model: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "int8.onnx", tmp_path / "t.json"
    status, text, err = run(model, "--data", TINY, "--out", out, "--table", table, *LOOSE)
    assert (status, err) == (ExitStatus.OK, "")
    assert prove(out.read_bytes()).exact
    assert list(read_table(table.read_bytes()).layers) == ["a", "b", "c"]
    for part in ("6 frames of 3 strata", "power-of-two scales", "exact on every backend",
                 "tiny.nii.gz", "gate passed on the same frames: psnr loss db"):  # fmt: skip
        assert part in text


def test_json_has_what_the_table_says(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    status, text, _ = run(
        model, "--data", TINY, "--out", out, "--frames", 3, "--json", "--observer", "minmax", *LOOSE
    )
    assert status == ExitStatus.OK
    report = json.loads(text)
    assert report["exact"] is True
    assert report["frames"] == 3
    assert report["gate"]["passed"] is True
    assert report["gate_on_other_frames"] is True
    assert [row["layer"] for row in report["layers"]] == ["a", "b", "c"]
    assert {row["observer"] for row in report["layers"]} == {"exact", "minmax"}
    assert {row["clip_share"] for row in report["layers"]} == {0.0}


def test_a_table_is_used_again_and_gives_the_same_file(model: Path, tmp_path: Path) -> None:
    first, second, table = tmp_path / "1.onnx", tmp_path / "2.onnx", tmp_path / "t.json"
    run(model, "--data", TINY, "--out", first, "--table", table, *LOOSE)
    written = table.read_bytes()
    status, text, _ = run(
        model, "--data", TINY, "--out", second, "--table", table, "--json", *LOOSE
    )
    assert status == ExitStatus.OK
    assert json.loads(text)["table_reused"] is True
    assert second.read_bytes() == first.read_bytes()
    assert table.read_bytes() == written


def test_a_table_of_another_model_or_sample_is_refused(model: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "t.json", tmp_path / "2.onnx"
    run(model, "--data", TINY, "--out", tmp_path / "1.onnx", "--table", table, *LOOSE)
    arguments = ("--data", TINY, "--out", out, "--table", table, *LOOSE)
    status, _, err = run(model, *arguments, "--frames", 4)
    assert status == ExitStatus.INPUT
    assert "belongs to another sample" in err
    model.write_bytes(autoencoder(1))
    status, _, err = run(model, *arguments)
    assert status == ExitStatus.INPUT
    assert "belongs to another model" in err
    assert not out.exists()
    assert run(model, *arguments, "--force")[0] == ExitStatus.OK
    assert out.exists()


def test_the_gate_refuses_and_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    status, text, err = run(
        model, "--data", TINY, "--out", folder / "int8.onnx", "--table", folder / "t.json",
        "--report", folder / "report", "--max-psnr-loss", 0.001,
    )  # fmt: skip
    assert status == ExitStatus.INPUT
    assert "the calibrated model is refused: psnr loss db is" in err
    assert text == ""
    assert list(folder.iterdir()) == []


def test_report_holds_tables_and_plot(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = tmp_path / "report"
    arguments = (model, "--data", TINY, "--out", tmp_path / "int8.onnx", "--report", report, *LOOSE)
    assert run(*arguments)[0] == ExitStatus.OK
    names = {path.name for path in report.iterdir()}
    assert names == {"report.txt", "report.json", "sensitivity.svg"}
    rows = json.loads((report / "report.json").read_text())["layers"]
    assert all(row["sqnr_db"] > 10 and row["psnr_loss_db"] is not None for row in rows)
    assert run(*arguments)[0] == ExitStatus.INPUT  # it exists
    assert run(*arguments, "--force")[0] == ExitStatus.OK


def test_mixed_precision_keeps_a_limit_that_integers_do_not(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed.onnx"
    limits = ("--max-psnr-loss", 1.0, "--max-ssim-loss", 0.1)
    arguments = (model, "--data", TINY, "--out", out, *limits)
    assert run(*arguments)[0] == ExitStatus.INPUT
    status, text, _ = run(*arguments, "--mixed", "--json")
    assert status == ExitStatus.OK
    report = json.loads(text)
    assert report["gate"]["losses"]["psnr_loss_db"] <= 1.0
    assert "fp16" in {row["precision"] for row in report["layers"]}
    assert report["exact"] is False
    assert "Cast" in report["exact_reason"]


def half(path: Path, name: str) -> Path:
    """An encoder to latents, or a decoder of tokens."""
    builder = Builder()
    if name == "encoder":
        weight = np.array([1.0, 0.5]).reshape(2, 1, 1, 1)
        x = builder.conv(builder.frame_values(), "enc", weight, relu=False)
        builder.node("Transpose", x, perm=[0, 2, 3, 1], output="latents")
        model = builder.model(FRAME, ("latents", TensorProto.FLOAT, ["n", "h", "w", 2]))
    else:
        levels = np.stack([np.arange(64) / 32, np.arange(64) / 64], axis=1)
        np.save(path.parent / "codebook.npy", levels)
        x = builder.node("Gather", builder.constant("levels", levels), "tokens")
        x = builder.node("Transpose", x, perm=[0, 3, 1, 2])
        x = builder.conv(x, "dec", np.array([0.8, 0.4]).reshape(1, 2, 1, 1), relu=False)
        builder.frame_codes(x)
        model = builder.model(("tokens", TensorProto.INT32, ["n", "h", "w"]), DECODED)
    path.write_bytes(model)
    return path


def test_halves_are_judged_in_their_chain(tmp_path: Path) -> None:
    encoder, decoder = half(tmp_path / "e.onnx", "encoder"), half(tmp_path / "d.onnx", "decoder")
    book = tmp_path / "codebook.npy"
    chain = ("--data", TINY, "--codebook", book, *LOOSE)
    status, text, err = run(encoder, "--out", tmp_path / "e8.onnx", "--after", decoder, *chain)
    assert (status, err) == (ExitStatus.OK, "")
    assert "gate passed" in text
    status, text, err = run(decoder, "--out", tmp_path / "d8.onnx", "--before", encoder, *chain)
    assert (status, err) == (ExitStatus.OK, "")
    assert "gate passed" in text


def test_a_network_without_frames_is_not_gated_and_says_so(tmp_path: Path) -> None:
    encoder = half(tmp_path / "e.onnx", "encoder")
    status, text, _ = run(encoder, "--data", TINY, "--out", tmp_path / "e8.onnx")
    assert status == ExitStatus.OK
    assert "not gated: no frames come out" in text
    status, _, err = run(encoder, "--data", TINY, "--out", tmp_path / "x.onnx", *LOOSE)
    assert status == ExitStatus.INPUT
    assert "no limit can be kept" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no valid ONNX file"), (b"zeros" * 9, "no valid ONNX file"), (None, "cannot be read")],
    ids=["empty", "noise", "missing"],
)
def test_bad_models_are_refused(
    content: bytes | None, message: str, model: Path, tmp_path: Path
) -> None:
    if content is None:
        model.unlink()
    else:
        model.write_bytes(content)
    status, _, err = run(model, "--data", TINY, "--out", tmp_path / "o.onnx")
    assert status == ExitStatus.INPUT
    assert message in err
    assert "\n" not in err.strip()


def test_targets_are_not_overwritten(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    out.write_bytes(b"precious")
    status, _, err = run(model, "--data", TINY, "--out", out, *LOOSE)
    assert status == ExitStatus.INPUT
    assert "use --force" in err
    assert out.read_bytes() == b"precious"
    status, _, err = run(model, "--data", TINY, "--out", model, "--force", *LOOSE)
    assert status == ExitStatus.INPUT
    assert "is an input" in err


def test_a_damaged_table_and_codebook_are_refused(model: Path, tmp_path: Path) -> None:
    table, book = tmp_path / "t.json", tmp_path / "c.npy"
    table.write_text("{}")
    book.write_bytes(b"no array")
    arguments = (model, "--data", TINY, "--out", tmp_path / "o.onnx", *LOOSE)
    status, _, err = run(*arguments, "--table", table)
    assert status == ExitStatus.INPUT
    assert "calibration table" in err
    status, _, err = run(*arguments, "--codebook", book)
    assert status == ExitStatus.INPUT
    assert "is no npy file" in err


def test_observers_of_the_command_line_are_the_rules_there_are() -> None:
    assert set(OBSERVERS) == RULES.keys()


def test_data_that_is_not_there_is_refused(model: Path, tmp_path: Path) -> None:
    status, _, err = run(model, "--data", tmp_path / "none", "--out", tmp_path / "o.onnx")
    assert status == ExitStatus.INPUT
    assert "does not exist" in err

"""Parity sees what differs, tolerates what rounding explains, and nothing in integer networks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from tiny_networks import (  # noqa: E402
    TINY,
    float_onnx,
    model,
    random_input,
    torch_output,
    twin,
)

from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export import parity  # noqa: E402
from edge_codec.export.agreement import frame_psnr, table  # noqa: E402
from edge_codec.export.parity import (  # noqa: E402
    agreements,
    code_count,
    compare_folder,
    is_integer,
    main,
    sample_frames,
)
from edge_codec.export.vqvae import decoder_model, encoder_model, integer_vqvae  # noqa: E402
from edge_codec.export.zoo import write_networks  # noqa: E402

CHECKPOINTS = Path(__file__).parent.parent.parent / "checkpoints"
FLOAT = ("encoder", "tokens", "decoder")


def changed(network: onnx.ModelProto, part: str, factor: float) -> bytes:
    """Multiply the first constant whose name holds `part`, in the file's own type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    constant = next(c for c in copy.graph.initializer if part in c.name)
    values = onnx.numpy_helper.to_array(constant)
    constant.CopyFrom(
        onnx.numpy_helper.from_array((values * factor).astype(values.dtype), constant.name)
    )
    data: bytes = copy.SerializeToString()
    return data


@pytest.fixture(scope="module")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float")
    for name in FLOAT:
        (folder / f"{name}.onnx").write_bytes(float_onnx(name).SerializeToString())
    content = {"config": dataclasses.asdict(TINY), "state": model().state_dict(), "step": 0}
    torch.save(content, folder / "averaged.pt")
    return folder


@pytest.fixture(scope="module")
def integer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("integer")
    write_networks(integer_vqvae(twin()), folder)
    return folder


@pytest.mark.parametrize("name", FLOAT)
def test_float_networks_are_pytorchs_on_every_backend(name: str) -> None:
    tensor = random_input(name, (2, 5, 7))
    expected = torch_output(name, tensor)
    rows = agreements(name, float_onnx(name).SerializeToString(), tensor, expected)
    assert len(rows) >= 5
    assert rows[-1].backend.endswith("cast to f16")
    assert all(row.within for row in rows), table(rows)


@pytest.mark.parametrize(("factor", "within"), [(1.0, True), (1.001, False)])
def test_a_weight_off_by_a_thousandth_is_not_tolerated(factor: float, within: bool) -> None:
    tensor = random_input("encoder", (2, 5, 7))
    network = changed(float_onnx("encoder"), "layers.3.conv.weight", factor)
    rows = agreements("encoder", network, tensor, torch_output("encoder", tensor))
    float32 = [row for row in rows if row.precision == "f32"]
    assert len(float32) >= 4
    assert all(row.within == within for row in float32), table(rows)


def test_a_code_off_by_a_thousandth_changes_too_many_tokens() -> None:
    tensor = random_input("tokens", (2, 9, 9))
    network = changed(float_onnx("tokens"), "norms", 1.02)
    row = agreements("tokens", network, tensor, torch_output("tokens", tensor))[0]
    assert row.differing > 0
    assert not row.within


def test_frames_are_judged_by_their_error_against_the_original() -> None:
    frame = random_input("encoder", (2, 4, 4)).astype(np.uint8)
    tokens = torch_output("tokens", frame)
    decoder = float_onnx("decoder")
    good = agreements("decoder", decoder.SerializeToString(), tokens, None, frame)
    assert all(row.within and abs(row.psnr_db) < 0.005 for row in good if row.precision == "f32")
    worse = changed(decoder, "fine.1.conv.weight", 1.5)
    row = agreements("decoder", worse, tokens, torch_output("decoder", tokens), frame)[0]
    assert abs(row.psnr_db) > 0.005
    assert not row.within


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_integer_networks_must_not_differ_in_one_element(name: str) -> None:
    network = integer_vqvae(twin())
    file = encoder_model(network) if name == "encoder" else decoder_model(network)
    tensor = random_input(name, (2, 3, 5))
    rows = agreements(name, file.SerializeToString(), tensor)
    assert {row.precision for row in rows} == {"exact"}
    assert all(row.within and row.differing == 0 for row in rows)
    expected = parity.IntegerReference(file.SerializeToString()).run(tensor)
    expected.flat[0] ^= 1
    rows = agreements(name, file.SerializeToString(), tensor, expected)
    assert not any(row.within for row in rows)
    assert rows[0].differing == 1 / expected.size


def test_another_shape_is_an_error() -> None:
    tensor = random_input("encoder", (1, 2, 2))
    with pytest.raises(EngineError, match=r"gives \(1, 2, 2, 8\)"):
        agreements("encoder", float_onnx("encoder").SerializeToString(), tensor, np.zeros((1, 2)))


def test_command_prints_a_table_for_a_float_folder(
    float_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(float_folder), "--checkpoint", str(float_folder / "averaged.pt")])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:-1]} == set(FLOAT)
    assert all(("dB" in line) == line.startswith("decoder") for line in lines[1:-1])


def test_command_prints_json_for_an_integer_folder(
    integer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(integer_folder), "--json"])
    rows = json.loads(capsys.readouterr().out)["agreements"]
    assert {(row["precision"], row["largest"], row["within"]) for row in rows} == {
        ("exact", 0.0, True)
    }
    assert {row["network"] for row in rows} == {"encoder", "decoder"}


def test_command_fails_where_a_network_is_not_the_checkpoints(
    float_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FLOAT:
        (tmp_path / f"{name}.onnx").write_bytes((float_folder / f"{name}.onnx").read_bytes())
    wrong = changed(float_onnx("encoder"), "layers.0.conv.weight", 1.1)
    (tmp_path / "encoder.onnx").write_bytes(wrong)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--checkpoint", str(float_folder / "averaged.pt")])
    assert stop.value.code == 1
    assert "NOT WITHIN TOLERANCE" in capsys.readouterr().out


def test_folders_without_networks_are_refused(tmp_path: Path, integer_folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"encoder\.onnx"):
        main([str(tmp_path)])
    (tmp_path / "encoder.onnx").write_bytes(b"\x00garbage")
    (tmp_path / "decoder.onnx").write_bytes(b"\x00garbage")
    with pytest.raises(EngineError, match=r"encoder\.onnx is no ONNX file"):
        compare_folder(tmp_path)
    with pytest.raises(EngineError, match="gathers from no table"):
        code_count(encoder_model(integer_vqvae(twin())))


def test_networks_tell_their_kind_and_their_codes() -> None:
    network = integer_vqvae(twin())
    assert is_integer(encoder_model(network))
    assert not is_integer(float_onnx("encoder"))
    assert code_count(decoder_model(network)) == code_count(float_onnx("decoder")) == TINY.codes


def test_sample_frames_fill_the_codes_range() -> None:
    frames = sample_frames(np.random.default_rng(0), 3, 40, 56)
    assert frames.shape == (3, 1, 40, 56)
    assert frames.dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1])
    assert frames.max() > 150
    assert frames.min() < 60


def test_psnr_of_an_error_of_one_code() -> None:
    frame = np.full((4, 4), 7, np.uint8)
    assert frame_psnr(frame + 1, frame) == pytest.approx(20 * np.log10(255))


@pytest.mark.slow
def test_the_shipped_checkpoints_export_and_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge_codec.export import graph

    float_checkpoint = CHECKPOINTS / "vqvae-1.0.0-float.pt"
    graph.main(["--checkpoint", str(float_checkpoint), "--out", str(tmp_path / "float")])
    main([str(tmp_path / "float"), "--checkpoint", str(float_checkpoint)])
    quantized = CHECKPOINTS / "vqvae-1.0.0-quantized.pt"
    graph.main(["--checkpoint", str(quantized), "--out", str(tmp_path / "integer")])
    printed = capsys.readouterr().out
    assert "NOT WITHIN" not in printed
    assert printed.count("values proven equal") == 2

"""What PyTorch's exporter writes is the network, at any size, and says nothing of this machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from tiny_networks import (  # noqa: E402
    SHAPES,
    TINY,
    float_onnx,
    integer_onnx,
    model,
    random_input,
    torch_output,
    twin,
)

from edge_codec.calibration.qat import QuantUnit, save_quantized  # noqa: E402
from edge_codec.errors import EngineError  # noqa: E402
from edge_codec.export.float_zoo import Network  # noqa: E402
from edge_codec.export.graph import export_network, load_checkpoint, main  # noqa: E402
from edge_codec.export.integer_zoo import verify  # noqa: E402
from edge_codec.export.qdq import IR_VERSION, OPSET  # noqa: E402
from edge_codec.nn.vqvae import CODE_SCALE  # noqa: E402
from edge_codec.runtime.ort_backend import OrtEngine  # noqa: E402

FLOAT = ("encoder", "tokens", "decoder")


def run(network: onnx.ModelProto, tensor: np.ndarray) -> np.ndarray:
    return OrtEngine(network.SerializeToString(), threads=1, optimize=False).run(tensor)


@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize("shape", SHAPES)
def test_exported_float_network_is_pytorchs_at_any_size(
    name: str, shape: tuple[int, int, int]
) -> None:
    tensor = random_input(name, shape)
    found, expected = run(float_onnx(name), tensor), torch_output(name, tensor)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    # Convolutions add in another order; the tokens and rounded frames of this seed do not care.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if name == "encoder" else 0)


def test_tokens_and_frames_are_the_models_own() -> None:
    frame = torch.from_numpy(random_input("tokens", (2, 3, 5)))
    with torch.no_grad():
        tokens = model().encode(frame.float() * CODE_SCALE)
        codes = model().decode(tokens) / CODE_SCALE
    assert np.array_equal(run(float_onnx("tokens"), frame.numpy()), tokens.numpy())
    found = run(float_onnx("decoder"), tokens.numpy().astype(np.int32))
    assert np.array_equal(found, codes.numpy().round().clip(0, 255))


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_exported_integer_network_is_the_one_written_by_hand(name: str) -> None:
    assert verify(name, integer_onnx(name), twin()) > 1000


def test_a_wrong_weight_in_an_exported_integer_network_is_found() -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(integer_onnx("decoder"))
    constant = next(c for c in wrong.graph.initializer if c.name.endswith("coarse.0.weight"))
    weight = onnx.numpy_helper.to_array(constant).copy()
    weight.flat[np.abs(weight).argmax()] *= -1
    constant.CopyFrom(onnx.numpy_helper.from_array(weight, constant.name))
    with pytest.raises(EngineError, match="one of the two graphs is wrong"):
        verify("decoder", wrong, twin())


@pytest.mark.parametrize("name", FLOAT)
def test_files_name_no_source_and_no_stack(name: str) -> None:
    network = float_onnx(name)
    assert (network.ir_version, network.opset_import[0].version) == (IR_VERSION, OPSET)
    text = str(network).lower()
    assert "stack_trace" not in text
    assert ".py" not in text
    assert "metadata" not in text


class FixedSize(torch.nn.Module):
    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        return frame.reshape(2, -1).float() if frame.shape[0] == 2 else frame.float()


def test_a_network_whose_size_is_fixed_is_refused() -> None:
    batch = {"frame": torch.zeros(2, 8)}
    axes = {"frame": {0: torch.export.Dim("n")}}
    with pytest.raises(EngineError, match="exporter refuses stuck"):
        export_network(Network("stuck", FixedSize(), batch, axes, ("out",)))


def save_checkpoints(folder: Path) -> None:
    from dataclasses import asdict

    averaged = {"config": asdict(TINY), "state": model().state_dict(), "step": 0}
    torch.save(averaged, folder / "averaged.pt")
    units = {n: m.output_exponent for n, m in twin().named_modules() if isinstance(m, QuantUnit)}
    save_quantized(twin(), units, {}, folder / "quantized.pt")


def test_checkpoints_of_both_kinds_are_told_apart(tmp_path: Path) -> None:
    save_checkpoints(tmp_path)
    assert not load_checkpoint(tmp_path / "averaged.pt")[1]
    assert load_checkpoint(tmp_path / "quantized.pt")[1]


def test_command_writes_networks_and_their_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The exports themselves are checked above; here they need not be made again.
    monkeypatch.setattr(
        "edge_codec.export.graph.export_network", lambda network: float_onnx(network.name)
    )
    save_checkpoints(tmp_path)
    main(["--checkpoint", str(tmp_path / "averaged.pt"), "--out", str(tmp_path / "out")])
    hashes = json.loads((tmp_path / "out" / "hashes.json").read_text())
    assert set(hashes) == {f"{name}.onnx" for name in FLOAT}
    printed = capsys.readouterr().out
    for name, fields in hashes.items():
        data = (tmp_path / "out" / name).read_bytes()
        assert fields == {
            "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "verified": 0
        }  # fmt: skip
        assert f"{fields['sha256']} {name}" in printed


def test_command_proves_integer_networks_before_it_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_codec.export.graph.export_network", lambda network: integer_onnx(network.name)
    )
    save_checkpoints(tmp_path)
    main(["--checkpoint", str(tmp_path / "quantized.pt"), "--out", str(tmp_path / "out")])
    hashes = json.loads((tmp_path / "out" / "hashes.json").read_text())
    assert all(fields["verified"] > 1000 for fields in hashes.values())
    assert set(hashes) == {"encoder.onnx", "decoder.onnx"}


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_what_is_no_checkpoint_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    if content is None:
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"some\.pt"):
        main(["--checkpoint", str(path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()

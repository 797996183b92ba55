"""The tokenizer's export: networks, halved weights, tables, manifest and card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_codec.base.titok.reading import read_codebook
from edge_codec.base.titok.token_prior import TokenPrior, load_tables
from edge_codec.errors import EngineError, SourceError
from edge_codec.export import titok, titok_weights
from edge_codec.export.titok_card import LICENSE
from edge_codec.export.titok_graph import (
    TokenEncoderGraph,
    halve_weights,
    inputs,
    titok_models,
)
from edge_codec.manifest import ZOO, load_manifest
from edge_codec.nn.titok import TiTok, TiTokConfig
from edge_codec.runtime.float_network import FLOAT_BACKENDS, load_network
from edge_codec.spec import ModelId

SMALL = TiTokConfig(width=16, heads=2, encoder_depth=1, decoder_depth=1, fine=8, middle=8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TiTok(SMALL)
    torch.nn.init.normal_(model.decoder.clinical.weight)
    torch.nn.init.normal_(model.encoder.head.weight)
    path = tmp_path_factory.mktemp("checkpoint") / "averaged.pt"
    torch.save({"config": dataclasses.asdict(SMALL), "state": model.state_dict(), "step": 3}, path)
    return path


@pytest.fixture(scope="module")
def exam(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exam") / "exam.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 900, (2, 3, 20, 30)).astype(np.int16))
    return path


def test_the_command_makes_a_zoo_that_codes(checkpoint, exam, tmp_path):
    out, kept = tmp_path / "titok", tmp_path / "tokens.npz"
    titok.main(
        ["--checkpoint", str(checkpoint), "--volumes", str(exam), "--out", str(out),
         "--keep-tokens", str(kept), "--passes", "1", "--rounds", "2",
         "--unseen", "group", "--version", "0.1.0"]
    )  # fmt: skip
    manifest = load_manifest(ModelId.TITOK, tmp_path)
    fields = json.loads((out / "manifest.json").read_text())
    assert (manifest.name, manifest.version, manifest.license) == ("titok", "0.1.0", LICENSE)
    assert fields["wire_id"] == ModelId.TITOK
    assert manifest.decoding == ("token_model.npz", "codebook.npy", "decoder.onnx")
    assert 0 <= fields["measured"]["backends"] < 0.5
    assert 0 <= fields["measured"]["float32"] < 5
    assert "Telling these facts changes nothing, training had none: group" in (
        out / "MODEL_CARD.md"
    ).read_text(encoding="utf-8")
    codebook = read_codebook(manifest.read("codebook.npy"))
    assert np.allclose(np.linalg.norm(codebook, axis=1), 1, atol=1e-5)
    TokenPrior(load_tables(manifest.read("token_model.npz")))
    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load_model_from_string(manifest.read(name)).graph
        large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 256]
        assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}
    with np.load(kept) as dump:
        assert dump["tokens"].shape == (6, 32)
        assert dump["first"].tolist() == [True, False, False] * 2


def test_facts_that_training_never_told_change_nothing(checkpoint):
    told, deaf = (titok.load_checkpoint(checkpoint, unseen) for unseen in ((), ("phase", "group")))
    weight = deaf.decoder.clinical.weight
    assert not weight[:, 4:].any()
    assert torch.equal(weight[:, :4], told.decoder.clinical.weight[:, :4])
    assert told.decoder.clinical.weight[:, 4:].any()


def test_a_transformer_that_adds_nothing_is_left_out():
    torch.manual_seed(0)
    model = TiTok(SMALL).eval()
    given = {name: value.numpy() for name, value in inputs(model, "encoder").items()}
    sizes = []
    for head in (0.0, 0.1):
        torch.nn.init.constant_(model.encoder.head.bias, head)
        torch.nn.init.constant_(model.encoder.shortcut.weight, 0.01)
        data = titok_models(model)["encoder"].SerializeToString()
        sizes.append(len(data))
        tensors = [torch.from_numpy(value) for value in given.values()]
        with torch.no_grad():
            expected = TokenEncoderGraph(model)(*tensors).numpy()
        for backend in FLOAT_BACKENDS:
            found = load_network(data, backend, 1).run(given)
            assert np.abs(found - expected).max() < 1e-3, backend
    assert sizes[0] < 0.8 * sizes[1]


def test_halved_weights_are_near_and_small():
    weight = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    bias = np.array([1.1, 2.2], np.float32)
    whole = product(weight, bias)
    halved = halve_weights(whole)
    kinds = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    assert kinds == {"weight_half": TensorProto.FLOAT16, "bias": TensorProto.FLOAT}
    assert len(halved.SerializeToString()) < len(whole.SerializeToString()) - 1000
    x = np.ones((1, 20), np.float32)
    one, two = (
        load_network(each.SerializeToString(), "onnxruntime", 1) for each in (whole, halved)
    )
    assert np.abs(one.run({"x": x}) - two.run({"x": x})).max() < 0.01
    assert [tensor.name for tensor in whole.graph.initializer] == ["weight", "bias"]
    with pytest.raises(EngineError, match="exceed float16"):
        halve_weights(product(weight * 1e6, bias))


def product(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """A row times a matrix, and a number more."""
    tensors = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["wide"]),
        helper.make_node("ReduceSum", ["bias"], ["all"], keepdims=0),
        helper.make_node("Add", ["wide", "all"], ["y"]),
    ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[0]])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weight.shape[1]])
    graph = helper.make_graph(nodes, "product", [source], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_other_checkpoints_are_refused(tmp_path):
    path = tmp_path / "averaged.pt"
    config = dataclasses.replace(SMALL, codes=64)
    torch.save({"config": dataclasses.asdict(config), "state": TiTok(config).state_dict()}, path)
    with pytest.raises(EngineError, match="the codec has"):
        titok.load_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(SourceError):
        titok.load_checkpoint(path)


def test_weights_come_back_from_the_zoo(tmp_path):
    """Those with a transformer in the encoder, and the shipped ones without; to half precision."""
    torch.manual_seed(0)
    model = TiTok(SMALL).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    codebook = np.random.default_rng(0).normal(size=(SMALL.codes, SMALL.code_dim))
    titok.write_zoo(
        tmp_path, titok_models(model), codebook.astype(np.float32), titok.uniform_tables()
    )
    fields = {"config": dataclasses.asdict(SMALL)}
    (tmp_path / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    titok_weights.main(["--zoo", str(tmp_path), "--out", str(tmp_path / "start.pt")])
    back = titok.load_checkpoint(tmp_path / "start.pt")
    for (name, one), other in zip(model.named_parameters(), back.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6), name
    assert np.allclose(back.codebook.vectors, codebook)
    (tmp_path / "decoder.onnx").write_bytes((tmp_path / "encoder.onnx").read_bytes())
    with pytest.raises(EngineError, match="of another version"):
        titok_weights.read_weights(tmp_path)


def test_the_shipped_weights_come_back():
    shipped = titok_weights.read_weights(ZOO / "titok")
    for name, model in titok_models(shipped).items():
        data = model.SerializeToString(deterministic=True)
        assert data == (ZOO / "titok" / f"{name}.onnx").read_bytes(), name

"""Engine files: the same back, and a clear refusal of what is damaged or does not fit together."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("triton")
pytest.importorskip("onnx")

import gpu_samples

from edge_codec.bench.kernels.interpreter_device import compile_nothing
from edge_codec.errors import EngineError
from edge_codec.export.gpu_engine import build_engine
from edge_codec.runtime import gpu_archive
from edge_codec.runtime.gpu_engine import GpuEngine, GpuLayer, read_engine, write_engine

DECODER = build_engine(gpu_samples.decoder(), 90, compile_nothing)
ENCODER = build_engine(gpu_samples.encoder(), 90, compile_nothing)


def plain(engine: GpuEngine) -> dict[str, Any]:
    """Everything in an engine, comparable by ==."""
    layers = [
        (
            *(layer.name, layer.kernel, layer.conv.shape),
            *(array.tolist() for array in (layer.conv.weights, layer.conv.bias, layer.conv.shift)),
            None if layer.table is None else layer.table.tolist(),
        )
        for layer in engine.layers
    ]
    whole = (engine.onnx_sha256, engine.capability, engine.compiler, engine.planes)
    return {"layers": layers, "whole": whole}


@pytest.mark.parametrize("data", [DECODER, ENCODER])
def test_written_engine_comes_back(data: bytes) -> None:
    engine = read_engine(data)
    assert write_engine(engine) == data
    assert plain(read_engine(write_engine(engine))) == plain(engine)
    assert engine.onnx_sha256 in {
        hashlib.sha256(model).hexdigest()
        for model in (gpu_samples.decoder(), gpu_samples.encoder())
    }


def test_file_is_a_plain_archive_without_times() -> None:
    with zipfile.ZipFile(io.BytesIO(DECODER)) as archive:
        entries = archive.infolist()
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        table = np.load(io.BytesIO(archive.read("layer_0_table.npy")), allow_pickle=False)
    assert np.array_equal(table, gpu_samples.network().table)


def test_a_cut_file_is_refused() -> None:
    for length in [*range(200), *range(200, len(DECODER), 997), len(DECODER) - 1]:
        with pytest.raises(EngineError):
            read_engine(DECODER[:length])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DECODER) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_means_nothing(place: int, flip: int) -> None:
    damaged = bytearray(DECODER)
    damaged[place] ^= flip
    try:
        engine = read_engine(bytes(damaged))
    except EngineError:
        return
    # Dates and attributes of an archive's entries say nothing about the engine.
    assert plain(engine) == plain(read_engine(DECODER))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        read_engine(data)


def rebuilt(
    data: bytes,
    change: Callable[[dict[str, Any], dict[str, bytes]], None],
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """Change an engine file's index and members, with hashes that fit."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(members.pop("engine.json"))
    change(index, members)
    for name in dict(index["members"]):
        content = members.get(name, b"")
        digest = hashlib.sha256(content).hexdigest()
        index["members"][name] = {"size": len(content), "sha256": digest}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("engine.json", json.dumps(index))
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_rebuilding_alone_changes_nothing() -> None:
    again = read_engine(rebuilt(DECODER, lambda index, members: None))
    assert plain(again) == plain(read_engine(DECODER))


def member(name: str, content: bytes) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda index, members: members.update({name: content})


def entry(path: str, value: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Set one value of the index; `path` is keys and numbers with dots between them."""

    def change(index: dict[str, Any], members: dict[str, bytes]) -> None:
        *parents, last = path.split(".")
        place: Any = index
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def npy(array: np.ndarray) -> bytes:
    order = np.isfortran(array)
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': {order}, 'shape': {array.shape}, }}"
    return header(text) + array.tobytes("A")


HUGE = header("{'descr': '|i1', 'fortran_order': False, 'shape': (1099511627776, 64), }")
KERNEL = "kernels.int8_conv_3x3_32_40_table"
WEIGHTS = "layer_1_weights.npy"


@pytest.mark.parametrize(
    "change",
    [
        entry("format", "other"),
        entry("version", 2),
        entry("capability", -1),
        entry("capability", 9e99),
        entry("capability", True),
        entry("layers", []),
        entry("layers", {}),
        entry("layers", 7),
        entry("members", {}),
        entry("kernels", None),
        entry("layers.0.kernel", "missing"),
        entry("layers.0.tokens", 0),
        entry("layers.0.tokens", 1 << 30),
        entry("layers.1.tokens", 1),
        entry("layers.0.shape.kernel", 5),
        entry("layers.0.shape.outputs", 41),
        entry("layers.0.shape.surprise", 1),
        entry("layers.1.shape.spread", 1),
        entry("layers.1.shape.signed_output", True),
        entry(f"{KERNEL}.num_warps", "4"),
        entry(f"{KERNEL}.num_warps", 1 << 40),
        entry(f"{KERNEL}.function", "os:system"),
        entry(f"{KERNEL}.constants.BLOCK_M", 0),
        entry(f"{KERNEL}.constants.BLOCK_N", 1 << 20),
        entry(f"{KERNEL}.constants", {}),
        entry(f"{KERNEL}.constants.STRIDE", 2),
        entry(f"{KERNEL}.arguments", ["*u8"]),
        entry("layers.2.shape.spread", 2),  # its output is no plane
        lambda index, members: index["layers"].pop(1),
        lambda index, members: index["members"].update({"nowhere": None}),
        lambda index, members: members.pop("int8_conv_3x3_32_40_table.cubin"),
        lambda index, members: index.pop("planes"),
        member(WEIGHTS, b""),
        member(WEIGHTS, b"\x93NUMPY\x01\x00"),
        member(WEIGHTS, HUGE),
        member(WEIGHTS, header("[" * 100)),
        member(WEIGHTS, npy(np.zeros((32, 64), np.int8))[:-1]),
        member(WEIGHTS, npy(np.zeros((32, 64), np.int8)) + b"0"),
        member(WEIGHTS, npy(np.zeros((64, 32), np.int8))),
        member(WEIGHTS, npy(np.zeros((32, 64), np.uint8))),
        member(WEIGHTS, npy(np.zeros((32, 64), np.int8, order="F"))),
        member("layer_1_bias.npy", npy(np.zeros(32, np.int64))),
        member("layer_0_table.npy", npy(np.zeros((0, 32), np.uint8))),
        member("layer_0_table.npy", npy(np.zeros((9, 32), np.int8))),
        member("layer_0_table.npy", npy(np.zeros((), np.uint8))),
    ],
)
def test_hostile_files_are_refused(
    change: Callable[[dict[str, Any], dict[str, bytes]], None],
) -> None:
    with pytest.raises(EngineError):
        read_engine(rebuilt(DECODER, change))


def test_changed_numbers_of_the_right_size_are_read() -> None:
    """So that the cases above are refused for what they say they are."""
    data = rebuilt(DECODER, member(WEIGHTS, npy(np.zeros((32, 64), np.int8))))
    assert not read_engine(data).layers[1].conv.weights.any()


def signed(layer: GpuLayer) -> GpuLayer:
    """Let a layer store int8 instead of uint8."""
    conv = replace(layer.conv, shape=replace(layer.conv.shape, signed_output=True))
    arguments = (*layer.kernel.arguments[:-1], "*i8")
    kernel = replace(layer.kernel, name="signed", arguments=arguments)
    return replace(layer, conv=conv, kernel=kernel)


@pytest.mark.parametrize(
    "change",
    [
        lambda engine: {"layers": engine.layers[1:]},  # a frame of several channels
        lambda engine: {"layers": engine.layers[::-1]},
        lambda engine: {"layers": engine.layers[::2]},
        lambda engine: {"planes": True},
        lambda engine: {"layers": (signed(engine.layers[0]), *engine.layers[1:])},
        lambda engine: {"layers": (*engine.layers, read_engine(DECODER).layers[0])},
    ],
)
def test_layers_that_do_not_fit_together_are_refused(
    change: Callable[[GpuEngine], dict[str, Any]],
) -> None:
    engine = read_engine(ENCODER)
    with pytest.raises(EngineError, match="do not fit together"):
        read_engine(write_engine(replace(engine, **change(engine))))


def test_compressed_members_are_refused() -> None:
    with pytest.raises(EngineError, match="packed or too large"):
        read_engine(rebuilt(DECODER, lambda index, members: None, zipfile.ZIP_DEFLATED))


def test_a_deep_index_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("engine.json", "[" * 100_000)
    with pytest.raises(EngineError):
        read_engine(file.getvalue())


def test_large_files_and_indices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_archive, "MAX_INDEX", 100)
    with pytest.raises(EngineError, match="too large"):
        read_engine(DECODER)
    monkeypatch.setattr(gpu_archive, "MAX_FILE", 100)
    with pytest.raises(EngineError, match="at most 100 are read"):
        read_engine(DECODER)


def test_an_altered_member_is_named() -> None:
    with zipfile.ZipFile(io.BytesIO(DECODER)) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    members[WEIGHTS][-1] ^= 1
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(content))
    with pytest.raises(EngineError, match=f"{WEIGHTS} of the engine file was altered"):
        read_engine(file.getvalue())

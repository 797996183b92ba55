"""Engine files: what they hold, what is refused, and when an engine is built again."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.errors import EngineError, SourceError
from edge_codec.runtime.engine_cache import (
    MAGIC,
    EngineCache,
    EngineKey,
    cache_folder,
    pack_engine,
    read_engine_file,
    unpack_engine,
    write_engine_file,
)

KEY = EngineKey(
    model="ab" * 32,
    backend="tensorrt",
    version="10.16.1.11",
    builder="1",
    precision="int8",
    capability=87,
    gpu="Orin (nvgpu)",
    driver="13.2",
    profile="frame 1x1x8x8 1x1x256x256 1x1x1024x1024",
)
FILE = pack_engine(KEY, b"payload" * 10)


def test_a_file_holds_key_and_payload():
    assert unpack_engine(FILE) == (KEY, b"payload" * 10)


@given(st.text(), st.integers(0, 2**40), st.binary(max_size=99))
def test_any_key_and_payload(text, capability, payload):
    key = replace(KEY, gpu=text, capability=capability)
    assert unpack_engine(pack_engine(key, payload)) == (key, payload)


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_the_key_alone(place, bit):
    damaged = bytearray(FILE)
    damaged[place] ^= 1 << bit
    try:
        key, payload = unpack_engine(bytes(damaged))
    except EngineError:
        return
    assert payload == b"payload" * 10
    assert key != KEY


@given(st.integers(0, len(FILE) - 1))
def test_a_cut_file_is_refused(size):
    with pytest.raises(EngineError):
        unpack_engine(FILE[:size])


@given(st.binary(max_size=300))
def test_noise_is_refused(data):
    with pytest.raises(EngineError):
        unpack_engine(MAGIC + data)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("key"),
        lambda header: header["key"].pop("gpu"),
        lambda header: header["key"].update(surplus=1),
        lambda header: header["key"].update(capability="87"),
        lambda header: header["key"].update(capability=True),
        lambda header: header["key"].update(model=None),
        lambda header: header.update(payload_size=2**70),
        lambda header: header.update(payload_sha256=[]),
        lambda header: header.update(key=[]),
    ],
)
def test_hostile_headers(change):
    text = FILE[12 : 12 + int.from_bytes(FILE[8:12], "little")]
    header = json.loads(text)
    change(header)
    changed = json.dumps(header).encode()
    data = MAGIC + len(changed).to_bytes(4, "little") + changed + b"payload" * 10
    with pytest.raises(EngineError, match="build it again"):
        unpack_engine(data)


def test_a_deep_header_does_not_exhaust_the_stack():
    text = b"[" * 60000
    with pytest.raises(EngineError, match="build it again"):
        unpack_engine(MAGIC + len(text).to_bytes(4, "little") + text)


def test_differences_name_what_differs():
    found = replace(KEY, version="10.3.0", driver="12.6", profile="other shapes")
    assert KEY.differences(found) == (
        "version 10.3.0 where 10.16.1.11 is needed; driver 12.6 where 13.2 is needed"
    )
    assert KEY.differences(KEY) == ""
    assert "model cdcdcdcdcdcdcdcd..." in KEY.differences(replace(KEY, model="cd" * 32))


def test_file_names_keep_gpus_and_backends_apart():
    assert KEY.file_name == "abababababababab-tensorrt-int8-sm_87-orin-nvgpu.engine"
    own = replace(KEY, backend="triton", gpu="")
    assert own.file_name == "abababababababab-triton-int8-sm_87.engine"
    assert "/" not in replace(KEY, gpu="../../etc/passwd").file_name


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"EDGE_CODEC_CACHE": "/there"}, Path("/there")),
        ({"EDGE_CODEC_CACHE": "/there", "XDG_CACHE_HOME": "/x"}, Path("/there")),
        ({"EDGE_CODEC_CACHE": "", "XDG_CACHE_HOME": "/x"}, Path("/x/edge-codec")),
        ({}, Path.home() / ".cache" / "edge-codec"),
    ],
)
def test_the_folder(environment, folder):
    assert cache_folder(environment) == folder


def never():
    raise AssertionError("the engine was in the cache")


def test_an_engine_is_built_once(tmp_path, caplog):
    cache = EngineCache(tmp_path / "new" / "folder")
    assert cache.load(KEY) is None
    assert cache.load_or_build(KEY, lambda: b"engine") == b"engine"
    assert caplog.messages == [f"no engine {KEY.file_name} yet; building it"]
    assert cache.load_or_build(KEY, never) == b"engine"
    assert cache.load(KEY) == b"engine"


@pytest.mark.parametrize(
    ("field", "old", "message"),
    [
        ("version", "10.3.0", "version 10.3.0 where 10.16.1.11 is needed; building it again"),
        ("driver", "12.6", "driver 12.6 where 13.2 is needed"),
        ("builder", "0", "builder 0 where 1 is needed"),
        ("model", "ab" * 8 + "00" * 24, "model"),
        ("capability", 86, "capability 86 where 87 is needed"),
    ],
)
def test_an_engine_for_something_else_is_built_again(tmp_path, caplog, field, old, message):
    cache = EngineCache(tmp_path)
    path = tmp_path / KEY.file_name
    write_engine_file(path, replace(KEY, **{field: old}), b"old", force=False)
    with pytest.raises(EngineError, match="does not fit"):
        cache.load(KEY)
    assert cache.load_or_build(KEY, lambda: b"new") == b"new"
    assert message in caplog.text
    assert read_engine_file(path) == (KEY, b"new")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_engine_is_built_again(tmp_path, caplog, damage):
    cache = EngineCache(tmp_path)
    path = cache.keep(KEY, b"old")
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load_or_build(KEY, lambda: b"new") == b"new"
    assert "building it again" in caplog.text
    assert cache.load(KEY) == b"new"


def test_other_shapes_are_no_reason_to_build(tmp_path):
    cache = EngineCache(tmp_path)
    cache.keep(KEY, b"engine")
    assert cache.load_or_build(replace(KEY, profile="frame 1x1x512x512"), never) == b"engine"


def test_an_engine_that_cannot_be_kept_is_used(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "folder")
    with caplog.at_level(logging.WARNING):
        assert cache.load_or_build(KEY, lambda: b"engine") == b"engine"
    assert "used but not kept" in caplog.text


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail():
        raise EngineError("no compiler")

    with pytest.raises(EngineError, match="no compiler"):
        EngineCache(tmp_path).load_or_build(KEY, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "mine.engine"
    write_engine_file(path, KEY, b"one", force=False)
    with pytest.raises(SourceError, match="exists"):
        write_engine_file(path, KEY, b"two", force=False)


def test_what_the_cache_holds(tmp_path):
    cache = EngineCache(tmp_path)
    own = replace(KEY, backend="triton", gpu="")
    other = replace(KEY, capability=8)
    for key in (KEY, own, other):
        cache.keep(key, b"engine")
    (tmp_path / "broken.engine").write_bytes(b"nothing")
    (tmp_path / "timing.cache").write_bytes(b"")
    assert cache.has(KEY.model)
    assert not cache.has("00" * 32)
    assert cache.find(KEY.model, 87) == ("tensorrt", "triton")
    assert cache.find(KEY.model, 8) == ("tensorrt",)
    assert cache.find(KEY.model, 90) == ()
    found = dict(cache.entries())
    assert found[tmp_path / KEY.file_name] == KEY
    assert "no engine file" in found[tmp_path / "broken.engine"]
    assert len(found) == 4


def test_an_unreadable_file(tmp_path):
    with pytest.raises(EngineError, match="cannot be read"):
        read_engine_file(tmp_path / "missing.engine")
    with pytest.raises(EngineError, match="cannot be read"):
        read_engine_file(tmp_path)

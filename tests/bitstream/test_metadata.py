from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.bitstream.metadata import MAX_METADATA, pack_metadata, unpack_metadata
from edge_codec.errors import BitstreamError, SpecError


def deflated(raw: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(raw) + deflate.flush()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=500), st.binary(max_size=500), st.integers(1, 200))
def test_unpack_inverts_pack(raw: bytes, dictionary: bytes, repeats: int) -> None:
    raw *= repeats  # so that there are several blocks
    assert unpack_metadata(pack_metadata(raw, dictionary), dictionary) == raw


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 32_768, 100_000])
def test_block_borders(size: int) -> None:
    raw = np.random.default_rng(size).bytes(size)
    assert unpack_metadata(pack_metadata(raw, raw), raw) == raw


def test_headers_alike_cost_little_also_where_they_are_long() -> None:
    first = np.random.default_rng(2).bytes(100_000)
    other = first[:40] + b"other time" + first[44:]
    packed = pack_metadata(other, first)
    assert len(packed) < len(first) // 100
    assert unpack_metadata(packed, first) == other


def test_layout_is_that_of_the_specification() -> None:
    raw, dictionary = b"abc" * 9000, b"cab" * 20_000
    packed = pack_metadata(raw, dictionary)
    assert struct.unpack_from("<I", packed) == (27_000,)
    at, found = 4, b""
    for start in (0, 16_384):
        (size,) = struct.unpack_from("<I", packed, at)
        inflate = zlib.decompressobj(-15, dictionary[max(0, start - 8192) : start + 24_576])
        found += inflate.decompress(packed[at + 4 : at + 4 + size])
        at += 4 + size
    assert found == raw
    assert at == len(packed)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\1\0\0",
        b"\1\0\0\0",
        b"\1\0\0\0\4\0\0\0ab",
        b"\1\0\0\0\xff\xff\xff\xffab",
        b"\xff\xff\xff\xff" + b"\4\0\0\0" * 9,
        b"\0\0\0\0\0",
        b"\1\0\0\0\2\0\0\0\xff\xff",
        struct.pack("<II", 4, len(deflated(b"abc"))) + deflated(b"abc"),
        struct.pack("<II", 2, len(deflated(b"abc"))) + deflated(b"abc"),
        struct.pack("<II", 3, len(deflated(b"abc")) - 1) + deflated(b"abc")[:-1],
        struct.pack("<II", 3, len(deflated(b"abc")) + 1) + deflated(b"abc") + b"x",
        struct.pack("<II", 3, len(deflated(b"abc"))) + deflated(b"abc") + b"x",
    ],
)
def test_damaged_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(BitstreamError):
        unpack_metadata(packed, b"")


def test_bomb_is_defused() -> None:
    bomb = deflated(bytes(200 << 20))
    tracemalloc.start()
    try:
        for raw_size in (1, 16_384, MAX_METADATA, MAX_METADATA + 1):
            with pytest.raises(BitstreamError):
                unpack_metadata(struct.pack("<II", raw_size, len(bomb)) + bomb, b"")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_metadata_too_large_is_refused() -> None:
    with pytest.raises(SpecError):
        pack_metadata(bytes(MAX_METADATA + 1), b"")
    with pytest.raises(BitstreamError):
        unpack_metadata(struct.pack("<I", MAX_METADATA + 1), b"")

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_samples import make_spec

from edge_codec.bitstream.header import pack_header, unpack_header
from edge_codec.bitstream.region_runs import pack_region, unpack_region
from edge_codec.errors import BitstreamError
from edge_codec.region import Region
from edge_codec.spec import ModelId, StreamSpec

SHAPE = (2, 40, 60)  # 2 x 3 x 4 squares


def region_of(squares: str, gain: int = 6, bound: int | None = 1) -> Region:
    return Region(bytes(int(square) for square in squares), gain, bound)


def with_region() -> StreamSpec:
    spec = make_spec(rich=True, model=ModelId.DWT_CAL, model_hashes=(), max_error=4)
    info = replace(spec.info, rows=40, columns=60)
    return replace(spec, info=info, region=region_of("000001100110" * 2))


def test_a_region_has_the_bytes_of_the_specification() -> None:
    assert pack_region(region_of("000001100110" + "0" * 12)).hex(" ") == (
        "06 01 00 00 00 05 02 02 02 0d"  # gain, bound; 5 out, 2 in, 2 out, 2 in, 13 out
    )
    assert pack_region(region_of("1" * 24, 3, None)).hex(" ") == "03 ff ff ff ff 00 18"
    assert pack_region(None) == b""


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.booleans(), min_size=24, max_size=24).filter(any),
    st.integers(1, 63),
    st.none() | st.integers(0, 2**31 - 1),
)
def test_unpack_inverts_pack(squares: list[bool], gain: int, bound: int | None) -> None:
    region = Region(bytes(squares), gain, bound)
    assert unpack_region(pack_region(region), *SHAPE) == region


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "0 bytes"),
        ("06 01 00 00 00", "5 bytes"),
        ("06 01 00 00 00 05 02 02 02 0c", "runs of 23 squares"),
        ("06 01 00 00 00 05 02 02 02 0e", "runs of 25 squares"),
        ("06 01 00 00 00 05 02 00 02 0f", "empty"),
        ("06 01 00 00 00 05 13 00", "empty"),
        ("06 01 00 00 00 05 93", "end within a number"),
        ("06 01 00 00 00 05 93 00", "no number|shortest"),
        ("06 01 00 00 00 ff ff ff ff 0f", "runs of 4294967295"),
    ],
)
def test_hostile_runs_are_refused(data: str, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        unpack_region(bytes.fromhex(data), *SHAPE)


def test_more_squares_than_a_stream_has_take_no_memory() -> None:
    with pytest.raises(BitstreamError, match="at most"):
        unpack_region(bytes.fromhex("06 01 00 00 00 00 ff ff ff ff 0f"), 65_535, 4096, 4096)


def test_header_with_a_region() -> None:
    spec = with_region()
    data = pack_header(spec)
    assert unpack_header(data) == spec
    without = pack_header(replace(spec, region=None))
    assert data[10:12] == b"\1\0"
    assert without[10:12] == b"\0\0"
    assert len(data) - len(without) == 4 + len(pack_region(spec.region))


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    data = pack_header(with_region())
    for position in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack_header(data[:position])
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            unpack_header(bytes(damaged))


@pytest.mark.parametrize(
    ("at", "raw", "message"),
    [
        (0, b"\0\0\0\0", "too short for its region"),
        (0, b"\xff\xff\xff\xff", "too short for its region"),
        (0, b"\x05\0\0\0", "add up to"),
        (4, b"\x40", "quality_gain"),
        (4, b"\x00\xff\xff\xff\xff", "nothing holds"),
        (5, b"\xfe\xff\xff\xff", "max_error of the region is -2"),
        (5, b"\x04\0\0\0", "lower there"),
        (9, b"\x06", "runs of 25"),
    ],
)
def test_hostile_region_with_right_crc_is_refused(at: int, raw: bytes, message: str) -> None:
    spec = with_region()
    data = bytearray(pack_header(spec))
    begin = data.index(pack_region(spec.region)) - 4 + at
    data[begin : begin + len(raw)] = raw
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(data[:-4]))
    with pytest.raises(BitstreamError, match=message):
        unpack_header(bytes(data))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_a_region_or_refused(data: bytes) -> None:
    header = bytearray(pack_header(with_region()))
    region = pack_region(with_region().region)
    at = header.index(region) - 4
    body = (
        bytes(header[:at]) + struct.pack("<I", len(data)) + data + header[at + 4 + len(region) : -4]
    )
    body = body[:12] + struct.pack("<I", len(body) + 4) + body[16:]
    whole = body + struct.pack("<I", zlib.crc32(body))
    try:
        spec = unpack_header(whole)
    except BitstreamError:
        return
    assert pack_header(spec) == whole
    assert spec.region is not None
    assert np.any(spec.region.mask(*SHAPE))

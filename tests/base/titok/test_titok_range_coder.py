"""The range coder of a frame's tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.base.titok.range_coder import PartReader, write_parts
from edge_codec.errors import BitstreamError

PARTS = st.lists(
    st.integers(0, 65535).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(1, 65536 - start))
    ),
    max_size=80,
)


@given(PARTS)
def test_parts_come_back_in_few_bytes(parts):
    payload = write_parts(parts)
    reader = PartReader(payload)
    for start, frequency in parts:
        assert start <= reader.peek() < start + frequency
        reader.take(start, frequency)
    reader.close()
    bits = sum(16 - math.log2(frequency) for _, frequency in parts)
    assert len(payload) <= bits / 8 + 1.01


def test_known_bytes():
    assert write_parts([]) == b""
    assert write_parts([(0, 65536)] * 50) == b""
    assert write_parts([(0x1234, 1)]) == b"\x12\x34"
    assert write_parts([(0x1234, 1)] * 3) == b"\x12\x34" * 3
    assert write_parts([(32768, 32768)]) == b"\x80"


def test_what_no_writer_writes_is_refused():
    with pytest.raises(BitstreamError, match="zero byte"):
        PartReader(b"\x12\x00")
    reader = PartReader(b"\x12\x34")
    reader.take(0x1234, 1)
    reader.close()
    reader = PartReader(bytes(range(1, 30)))
    reader.take(reader.peek(), 1)
    with pytest.raises(BitstreamError, match="goes on"):
        reader.close()
    reader = PartReader(b"\xff" * 20)
    reader.take(65535, 1)
    reader.take(65535, 1)
    reader._value = reader._width  # beyond its interval, as rounding leaves a rest of it
    with pytest.raises(BitstreamError, match="no token"):
        reader.peek()

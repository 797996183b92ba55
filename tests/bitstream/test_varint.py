from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.bitstream.varint import (
    MAX_VARINT,
    pack_varint,
    pack_varints,
    read_varint,
    read_varints,
    varint_size,
)
from edge_codec.errors import BitstreamError


@pytest.mark.parametrize(
    ("number", "raw"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (MAX_VARINT, "ffffffff0f"),
    ],
)
def test_numbers_have_the_bytes_of_the_specification(number: int, raw: str) -> None:
    assert pack_varint(number).hex() == raw
    assert read_varint(bytes.fromhex(raw), 0) == (number, len(raw) // 2)


@settings(derandomize=True, max_examples=300)
@given(st.integers(0, MAX_VARINT), st.binary(max_size=3), st.binary(max_size=9))
def test_read_inverts_pack(number: int, before: bytes, after: bytes) -> None:
    raw = pack_varint(number)
    assert len(raw) == varint_size(number)
    assert read_varint(before + raw + after, len(before)) == (number, len(before) + len(raw))


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.integers(0, 300) | st.integers(0, MAX_VARINT), max_size=20))
def test_many_numbers_are_one_after_another(numbers: list[int]) -> None:
    raw = pack_varints(np.array(numbers, np.int64))
    assert raw == b"".join(map(pack_varint, numbers))
    assert read_varints(raw).tolist() == numbers


@settings(derandomize=True, max_examples=500)
@given(st.lists(st.sampled_from([0, 1, 15, 16, 127, 128, 255]) | st.integers(0, 255), max_size=12))
def test_many_numbers_have_one_form(raw: list[int]) -> None:
    try:
        numbers = read_varints(bytes(raw))
    except BitstreamError:
        with pytest.raises(BitstreamError):
            read_one_by_one(bytes(raw))
        return
    assert read_one_by_one(bytes(raw)) == numbers.tolist()


def read_one_by_one(raw: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(raw):
        number, at = read_varint(raw, at)
        numbers.append(number)
    return numbers


@settings(derandomize=True, max_examples=500)
@given(st.binary(max_size=7))
def test_a_number_has_one_form(raw: bytes) -> None:
    try:
        number, end = read_varint(raw, 0)
    except BitstreamError:
        return
    assert pack_varint(number) == raw[:end]


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "80",
        "ffffffff",
        "8000",  # 0 in two bytes
        "ff00",  # 127 in two bytes
        "8080808000",
        "ffffffff1f",  # beyond 32 bits
        "808080808001",  # six bytes
    ],
)
def test_other_forms_are_refused(raw: str) -> None:
    with pytest.raises(BitstreamError, match="no number"):
        read_varint(bytes.fromhex(raw), 0)

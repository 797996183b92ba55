"""Hostile payloads: an error or some frame, never anything else, and both decoders agree."""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from residual_samples import EFFORTS, Frame, Slice, encode_all

from edge_codec.errors import BitstreamError
from edge_codec.spec import Effort

SIZES = [
    Slice(9, 8, 255),
    Slice(9, 8, 2**32 - 1),
    Slice(9, 8, 2**32 - 1, 2**31 - 1),
    Slice(9, 8, 4095, 2, True),
    Slice(200, 2, 255),
]
SLICES = [slice_._replace(effort=effort) for slice_ in SIZES for effort in EFFORTS]


@cache
def coded_frames(
    slice_: Slice, late: tuple[bool, ...] = ()
) -> tuple[tuple[bytes, ...], Frame | None]:
    """Payloads of a key frame and two that follow, and their base."""
    rows, columns, span = slice_[:3]
    rng = np.random.default_rng(1)
    steps = rng.integers(-span // 50 - 1, span // 50 + 2, (rows, columns)).cumsum(1)
    base = np.clip(span // 2 + steps, 0, span).astype(np.uint32) if slice_.with_base else None
    frames = [
        np.clip(span // 2 + steps + rng.integers(-3, 4, steps.shape), 0, span).astype(np.uint32)
        for _ in range(3)
    ]
    coded = encode_all(slice_, [(frame, base) for frame in frames], late=list(late))
    return tuple(payload for payload, _ in coded), base


def decode_both(slice_: Slice, payloads: list[bytes], base: Frame | None) -> list[Frame | None]:
    """Decode with both decoders until one refuses; they must do so together."""
    native, plain = slice_.decoder(), slice_.plain_decoder()
    results: list[Frame | None] = []
    for i, payload in enumerate(payloads):
        try:
            results.append(native.decode(payload, base, i == 0))
        except BitstreamError:
            with pytest.raises(AssertionError):
                plain.decode(payload, base, i == 0)
            return [*results, None]
        np.testing.assert_array_equal(plain.decode(payload, base, i == 0), results[-1])
        assert results[-1].max() <= slice_.span
    return results


@pytest.mark.parametrize("late", [(), (True, True, False)])
@pytest.mark.parametrize("slice_", SLICES)
def test_each_truncation_is_refused(slice_: Slice, late: tuple[bool, ...]) -> None:
    payloads, base = coded_frames(slice_, late)
    for size in range(len(payloads[0])):
        with pytest.raises(BitstreamError):
            slice_.decoder().decode(payloads[0][:size], base, True)


@pytest.mark.parametrize("slice_", SLICES)
def test_trailing_bytes_are_refused(slice_: Slice) -> None:
    payloads, base = coded_frames(slice_)
    for tail in (b"\0", b"\1", b"\0\0", bytes(8)):
        assert decode_both(slice_, [payloads[0] + tail], base) == [None]


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.sampled_from(SLICES),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_flipped_bytes_give_an_error_or_some_frame(
    slice_: Slice, late: tuple[bool, ...], which: int, flips: list[tuple[int, int]]
) -> None:
    coded, base = coded_frames(slice_, late)
    payloads = list(coded)
    damaged = bytearray(payloads[which])
    for position, mask in flips:
        damaged[position % len(damaged)] ^= mask
    payloads[which] = bytes(damaged)
    decode_both(slice_, payloads, base)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(SLICES),
    st.sampled_from([b"", *(bytes([mode]) for mode in range(6)), b"\2\1\0\0\0", b"\4\1\0\0\0"]),
    st.binary(max_size=200),
)
def test_any_bytes_give_an_error_or_some_frame(slice_: Slice, mode: bytes, payload: bytes) -> None:
    _, base = coded_frames(slice_)
    decode_both(slice_, [mode + payload], base)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(SLICES),
    st.booleans(),
    st.integers(0, 3),
    st.binary(max_size=60),
    st.binary(max_size=400),
)
def test_well_formed_heads_reach_the_coder(
    slice_: Slice, late: bool, bound: int, words: bytes, bits: bytes
) -> None:
    """Random symbols behind valid states and sizes get past the checks of the head."""
    _, base = coded_frames(slice_)
    fast = 3 if late and slice_.effort != Effort.FAST else 0
    whole = bound >= slice_.max_error
    head = bytes([fast]) if whole else struct.pack("<BI", 4 if fast else 2, bound)
    words = words[: len(words) & ~1]
    if slice_.effort == Effort.BEST and not fast:
        band = head + struct.pack("<I", 0x10000 | len(words)) + words
    else:
        states = struct.pack("<2I", 0x10000 | len(words), 0xFFFF0001)
        band = head + struct.pack("<I", len(bits)) + bits + states + words
    sizes = b"" if slice_.rows < 192 else struct.pack("<I", len(band))
    decode_both(slice_, [sizes + band * (2 if sizes else 1)], base)


@pytest.mark.parametrize("effort", EFFORTS)
def test_after_damage_only_a_key_frame_is_accepted(effort: Effort) -> None:
    slice_ = SIZES[0]._replace(effort=effort)
    payloads, _ = coded_frames(slice_)
    decoder, clean = slice_.decoder(), slice_.decoder()
    decoder.decode(payloads[0], None, True)
    with pytest.raises(BitstreamError):
        decoder.decode(payloads[1][:-1], None, False)
    with pytest.raises(BitstreamError, match="key frame"):
        decoder.decode(payloads[1], None, False)
    for i, payload in enumerate(payloads):  # nothing is left of the damaged frame
        np.testing.assert_array_equal(
            decoder.decode(payload, None, i == 0), clean.decode(payload, None, i == 0)
        )


@pytest.mark.parametrize("effort", [Effort.FAST, Effort.DEFAULT])
@pytest.mark.parametrize("size", [5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_sizes_beyond_the_payload_are_refused(effort: Effort, size: int) -> None:
    head = struct.pack("<BI", 0, size)
    assert decode_both(SIZES[0]._replace(effort=effort), [head + bytes(4)], None) == [None]
    bands = SIZES[4]._replace(effort=effort)
    assert decode_both(bands, [struct.pack("<I", size) + bytes(4)], None) == [None]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("bound", [2, 3, 2**31, 2**32 - 1])
def test_bounds_of_a_frame_that_save_nothing_are_refused(
    effort: Effort, bound: int, late: bool
) -> None:
    """A frame of the slice's own bound has mode 0, or 3."""
    slice_ = SIZES[3]._replace(effort=effort)
    payloads, base = coded_frames(slice_, (late,) * 3)
    mode = 3 if late and effort != Effort.FAST else 0
    assert payloads[0][0] == mode
    damaged = struct.pack("<BI", mode + (1 if mode else 2), bound) + payloads[0][1:]
    assert decode_both(slice_, [damaged], base) == [None]


@pytest.mark.parametrize("mode", [3, 4, 5, 255])
def test_modes_that_a_fast_stream_does_not_have_are_refused(mode: int) -> None:
    slice_ = SIZES[3]._replace(effort=Effort.FAST)
    payloads, base = coded_frames(slice_)
    bound = struct.pack("<I", 1) if mode == 4 else b""
    assert decode_both(slice_, [bytes([mode]) + bound + payloads[0][1:]], base) == [None]


@pytest.mark.parametrize("effort", EFFORTS)
def test_raw_values_above_the_span_are_refused(effort: Effort) -> None:
    slice_ = Slice(3, 3, 4, effort=effort)  # 3 bits a voxel: 5 to 7 are impossible
    whole = bytes([1, 0b00100100, 0b10010010, 0b01001001, 0b00000100])
    assert decode_both(slice_, [whole], None)[0] is not None
    for position, mask in ((1, 1), (2, 0x40), (4, 0x08), (4, 0x80)):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        assert decode_both(slice_, [bytes(damaged)], None) == [None]

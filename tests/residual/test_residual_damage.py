"""Hostile payloads: an error or some frame, never anything else, and the twins say the same."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.errors import BitstreamError
from edge_codec.residual import ResidualDecoder, ResidualEncoder
from edge_codec.residual.reference import ReferenceDecoder

SLICES = [
    (9, 8, 255, 0, False),
    (9, 8, 2**32 - 1, 0, False),
    (9, 8, 2**32 - 1, 2**31 - 1, False),
    (9, 8, 4095, 2, True),
    (200, 2, 255, 0, False),
]

Result = NDArray[np.uint32] | None


def coded_frames(
    parameters: tuple[int, int, int, int, bool],
) -> tuple[list[bytes], NDArray[np.uint32] | None]:
    """Payloads of a key frame and two that follow, and their base."""
    rows, columns, span, _, with_base = parameters
    rng = np.random.default_rng(1)
    steps = rng.integers(-span // 50 - 1, span // 50 + 2, (rows, columns)).cumsum(1)
    base = np.clip(span // 2 + steps, 0, span).astype(np.uint32) if with_base else None
    encoder = ResidualEncoder(*parameters)
    payloads = []
    for i in range(3):
        frame = np.clip(span // 2 + steps + rng.integers(-3, 4, steps.shape), 0, span)
        payloads.append(encoder.encode(frame.astype(np.uint32), base, i == 0)[0])
    return payloads, base


def try_decode(
    decoder: ResidualDecoder | ReferenceDecoder,
    payload: bytes,
    base: NDArray[np.uint32] | None,
    key: bool,
) -> Result:
    try:
        return decoder.decode(payload, base, key)
    except BitstreamError:
        return None


def decode_both(
    parameters: tuple[int, int, int, int, bool],
    payloads: list[bytes],
    base: NDArray[np.uint32] | None,
) -> list[Result]:
    """Decode with both twins until one refuses; they must do so together."""
    native, reference = ResidualDecoder(*parameters), ReferenceDecoder(*parameters)
    results: list[Result] = []
    for i, payload in enumerate(payloads):
        first, second = (try_decode(each, payload, base, i == 0) for each in (native, reference))
        assert (first is None) == (second is None)
        results.append(first)
        if first is None or second is None:
            break
        np.testing.assert_array_equal(first, second)
        assert first.max() <= parameters[2]
    return results


@pytest.mark.parametrize("parameters", SLICES)
def test_each_truncation_is_refused(parameters: tuple[int, int, int, int, bool]) -> None:
    payloads, base = coded_frames(parameters)
    for size in range(len(payloads[0])):
        with pytest.raises(BitstreamError):
            ResidualDecoder(*parameters).decode(payloads[0][:size], base, True)


@pytest.mark.parametrize("parameters", SLICES)
def test_trailing_bytes_are_refused(parameters: tuple[int, int, int, int, bool]) -> None:
    payloads, base = coded_frames(parameters)
    for tail in (b"\0", b"\1", b"\0\0", bytes(8)):
        assert decode_both(parameters, [payloads[0] + tail], base) == [None]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(SLICES),
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_flipped_bytes_give_an_error_or_some_frame(
    parameters: tuple[int, int, int, int, bool], which: int, flips: list[tuple[int, int]]
) -> None:
    payloads, base = coded_frames(parameters)
    damaged = bytearray(payloads[which])
    for position, mask in flips:
        damaged[position % len(damaged)] ^= mask
    payloads[which] = bytes(damaged)
    decode_both(parameters, payloads, base)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.sampled_from(SLICES), st.sampled_from([b"", b"\0", b"\1"]), st.binary(max_size=200))
def test_any_bytes_give_an_error_or_some_frame(
    parameters: tuple[int, int, int, int, bool], mode: bytes, payload: bytes
) -> None:
    _, base = coded_frames(parameters)
    decode_both(parameters, [mode + payload], base)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.sampled_from(SLICES), st.binary(max_size=60), st.binary(max_size=400))
def test_well_formed_heads_reach_the_coder(
    parameters: tuple[int, int, int, int, bool], words: bytes, bits: bytes
) -> None:
    """Random symbols behind valid states and sizes get past the checks of the head."""
    _, base = coded_frames(parameters)
    segment = struct.pack("<2I", 0x10000 | len(words), 0xFFFF0001) + words[: len(words) & ~1]
    band = b"\0" + struct.pack("<I", len(segment)) + segment + bits
    sizes = b"" if parameters[0] < 192 else struct.pack("<I", len(band))
    decode_both(parameters, [sizes + band * (2 if sizes else 1)], base)


def test_after_damage_only_a_key_frame_is_accepted() -> None:
    parameters = SLICES[0]
    payloads, _ = coded_frames(parameters)
    for decoder in (ResidualDecoder(*parameters), ReferenceDecoder(*parameters)):
        decoder.decode(payloads[0], None, True)
        with pytest.raises(BitstreamError):
            decoder.decode(payloads[1][:-1], None, False)
        with pytest.raises(BitstreamError, match="key frame"):
            decoder.decode(payloads[1], None, False)
        decoder.decode(payloads[0], None, True)
        decoder.decode(payloads[1], None, False)


@pytest.mark.parametrize("size", [5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_sizes_beyond_the_payload_are_refused(size: int) -> None:
    head = struct.pack("<BI", 0, size)
    assert decode_both(SLICES[0], [head + bytes(4)], None) == [None]
    assert decode_both(SLICES[4], [struct.pack("<I", size) + bytes(4)], None) == [None]


def test_raw_values_above_the_span_are_refused() -> None:
    parameters = (3, 3, 4, 0, False)  # 3 bits a voxel: 5 to 7 are impossible
    whole = bytes([1, 0b00100100, 0b10010010, 0b01001001, 0b00000100])
    assert decode_both(parameters, [whole], None)[0] is not None
    for position, mask in ((1, 1), (2, 0x40), (4, 0x08), (4, 0x80)):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        assert decode_both(parameters, [bytes(damaged)], None) == [None]

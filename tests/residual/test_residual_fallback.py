"""Frames that are coded as FAST in streams of another effort: the same promises, other bytes."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from residual_samples import (
    BOUNDS,
    EFFORTS,
    KINDS,
    SPANS,
    Slice,
    check_round_trip,
    draw_frames,
    encode_all,
)

from edge_codec.errors import BitstreamError, FrameError
from edge_codec.residual import count_fast
from edge_codec.spec import Effort

SLOW = [Effort.DEFAULT, Effort.BEST]


@pytest.mark.parametrize("effort", SLOW)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(SPANS),
    st.sampled_from(BOUNDS),
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.booleans(), st.booleans()), min_size=1, max_size=7
    ),
    st.integers(0, 2**32 - 1),
)
def test_bound_holds_and_decoders_agree(
    effort: Effort,
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    sequence: list[tuple[str, bool, bool]],
    seed: int,
) -> None:
    slice_ = Slice(rows, columns, span, max_error, with_base, effort)
    frames = draw_frames(slice_, [kind for kind, _, _ in sequence], seed)
    keys, late = [True, *(key for _, key, _ in sequence[1:])], [late for _, _, late in sequence]
    payloads = check_round_trip(slice_, frames, keys, late=late)
    for payload, fell in zip(payloads, late, strict=True):
        assert payload[0] in ((1, 3) if fell else (0, 1))
        assert count_fast(payload, rows) == (payload[0] == 3, 1)


@pytest.mark.parametrize("effort", SLOW)
@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("max_error", [0, 3])
def test_each_order_of_efforts(effort: Effort, with_base: bool, max_error: int) -> None:
    """Whatever a frame fell back to, the next one looks at it, with all planes there are."""
    slice_ = Slice(17, 21, 1023, max_error, with_base, effort)
    late = [bool(int(digit)) for digit in "0110001011101000"]
    payloads = check_round_trip(slice_, draw_frames(slice_, ["wave"] * 16, 6), late=late)
    assert [payload[0] for payload in payloads] == [3 if each else 0 for each in late]


@pytest.mark.parametrize("effort", SLOW)
@pytest.mark.parametrize("with_base", [False, True])
def test_each_key_frame_begins_anew(effort: Effort, with_base: bool) -> None:
    slice_ = Slice(16, 18, 4095, 1, with_base, effort)
    frames = draw_frames(slice_, ["wave"] * 5, 9)
    late = [False, True, True, False, True]
    payloads = check_round_trip(
        slice_, [*frames, *frames], [i % 5 == 0 for i in range(10)], late=late * 2
    )
    assert payloads[:5] == payloads[5:]


@pytest.mark.parametrize("effort", SLOW)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from(SPANS),
    st.sampled_from(BOUNDS),
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.lists(st.booleans(), min_size=3, max_size=3)),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_coding_anew_is_coding_at_once(
    effort: Effort,
    rows: int,
    columns: int,
    span: int,
    max_error: int,
    with_base: bool,
    sequence: list[tuple[str, list[bool]]],
    parts: list[float],
    seed: int,
) -> None:
    """What was coded and not committed leaves no trace, whether it fell back or not."""
    slice_ = Slice(rows, columns, span, max_error, with_base, effort)
    anew, at_once, decoder = slice_.encoder(), slice_.encoder(), slice_.decoder()
    for i, (frame, base) in enumerate(draw_frames(slice_, [kind for kind, _ in sequence], seed)):
        bound = int(parts[i] * max_error)
        instants = [0 if late else None for late in sequence[i][1]]
        anew.encode(frame, base, i == 0, None, instants[0])
        anew.encode(frame, base, i == 0, bound // 2, instants[1])
        payload, decoded = anew.encode(frame, base, i == 0, bound, instants[2])
        anew.commit()
        expected, _ = at_once.encode(frame, base, i == 0, bound, instants[2])
        at_once.commit()
        assert payload == expected
        np.testing.assert_array_equal(decoder.decode(payload, base, i == 0), decoded)
        assert int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max()) <= bound


@pytest.mark.parametrize("effort", SLOW)
def test_a_bound_of_the_frame_is_in_its_payload(effort: Effort) -> None:
    slice_ = Slice(16, 20, 4095, 9, True, effort)
    encoder, decoder, plain = slice_.encoder(), slice_.decoder(), slice_.plain_decoder()
    for i, (frame, base) in enumerate(draw_frames(slice_, ["wave"] * 8, 3)):
        bound, late = (9, 0, 4, 8, 9, 2, 3, 9)[i], i % 4 != 3
        payload, decoded = encoder.encode(frame, base, i == 0, bound, 0 if late else None)
        encoder.commit()
        assert payload[0] == ((3 if late else 0) if bound == 9 else (4 if late else 2))
        if bound != 9:
            assert int.from_bytes(payload[1:5], "little") == bound
        for each in (decoder, plain):
            np.testing.assert_array_equal(each.decode(payload, base, i == 0), decoded)
        assert int(np.abs(decoded.astype(np.int64) - frame.astype(np.int64)).max()) <= bound


@pytest.mark.parametrize("effort", SLOW)
def test_giving_up_half_way_is_giving_up_at_once(effort: Effort) -> None:
    """Wherever the instant lies, each band is coded in one of two ways."""
    slice_ = Slice(200, 90, 1023, 1, False, effort)
    frames = draw_frames(slice_, ["wave"] * 12, 5)
    decoder = slice_.decoder()
    encoders = whole, at_once, half_way = [slice_.encoder() for _ in range(3)]
    for i, ((frame, _), (before, _)) in enumerate(pairwise(frames)):
        for each in encoders:  # the same state in all of them
            key, _ = each.encode(before, None, True)
            each.commit()
        decoder.decode(key, None, True)
        instant = time.monotonic_ns() + 200_000 * i
        payload, decoded = half_way.encode(frame, None, False, None, instant)
        choices = [
            split(each.encode(frame, None, False, None, give_up_ns)[0])
            for each, give_up_ns in ((whole, None), (at_once, 0))
        ]
        for band, choice in zip(split(payload), zip(*choices, strict=True), strict=True):
            assert band in choice
        np.testing.assert_array_equal(decoder.decode(payload, None, False), decoded)
        for each in encoders:
            each.commit()


def split(payload: bytes) -> list[bytes]:
    """The payloads of two bands."""
    (size,) = struct.unpack_from("<I", payload)
    return [payload[4 : 4 + size], payload[4 + size :]]


@pytest.mark.parametrize("effort", SLOW)
@pytest.mark.parametrize("with_base", [False, True])
def test_bands_fall_back_by_themselves(effort: Effort, with_base: bool) -> None:
    slice_ = Slice(192, 7, 1023, 2, with_base, effort)
    frames = draw_frames(slice_, ["wave"] * 5, 2)
    upper = encode_all(slice_, frames, late=[False, True, False, False, True])
    lower = encode_all(slice_, frames, late=[True, False, False, True, True])
    decoder, plain = slice_.decoder(), slice_.plain_decoder()
    counts = []
    for i, ((one, top), (other, bottom)) in enumerate(zip(upper, lower, strict=True)):
        bands = split(one)[0], split(other)[1]
        payload = struct.pack("<I", len(bands[0])) + b"".join(bands)
        counts.append(count_fast(payload, 192))
        expected = np.concatenate([top[:96], bottom[96:]])
        for each in (decoder, plain):
            np.testing.assert_array_equal(each.decode(payload, frames[i][1], i == 0), expected)
    assert counts == [(1, 2), (1, 2), (0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("effort", SLOW)
def test_noise_is_raw_whether_there_is_time_or_not(effort: Effort) -> None:
    slice_ = Slice(12, 15, 255, 0, False, effort)
    kinds = ["walk", "noise", "walk", "noise", "noise", "walk"]
    payloads = check_round_trip(
        slice_, draw_frames(slice_, kinds, 3), late=[True, True, True, False, True, True]
    )
    assert [payload[0] for payload in payloads] == [3, 1, 3, 1, 1, 3]


def test_fast_streams_take_no_notice() -> None:
    slice_ = Slice(30, 31, 1023, effort=Effort.FAST)
    frames = draw_frames(slice_, ["wave"] * 4, 1)
    coded = encode_all(slice_, frames)
    late = encode_all(slice_, frames, late=[True] * 4)
    assert [payload for payload, _ in coded] == [payload for payload, _ in late]
    assert [count_fast(payload, 30) for payload, _ in late] == [(0, 1)] * 4


@pytest.mark.parametrize("effort", SLOW)
def test_streams_without_time_are_those_of_effort_fast(effort: Effort) -> None:
    """Nothing is lost by falling back all the time: models and magnitudes live on."""
    slice_ = Slice(40, 41, 1023, 0, False, effort)
    frames = draw_frames(slice_, ["wave"] * 6, 1)
    late = encode_all(slice_, frames, late=[True] * 6)
    fast = encode_all(slice_._replace(effort=Effort.FAST), frames)
    assert [payload[1:] for payload, _ in late] == [payload[1:] for payload, _ in fast]


@pytest.mark.parametrize("give_up_ns", [-(2**70), -1, 2**63 - 1, 2**63, 2**70])
def test_any_instant_may_be_given(give_up_ns: int) -> None:
    frame = np.zeros((9, 9), np.uint32)
    payload, _ = Slice(9, 9, 9).encoder().encode(frame, None, True, None, give_up_ns)
    assert count_fast(payload, 9) == (give_up_ns < 0, 1)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=30), st.integers(1, 400))
def test_counting_bands_of_any_bytes(payload: bytes, rows: int) -> None:
    try:
        fast, bands = count_fast(payload, rows)
    except BitstreamError:
        return
    assert 0 <= fast <= bands == max(1, rows // 96)


@pytest.mark.parametrize(
    ("payload", "rows"),
    [
        (b"", 5),
        (b"\5", 5),
        (b"\xff", 95),
        (b"\3", 192),
        (struct.pack("<IB", 1, 3), 192),
        (struct.pack("<IBB", 3, 3, 3), 192),
        (struct.pack("<IBB", 1, 3, 9), 192),
    ],
)
def test_bands_of_damaged_payloads_are_not_counted(payload: bytes, rows: int) -> None:
    with pytest.raises(BitstreamError):
        count_fast(payload, rows)


@pytest.mark.parametrize("effort", EFFORTS)
def test_room_for_the_decoded_frame_may_be_given(effort: Effort) -> None:
    slice_ = Slice(200, 12, 999, 2, False, effort)
    encoder, room = slice_.encoder(), np.empty((200, 12), np.uint32)
    frames = draw_frames(slice_, ["wave"] * 3, 4)
    for i, expected in enumerate(encode_all(slice_, frames)):
        room[:] = 77
        payload, decoded = encoder.encode(frames[i][0], None, i == 0, out=room)
        encoder.commit()
        assert decoded is room
        assert payload == expected[0]
        np.testing.assert_array_equal(decoded, expected[1])


def read_only() -> NDArray[np.uint32]:
    """An array that may not be written to."""
    frame = np.zeros((5, 6), np.uint32)
    frame.flags.writeable = False
    return frame


@pytest.mark.parametrize(
    "room",
    [
        np.zeros((6, 5), np.uint32),
        np.zeros((5, 6), np.int32),
        np.zeros((5, 6), np.uint64),
        np.zeros((6, 5), np.uint32).T,
        np.zeros((5, 12), np.uint32)[:, ::2],
        read_only(),
    ],
)
def test_room_that_does_not_fit_is_refused(room: NDArray[np.uint32]) -> None:
    encoder, frame = Slice(5, 6, 9).encoder(), np.zeros((5, 6), np.uint32)
    with pytest.raises(FrameError, match="room"):
        encoder.encode(frame, None, True, out=room)
    encoder.encode(frame, None, True)

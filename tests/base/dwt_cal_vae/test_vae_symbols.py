"""The range coder of the wavelet and VAE layer: round trips, and what is no payload."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_vae import DamagedError, Values
from vae_builds import builds

from edge_codec.base.dwt_cal_vae import reading
from edge_codec.base.dwt_cal_vae.codec import Known
from edge_codec.base.dwt_cal_vae.network import Expected
from edge_codec.base.dwt_cal_vae.reading import SymbolReader, write_symbols
from edge_codec.errors import BitstreamError

BUILDS = builds()


def make_table() -> np.ndarray:
    """Two distributions: nearly certain zeros, most values without a frequency, and flat ones."""
    rare = np.zeros(256, np.int64)
    rare[:4] = 65000, 300, 200, 35
    rare[255] = 1
    flat = np.full(256, 256, np.int64)
    table = np.zeros((2, 257), np.uint32)
    table[:, 1:] = np.cumsum([rare, flat], axis=1)
    return table


TABLE = make_table()
Known_ = Known(np.zeros((1, 1, 64), np.int32), np.zeros((1, 1, 2), np.int16))


def read(payload: bytes, scales: np.ndarray) -> np.ndarray:
    reader = SymbolReader(payload, TABLE)
    shape = (1, len(scales), 1)
    expected = Expected(
        np.zeros(shape, np.int32), np.ones(1, np.int32), scales.reshape(shape), step_bits=4
    )
    values = reader.side(expected, Known_)
    reader.close()
    return values.ravel()


values = st.one_of(st.integers(-3, 3), st.integers(-4095, 4095))
parts = st.lists(st.tuples(st.integers(0, 1), values), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(parts)
def test_what_is_written_is_read(found):
    scales = np.array([scale for scale, _ in found], np.uint8)
    symbols = np.array([value for _, value in found], np.int16)
    payload = write_symbols([(scales[:1], symbols[:1]), (scales[1:], symbols[1:])], TABLE)
    assert np.array_equal(read(payload, scales), symbols)
    for native in BUILDS:
        assert native.write(scales, symbols, TABLE) == payload
    plain = Values(payload, TABLE)
    assert np.array_equal(plain.values(scales), symbols)
    plain.close()
    assert payload[-1:] != b"\0"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(0, 1), min_size=1, max_size=30))
def test_any_payload_is_read_alike_or_refused_by_both(payload, contexts):
    scales = np.array(contexts, np.uint8)
    try:
        plain = Values(payload, TABLE)
        expected = plain.values(scales)
        plain.close()
    except DamagedError:
        expected = None
    if expected is None:
        with pytest.raises(BitstreamError):
            read(payload, scales)
    else:
        assert np.array_equal(read(payload, scales), expected)


def test_zeros_cost_next_to_nothing():
    scales = np.zeros(5000, np.uint8)
    assert len(write_symbols([(scales, np.zeros(5000, np.int16))], TABLE)) == 0
    many = np.ones(50_000, np.uint8)
    symbols = np.random.default_rng(1).integers(-127, 128, 50_000).astype(np.int16)
    assert len(write_symbols([(many, symbols)], TABLE)) == pytest.approx(50_000, abs=3)


def test_carries_go_back_into_what_was_written():
    """The last of 256 equal parts again and again, then a little more."""
    scales = np.ones(4000, np.uint8)
    rng = np.random.default_rng(2)
    for _ in range(20):
        symbols = np.where(rng.random(4000) < 0.99, -127, rng.integers(-127, 128, 4000))
        payload = write_symbols([(scales, symbols.astype(np.int16))], TABLE)
        assert np.array_equal(read(payload, scales), symbols)


def test_left_over_bytes_are_refused():
    scales = np.ones(9, np.uint8)
    payload = write_symbols([(scales, np.arange(9).astype(np.int16))], TABLE)
    with pytest.raises(BitstreamError, match="goes on after its last latent"):
        read(payload + bytes(range(1, 9)), scales)
    with pytest.raises(BitstreamError, match="not what an encoder writes"):
        read(payload + b"\0", scales)


def test_motion_is_bounded():
    scales = np.ones(2, np.uint8)
    for value, is_right in ((6, True), (-6, True), (7, False), (-4095, False)):
        payload = write_symbols([(scales, np.array([0, value], np.int16))], TABLE)
        reader = SymbolReader(payload, TABLE)
        if is_right:
            assert reader.motion(scales.reshape(1, 1, 2))[0, 0, 1] == value
        else:
            with pytest.raises(BitstreamError, match=f"moves by {abs(value)} half pixels"):
                reader.motion(scales.reshape(1, 1, 2))


@pytest.mark.parametrize("native", BUILDS, ids=lambda build: build.__name__.split(".")[-1])
def test_what_does_not_fit_is_refused(native):
    scales, symbols = np.zeros(3, np.uint8), np.zeros(3, np.int16)
    backwards, open_end, impossible = (TABLE.copy() for _ in range(3))
    backwards[0, 5] = 0
    open_end[1, 256] = 65535
    impossible[1, 255] = 65536
    for table in (backwards, open_end, impossible, TABLE[:, :-1].copy()):
        with pytest.raises(ValueError, match="table"):
            native.write(scales, symbols, table)
        with pytest.raises(ValueError, match="table"):
            native.open(b"", table)
    for wrong in (
        (scales + 2, symbols, TABLE),
        (scales[:2], symbols, TABLE),
        (scales, symbols + 4096, TABLE),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            native.write(*wrong)
    reader = native.open(b"", TABLE)
    for contexts in (scales + 2, scales[:2]):
        with pytest.raises(ValueError, match="do not fit"):
            native.read(reader, contexts, symbols)
    assert reading.native in BUILDS

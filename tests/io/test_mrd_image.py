from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_samples import DTYPES, META, make_header, make_image, random_voxels, smooth_voxels

from edge_codec.errors import BitstreamError, FrameError
from edge_codec.io.mrd_image import (
    Form,
    ImageHead,
    choose_form,
    is_whole,
    join_planes,
    plane_dtype,
    split_planes,
)
from edge_codec.io.mrd_note import Note, pack_dictionary, unpack_dictionary
from edge_codec.runtime.mrd.protocol import ImageMessage

SHAPE = (2, 3, 5, 4)


def round_trip(image: ImageMessage, form: Form) -> int:
    head = ImageHead.unpack(image.header)
    planes = split_planes(head, image.voxels, form)
    assert planes.shape == (head.n_planes(form), head.y, head.x)
    assert planes.dtype == plane_dtype(head.data_type, form)
    assert join_planes(head, planes, form) == bytes(image.voxels)
    return len(planes)


@pytest.mark.parametrize("data_type", DTYPES)
def test_every_bit_pattern_of_every_data_type_comes_back(data_type: int) -> None:
    image = make_image(random_voxels(data_type, SHAPE))
    form = choose_form(data_type, image.voxels)
    words = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 4}
    assert round_trip(image, form) == 6 * words[data_type]


@pytest.mark.parametrize("data_type", DTYPES)
def test_what_a_scanner_sends_needs_no_words_but_for_doubles(data_type: int) -> None:
    image = make_image(smooth_voxels(data_type, SHAPE))
    expected = {4: Form.INTEGER, 5: Form.FLOAT, 6: Form.WORDS, 7: Form.FLOAT, 8: Form.WORDS}
    form = choose_form(data_type, image.voxels)
    assert form is expected.get(data_type, Form.INTEGER)
    round_trip(image, form)


@pytest.mark.parametrize(
    ("voxels", "form", "whole"),
    [
        (np.array([1.0, 2.0, -3.0], np.float32), Form.FLOAT, True),
        (np.array([1.0, 2.5, -3.0], np.float32), Form.FLOAT, False),
        (np.array([1.0, np.nan], np.float32), Form.WORDS, False),
        (np.array([1.0, -np.inf], np.float32), Form.WORDS, False),
        (np.array([0.1, 2.0], np.float64), Form.WORDS, False),
        (np.array([0.5, 2.0**-140], np.float64), Form.FLOAT, False),
        (np.array([123_456_789.0, 2.0], np.float64), Form.FLOAT, True),
        (np.array([1 + 2j, 3j], np.complex64), Form.FLOAT, True),
        (np.array([1 + 2.5j, 3], np.complex64), Form.FLOAT, False),
        (np.array([1, complex(0, np.nan)], np.complex128), Form.WORDS, False),
        (np.array([7, 65_535], np.uint16), Form.INTEGER, True),
    ],
)
def test_forms(voxels: np.ndarray, form: Form, whole: bool) -> None:
    image = make_image(voxels.reshape(1, 1, 1, -1))
    data_type = ImageHead.unpack(image.header).data_type
    assert choose_form(data_type, image.voxels) is form
    assert is_whole(data_type, image.voxels) is whole
    round_trip(image, form)


def test_complex_planes_are_real_and_imaginary_parts() -> None:
    voxels = smooth_voxels(7, (2, 1, 4, 5))
    image = make_image(voxels)
    planes = split_planes(ImageHead.unpack(image.header), image.voxels, Form.FLOAT)
    assert np.array_equal(planes[0::2], voxels.real.reshape(2, 4, 5))
    assert np.array_equal(planes[1::2], voxels.imag.reshape(2, 4, 5))


def test_the_head_is_read_from_the_right_bytes() -> None:
    header = make_header(
        5, (3, 4, 5, 6), slice_index=11, phase=12, series=13, image_type=2, index=14
    )
    head = ImageHead.unpack(header)
    assert head == ImageHead(
        5, 77, 6, 5, 4, 300.0, 250.5, 8.0, 3, 3, 11, 4, 12, 5, 6, 2, 14, 13
    )  # fmt: skip
    assert head.spacing_mm == (2.0, 50.1, 50.0)


def test_odd_fields_of_view_are_no_spacing() -> None:
    head = ImageHead.unpack(make_header(1, (1, 1, 4, 4)))
    odd = head._replace(view_x_mm=float("nan"), view_y_mm=-1.0, z=0)
    assert odd.spacing_mm == (0.0, 0.0, 0.0)


def test_planes_of_another_image_are_refused() -> None:
    image = make_image(random_voxels(2, SHAPE))
    head = ImageHead.unpack(image.header)
    planes = split_planes(head, image.voxels, Form.INTEGER)
    with pytest.raises(FrameError, match="planes are"):
        join_planes(head, planes[1:], Form.INTEGER)
    with pytest.raises(FrameError, match="planes are"):
        join_planes(head, planes.astype(np.int32), Form.INTEGER)
    with pytest.raises(FrameError, match="bytes, not"):
        split_planes(head, bytes(image.voxels)[1:], Form.INTEGER)


def test_notes_come_back() -> None:
    header = make_header(7, (2, 1, 4, 5))
    first = Note(Form.FLOAT, 0, 4, 1 << 40, header, META)
    assert Note.unpack(first.pack()) == first
    other = Note(Form.FLOAT, 3, 4, 7)
    assert Note.unpack(other.pack()) == other
    assert unpack_dictionary(pack_dictionary(first.pack(), b"<xml/>")) == (first.pack(), b"<xml/>")


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_damaged_notes_are_refused_or_read(data: st.DataObject) -> None:
    raw = bytearray(Note(Form.FLOAT, 0, 4, 9, make_header(7, (2, 1, 4, 5)), b"<x/>").pack())
    raw[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for found in (bytes(raw), cut):
        try:
            note = Note.unpack(found)
        except BitstreamError:
            continue
        assert note.pack() == found
    with contextlib.suppress(BitstreamError):
        unpack_dictionary(cut)

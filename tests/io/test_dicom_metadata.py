import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_codec.errors import SourceError
from edge_codec.io.dicom_metadata import MAX_BYTES, DicomHeader

HEADERS = st.builds(
    DicomHeader,
    prefix=st.binary(),
    suffix=st.binary(),
    big_endian=st.booleans(),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    frame_order=st.lists(st.integers(0, 2**32 - 1)).map(tuple),
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(HEADERS)
def test_unpack_is_the_inverse_of_pack(header):
    assert DicomHeader.unpack(header.pack()) == header


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_an_error(data):
    try:
        header = DicomHeader.unpack(data)
    except SourceError:
        return
    assert len(header.prefix) + len(header.suffix) <= len(data)


def test_oversize_is_refused():
    with pytest.raises(SourceError, match="limit"):
        DicomHeader(b"", bytes(MAX_BYTES)).pack()


def test_frames_must_be_a_permutation():
    prefix = (8).to_bytes(4, "big")
    DicomHeader(prefix, b"", True, "", (1, 0)).check(8, 2)
    for order in ((0, 0), (1, 2), (0,)):
        with pytest.raises(SourceError, match="other frames"):
            DicomHeader(prefix, b"", True, "", order).check(8, 2)

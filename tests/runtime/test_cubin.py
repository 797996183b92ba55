import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_codec.errors import EngineError
from edge_codec.runtime.cubin import HEADER, SECTION, SEGMENT, check_cubin

CODE = b"\x90" * 40


def elf(
    machine: int = 190, sections: int = 3, offset: int | None = None, size: int = 40, names: int = 1
) -> bytes:
    """A file of CUDA with a segment, code, and a section that takes no space."""
    code = HEADER.size
    segments = code + len(CODE)
    table = segments + SEGMENT.size
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    counts = (HEADER.size, SEGMENT.size, 1, SECTION.size, sections, names)
    header = HEADER.pack(ident, 2, machine, 1, 0, segments, table, 0x5A, *counts)
    where = code if offset is None else offset
    entries = [
        SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        SECTION.pack(0, 1, 0, 0, where, size, 0, 0, 1, 0),
        SECTION.pack(0, 8, 0, 0, code, 1 << 40, 0, 0, 1, 0),
    ]
    segment = SEGMENT.pack(1, 5, code, 0, 0, len(CODE), len(CODE), 8)
    return header + CODE + segment + b"".join(entries)


def test_a_whole_file_passes() -> None:
    check_cubin("k", elf())


@given(st.integers(0, len(elf()) - 1))
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(EngineError, match="kernel 'k'"):
        check_cubin("k", elf()[:length])


@pytest.mark.parametrize(
    "altered",
    [
        elf(machine=62),
        elf(sections=0),
        elf(sections=60000),
        elf(names=3),
        elf(offset=1 << 63, size=1 << 63),
        elf(size=4000),
        b"PTX" + elf(),
        struct.pack("<2s", b"\x7f"),
    ],
)
def test_an_altered_file_is_refused(altered: bytes) -> None:
    with pytest.raises(EngineError, match=r"kernel 'k'.*build the engine file again"):
        check_cubin("k", altered)


@given(st.binary(max_size=300))
def test_a_header_without_the_rest_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError, match="kernel 'k'"):
        check_cubin("k", elf()[: HEADER.size] + data[:40])
    with pytest.raises(EngineError, match="kernel 'k'"):
        check_cubin("k", data)

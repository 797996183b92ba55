"""Checks the frame of a kernel's machine code before the driver reads it.

CUDA's machine code is an ELF file. The driver is given its address without its length, so that a
file that was cut would have it read beyond the end.
"""

from __future__ import annotations

import struct

from edge_codec.errors import EngineError

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
MACHINE_CUDA = 190
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
NO_BITS = 8  # type of a section that takes no space in the file


def check_cubin(name: str, cubin: bytes) -> None:
    """Refuse what is no ELF file of CUDA, or not a whole one.

    Parameters
    ----------
    name : str
        Of the kernel, for messages.
    cubin : bytes

    Raises
    ------
    EngineError
        If it is not CUDA's, or points beyond its end.
    """
    if len(cubin) < HEADER.size or not cubin.startswith(MAGIC):
        raise EngineError(f"kernel '{name}': {len(cubin)} bytes are no machine code; {REBUILD}")
    header = HEADER.unpack_from(cubin)
    machine, (segments, sections) = header[2], header[5:7]
    segment_size, n_segments, section_size, n_sections, names = header[9:]
    if machine != MACHINE_CUDA:
        raise EngineError(f"kernel '{name}': machine code of ELF machine {machine}; {REBUILD}")
    if n_segments:
        for entry in _entries(name, cubin, SEGMENT, segments, segment_size, n_segments):
            _check_extent(name, cubin, entry[2], entry[5])
    found = _entries(name, cubin, SECTION, sections, section_size, n_sections)
    if names >= len(found):
        raise EngineError(f"kernel '{name}': machine code without names of sections; {REBUILD}")
    for entry in found:
        if entry[1] != NO_BITS:
            _check_extent(name, cubin, entry[4], entry[5])


REBUILD = "build the engine file again"


def _entries(
    name: str, cubin: bytes, entry: struct.Struct, start: int, size: int, count: int
) -> list[tuple[int, ...]]:
    if size != entry.size:
        raise EngineError(f"kernel '{name}': table entries of {size} bytes; {REBUILD}")
    _check_extent(name, cubin, start, size * count)
    return [entry.unpack_from(cubin, start + size * index) for index in range(count)]


def _check_extent(name: str, cubin: bytes, start: int, size: int) -> None:
    if start + size > len(cubin):
        raise EngineError(
            f"kernel '{name}': machine code of {len(cubin)} bytes refers to {start + size}; it was "
            f"cut or altered, {REBUILD}"
        )

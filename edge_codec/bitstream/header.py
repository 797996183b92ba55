"""The header of a stream: every field of `StreamSpec`, down to the byte in `docs/bitstream.md`.

All numbers are little endian. The last four bytes are the CRC-32 of all bytes before them. No
length is believed before it is compared with what is there: the header's own size is bounded by
`MAX_HEADER`, and its parts must add up to it exactly.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import replace
from enum import IntEnum
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np

from edge_codec.bitstream.metadata import MAX_SOURCE_HEADER, pack_metadata, unpack_metadata
from edge_codec.bitstream.region_runs import pack_region, unpack_region
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.region import Region
from edge_codec.spec import (
    DTYPE_IDS,
    DTYPES,
    CineInfo,
    Effort,
    ModelId,
    SampleFormat,
    SourceHeader,
    SourceKind,
    StreamSpec,
)

MAGIC = b"\x89ECD\r\n\x1a\n"  # as PNG's: shows transfers that mend line ends or strip bit 7
VERSION = 1
MAX_HEADER = 16 << 20
MAX_HASHES = 64
MAX_TRIGGER_TIMES = 1 << 18

_PREFIX = struct.Struct("<8sHHI")  # magic, version, flags, header size
_BODY = struct.Struct("<4I4BiII16sqIBBH7d3I")
_CRC = struct.Struct("<I")
_SIZE = struct.Struct("<I")
_WITH_REGION = 1  # flag
_HASH_SIZE = 32
_FIXED = _PREFIX.size + _BODY.size
_Enum = TypeVar("_Enum", bound=IntEnum)


class _Body(NamedTuple):
    n_slices: int
    n_phases: int
    rows: int
    columns: int
    dtype: int
    sample_format: int
    source_kind: int
    model: int
    max_error: int
    key_interval: int
    span: int
    low: bytes
    window_offset: int
    window_width: int
    effort: int
    archive: int
    model_data_size: int
    spacing_slice: float
    spacing_row: float
    spacing_column: float
    rescale_slope: float
    rescale_intercept: float
    noise_sigma: float
    snr_loss_percent: float
    n_trigger_times: int
    n_hashes: int
    source_size: int


def pack_header(spec: StreamSpec) -> bytes:
    """Serialize the description of a stream.

    Parameters
    ----------
    spec : StreamSpec
        The description.

    Returns
    -------
    bytes
        The header, its CRC included.

    Raises
    ------
    SpecError
        If a value has no place in the format.
    """
    _check_packable(spec)
    info = spec.info
    source = pack_metadata(info.source.data, b"", MAX_SOURCE_HEADER)
    body = _Body(
        n_slices=info.n_slices,
        n_phases=info.n_phases,
        rows=info.rows,
        columns=info.columns,
        dtype=DTYPE_IDS[info.dtype],
        sample_format=info.sample_format,
        source_kind=info.source.kind,
        model=spec.model,
        max_error=-1 if spec.max_error is None else spec.max_error,
        key_interval=spec.key_interval,
        span=spec.high - spec.low,
        low=spec.low.to_bytes(16, "little", signed=True),
        window_offset=spec.window_low - spec.low,
        window_width=spec.window_high - spec.window_low,
        effort=spec.effort,
        archive=spec.archive,
        model_data_size=len(spec.model_data),
        spacing_slice=info.spacing_mm[0],
        spacing_row=info.spacing_mm[1],
        spacing_column=info.spacing_mm[2],
        rescale_slope=info.rescale_slope,
        rescale_intercept=info.rescale_intercept,
        noise_sigma=spec.noise_sigma,
        snr_loss_percent=spec.snr_loss_percent,
        n_trigger_times=len(info.trigger_time_ms),
        n_hashes=len(spec.model_hashes),
        source_size=len(source),
    )
    times = struct.pack(f"<{body.n_trigger_times}d", *info.trigger_time_ms)
    region, flags = pack_region(spec.region), 0
    if region:
        region, flags = _SIZE.pack(len(region)) + region, _WITH_REGION
    variable = times + b"".join(spec.model_hashes) + spec.model_data + region + source
    size = _FIXED + len(variable) + _CRC.size
    if size > MAX_HEADER:
        raise SpecError(
            f"the stream's header would have {size} bytes; the limit is {MAX_HEADER}: "
            "remove what is not needed from the source's header"
        )
    data = _PREFIX.pack(MAGIC, VERSION, flags, size) + _BODY.pack(*body) + variable
    return data + _CRC.pack(zlib.crc32(data))


def unpack_header(data: bytes) -> StreamSpec:
    """Parse a header, bytes from outside.

    Parameters
    ----------
    data : bytes
        The header, its CRC included, and nothing after it.

    Returns
    -------
    StreamSpec
        The description of the stream.

    Raises
    ------
    BitstreamError
        If the bytes are not a whole, undamaged, possible header of a known version.
    """
    size = header_size(data)
    if size != len(data):
        raise BitstreamError(f"header of {size} bytes expected, {len(data)} bytes found")
    (crc,) = _CRC.unpack_from(data, size - _CRC.size)
    found = zlib.crc32(memoryview(data)[: -_CRC.size])
    if crc != found:
        raise BitstreamError(
            f"header (bytes 0 to {size}) is damaged: CRC {found:08x} instead of {crc:08x}; "
            "get the file again, without its header nothing can be decoded"
        )
    body = _Body._make(_BODY.unpack_from(data, _PREFIX.size))
    region = _region_of(body, data)
    _check_sizes(body, size, 0 if region is None else _SIZE.size + len(region))
    try:
        return _spec_of(body, data, region)
    except SpecError as error:
        raise BitstreamError(f"header describes an impossible stream: {error}") from error


def header_size(data: bytes) -> int:
    """Read the size of the header from its first 16 bytes.

    Parameters
    ----------
    data : bytes
        Beginning of a stream.

    Returns
    -------
    int
        Size of the whole header in bytes, within the limits of the format.

    Raises
    ------
    BitstreamError
        If this is no stream, one of an unknown version, or its size is impossible.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise BitstreamError(
            f"this is not an edge-codec stream: it begins with {data[: len(MAGIC)]!r} instead of "
            f"{MAGIC!r}"
        )
    if len(data) < _PREFIX.size:
        raise BitstreamError(f"header is cut at byte {len(data)}; it has {_FIXED} bytes or more")
    _, version, flags, size = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise BitstreamError(
            f"stream of version {version}; this edge-codec reads version {VERSION}: upgrade it"
        )
    if flags & ~_WITH_REGION:
        raise BitstreamError(f"header flags are {flags:#x}; version {VERSION} knows 1")
    if not _FIXED + _CRC.size <= size <= MAX_HEADER:
        raise BitstreamError(
            f"header says it has {size} bytes; {_FIXED + _CRC.size} to {MAX_HEADER} are possible"
        )
    return int(size)


def read_header(file: BinaryIO) -> tuple[StreamSpec, int]:
    """Read the header from the current position of a file.

    Parameters
    ----------
    file : BinaryIO
        Source, need not be seekable.

    Returns
    -------
    spec : StreamSpec
        The description of the stream.
    size : int
        Bytes read: offset of the first packet.

    Raises
    ------
    BitstreamError
        If there is no whole, undamaged header.
    """
    prefix = read_exactly(file, _PREFIX.size)
    size = header_size(prefix)
    data = prefix + read_exactly(file, size - _PREFIX.size)
    if len(data) != size:
        raise BitstreamError(
            f"header is cut at byte {len(data)} of {size}; get the file again, without its header "
            "nothing can be decoded"
        )
    return unpack_header(data), size


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or fewer only where the file ends.

    Reads in steps, so that memory follows what is there and not what was promised.

    Parameters
    ----------
    file : BinaryIO
        Source at its current position.
    size : int
        Number of bytes wanted.

    Returns
    -------
    bytes
        The bytes.
    """
    step = 1 << 20
    data = file.read(min(size, step)) or b""
    if len(data) == size:
        return data
    parts, missing = [data], size - len(data)
    while missing and parts[-1]:
        parts.append(file.read(min(missing, step)) or b"")
        missing -= len(parts[-1])
    return b"".join(parts)


def _check_packable(spec: StreamSpec) -> None:
    _check_samples(spec)
    if len(spec.model_hashes) > MAX_HASHES or any(len(h) != _HASH_SIZE for h in spec.model_hashes):
        raise SpecError(f"model_hashes holds up to {MAX_HASHES} SHA-256 values of 32 bytes")
    if len(spec.info.trigger_time_ms) > MAX_TRIGGER_TIMES:
        raise SpecError(f"{len(spec.info.trigger_time_ms)} trigger times; drop them")
    if not all(map(math.isfinite, spec.info.trigger_time_ms)):
        raise SpecError("a trigger time is not a finite number; mend the source's header")


def _check_samples(spec: StreamSpec) -> None:
    """Refuse coded integers that the voxels' dtype cannot hold: decoders compute with it."""
    info = spec.info
    integer = info.sample_format is SampleFormat.INTEGER
    if integer != (info.dtype.kind in "iu"):
        raise SpecError(f"voxels of dtype {info.dtype} are not {info.sample_format.name}")
    bounds = np.iinfo(info.dtype.str if integer else "i4")
    if spec.low < bounds.min or spec.high > bounds.max:
        raise SpecError(
            f"voxels from {spec.low} to {spec.high} do not fit {bounds.dtype}, "
            f"{bounds.min} to {bounds.max}"
        )


def _region_of(body: _Body, data: bytes) -> bytes | None:
    """Return the bytes of the region, which follow the model data; None without a region."""
    _, _, flags, size = _PREFIX.unpack_from(data)
    if not flags & _WITH_REGION:
        return None
    at = _FIXED + 8 * body.n_trigger_times + _HASH_SIZE * body.n_hashes + body.model_data_size
    room = size - _CRC.size - at - _SIZE.size
    length = _SIZE.unpack_from(data, at)[0] if room >= 0 else 0
    if length > room or not length:
        raise BitstreamError(f"header is too short for its region, which begins at byte {at}")
    return data[at + _SIZE.size : at + _SIZE.size + length]


def _check_sizes(body: _Body, size: int, region_size: int) -> None:
    if body.n_hashes > MAX_HASHES:
        raise BitstreamError(f"header lists {body.n_hashes} model files; {MAX_HASHES} are possible")
    if body.n_trigger_times > MAX_TRIGGER_TIMES:
        raise BitstreamError(
            f"header lists {body.n_trigger_times} trigger times; {MAX_TRIGGER_TIMES} are possible"
        )
    if body.archive > 1:
        raise BitstreamError(
            f"header names order {body.archive} of a group; this edge-codec knows 0 and 1"
        )
    due = _FIXED + 8 * body.n_trigger_times + _HASH_SIZE * body.n_hashes
    due += body.model_data_size + region_size + body.source_size
    if due + _CRC.size != size:
        raise BitstreamError(
            f"parts of the header add up to {due + _CRC.size} bytes; it says it has {size}"
        )


def _spec_of(body: _Body, data: bytes, region: bytes | None) -> StreamSpec:
    if body.dtype not in DTYPES:
        raise BitstreamError(f"header names dtype {body.dtype}; known are 0 to {max(DTYPES)}")
    hashes_at = _FIXED + 8 * body.n_trigger_times
    model_data_at = hashes_at + _HASH_SIZE * body.n_hashes
    region_at = model_data_at + body.model_data_size
    source_at = region_at + (0 if region is None else _SIZE.size + len(region))
    low = int.from_bytes(body.low, "little", signed=True)
    kind = _enum_of(SourceKind, body.source_kind)
    spec = StreamSpec(
        info=CineInfo(
            n_slices=body.n_slices,
            n_phases=body.n_phases,
            rows=body.rows,
            columns=body.columns,
            dtype=DTYPES[body.dtype],
            sample_format=_enum_of(SampleFormat, body.sample_format),
            spacing_mm=(body.spacing_slice, body.spacing_row, body.spacing_column),
            trigger_time_ms=struct.unpack_from(f"<{body.n_trigger_times}d", data, _FIXED),
            rescale_slope=body.rescale_slope,
            rescale_intercept=body.rescale_intercept,
        ),
        low=low,
        high=low + body.span,
        model=_enum_of(ModelId, body.model),
        model_hashes=tuple(
            data[at : at + _HASH_SIZE] for at in range(hashes_at, model_data_at, _HASH_SIZE)
        ),
        max_error=None if body.max_error == -1 else body.max_error,
        key_interval=body.key_interval,
        window_low=low + body.window_offset,
        window_high=low + body.window_offset + body.window_width,
        effort=_enum_of(Effort, body.effort),
        noise_sigma=body.noise_sigma,
        snr_loss_percent=body.snr_loss_percent,
        archive=bool(body.archive),
        model_data=data[model_data_at:region_at],
        region=None if region is None else _unpacked(region, body),
    )
    _check_packable(spec)
    source = memoryview(data)[source_at : -_CRC.size]  # last: the rest is cheap to refuse
    header = SourceHeader(kind, unpack_metadata(source, b"", MAX_SOURCE_HEADER))
    return replace(spec, info=replace(spec.info, source=header))


def _unpacked(region: bytes, body: _Body) -> Region:
    return unpack_region(region, body.n_slices, body.rows, body.columns)


def _enum_of(kind: type[_Enum], value: int) -> _Enum:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(f"{member.value} {member.name}" for member in kind)
        raise BitstreamError(
            f"header names {kind.__name__} {value}; this edge-codec knows {known}"
        ) from None

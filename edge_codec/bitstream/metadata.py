"""Headers of the source files, deflated: 16 KiB blocks against the same place of a dictionary.

The headers of the files of one DICOM series differ in few bytes, and lie at nearly the same offset
in each file, but are often longer than the 32 KiB that deflate can look back. So each block of
16 KiB is deflated on its own, with the part of the dictionary around the block's own offset as
preset dictionary. The dictionary is the source header that the stream's header carries.

Layout: u32 raw size; then for each block u32 packed size and a raw deflate stream (RFC 1951) of
that size. All blocks but the last inflate to 16,384 bytes. Block `i` uses bytes
`max(0, 16384 * i - 8192)` to `16384 * i + 24576` of the dictionary (as far as it reaches).
"""

from __future__ import annotations

import io
import struct
import zlib

from edge_codec.errors import BitstreamError, SpecError

MAX_METADATA = 16 << 20
MAX_SOURCE_HEADER = 32 << 20

_BLOCK = 16_384
_BEFORE, _AFTER = 8_192, 24_576  # deflate looks back 32 KiB: split so that the block lies inside
_SIZE = struct.Struct("<I")
_RAW_DEFLATE = -15


def pack_metadata(raw: bytes, dictionary: bytes, limit: int = MAX_METADATA) -> bytes:
    """Deflate the header bytes of one frame.

    Parameters
    ----------
    raw : bytes
        Bytes to keep, at most `limit`.
    dictionary : bytes
        Bytes that `raw` resembles, `spec.info.source.data` for frames; may be empty.
    limit : int
        Largest size of `raw`.

    Returns
    -------
    bytes
        Packed bytes, at least 4.

    Raises
    ------
    SpecError
        If `raw` is larger than `limit`.
    """
    if len(raw) > limit:
        raise SpecError(
            f"a source header of {len(raw)} bytes exceeds {limit}; remove what it does not need"
        )
    parts = [_SIZE.pack(len(raw))]
    for start in range(0, len(raw), _BLOCK):
        deflate = zlib.compressobj(
            level=9, wbits=_RAW_DEFLATE, zdict=_dictionary_of_block(dictionary, start)
        )
        block = deflate.compress(raw[start : start + _BLOCK]) + deflate.flush()
        parts += [_SIZE.pack(len(block)), block]
    return b"".join(parts)


def unpack_metadata(
    packed: bytes | memoryview, dictionary: bytes, limit: int = MAX_METADATA
) -> bytes:
    """Inflate what `pack_metadata` deflated; memory stays below `limit` whatever the input.

    Parameters
    ----------
    packed : bytes or memoryview
        Packed bytes, from outside.
    dictionary : bytes
        The bytes that were the dictionary of packing.
    limit : int
        Largest size that is inflated.

    Returns
    -------
    bytes
        The raw bytes.

    Raises
    ------
    BitstreamError
        If `packed` is damaged, or would inflate to more than it says or than `limit`.
    """
    raw_size = _read_size(packed, 0)
    if raw_size > limit:
        raise BitstreamError(
            f"source header says it inflates to {raw_size} bytes; limit is {limit}"
        )
    blocks = _find_blocks(packed, raw_size)  # all, before the first is inflated
    raw = io.BytesIO()  # its value is taken without a second copy
    for start, block in zip(range(0, raw_size, _BLOCK), blocks, strict=True):
        expected = min(_BLOCK, raw_size - start)
        raw.write(_inflate_block(packed[block], expected, _dictionary_of_block(dictionary, start)))
    return raw.getvalue()


def _find_blocks(packed: bytes | memoryview, raw_size: int) -> list[slice]:
    blocks, at = [], _SIZE.size
    for _ in range(0, raw_size, _BLOCK):
        size = _read_size(packed, at)
        at += _SIZE.size
        if size > len(packed) - at:
            raise BitstreamError(
                f"block of source header at byte {at} of its layer says it has {size} bytes; "
                f"{len(packed) - at} are left"
            )
        blocks.append(slice(at, at + size))
        at += size
    if at != len(packed):
        raise BitstreamError(f"source header has {len(packed) - at} bytes after its last block")
    return blocks


def _dictionary_of_block(dictionary: bytes, start: int) -> bytes:
    return dictionary[max(0, start - _BEFORE) : start + _AFTER]


def _read_size(packed: bytes | memoryview, at: int) -> int:
    if len(packed) < at + _SIZE.size:
        raise BitstreamError(
            f"source header ends at byte {len(packed)}; a size is due at byte {at}"
        )
    return int(_SIZE.unpack_from(packed, at)[0])


def _inflate_block(block: bytes | memoryview, expected: int, dictionary: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=_RAW_DEFLATE, zdict=dictionary)
    try:
        raw = inflate.decompress(block, expected + 1)  # one more: a longer stream shows itself
    except zlib.error as error:
        raise BitstreamError(f"source header does not inflate: {error}") from error
    if len(raw) != expected or not inflate.eof or inflate.unused_data:
        raise BitstreamError(
            f"block of source header inflates to {len(raw)} bytes or has no clean end; "
            f"exactly {expected} bytes are due"
        )
    return raw

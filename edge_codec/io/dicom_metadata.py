"""What a stream keeps of a DICOM file beside its voxels, and how that is packed into bytes.

Layout, little endian: u8 version = 1; u8 flags (bit 0: the file's pixel words are big endian);
u16 size of the file's name; u32 number of frames `n` of a multi-frame file, 0 for a single-frame
file; u32 size of the prefix; the name in UTF-8; `n` x u32: for each frame of the stream in its
order (all slices of phase 0, then of phase 1, ...) the frame's number in the file, from 0; the
prefix: the file's bytes before the value of Pixel Data; the suffix: its bytes after the voxels
(padding and further elements), up to the end. So prefix + voxels + suffix is the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from edge_codec.errors import SourceError

VERSION = 1
MAX_BYTES = 16 << 20  # the stream's limit for the metadata of a frame

_FIXED = struct.Struct("<BBHII")
_BIG_ENDIAN = 1


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """A DICOM file without its voxels.

    Attributes
    ----------
    prefix, suffix : bytes
        What precedes and follows the voxels.
    big_endian : bool
        Byte order of the voxels.
    name : str
        Name of the file, without folder.
    frame_order : tuple of int
        Multi-frame file: number in the file of each frame of the stream; single-frame file: empty.
    """

    prefix: bytes
    suffix: bytes
    big_endian: bool = False
    name: str = ""
    frame_order: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Return the bytes of the layout above.

        Raises
        ------
        SourceError
            If they exceed `MAX_BYTES`.
        """
        name = self.name.encode("utf-8", errors="replace")[:255]
        fixed = _FIXED.pack(
            VERSION,
            _BIG_ENDIAN if self.big_endian else 0,
            len(name),
            len(self.frame_order),
            len(self.prefix),
        )
        order = np.array(self.frame_order, dtype="<u4").tobytes()
        packed = b"".join((fixed, name, order, self.prefix, self.suffix))
        if len(packed) > MAX_BYTES:
            raise SourceError(
                f"{self.name}: its DICOM header has {len(packed)} bytes; the limit is {MAX_BYTES}"
            )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> DicomHeader:
        """Read what `pack` made.

        Raises
        ------
        SourceError
            If the bytes are damaged.
        """
        if len(data) < _FIXED.size:
            raise SourceError(
                f"the DICOM header in the stream has {len(data)} bytes: it is damaged"
            )
        version, flags, name_size, n_frames, prefix_size = _FIXED.unpack_from(data)
        at = _FIXED.size
        if version != VERSION or at + name_size + 4 * n_frames + prefix_size > len(data):
            raise SourceError(
                f"the DICOM header in the stream (version {version}) is damaged, or needs a newer "
                "edge-codec"
            )
        name = data[at : at + name_size].decode("utf-8", errors="replace")
        at += name_size
        order = np.frombuffer(data, "<u4", n_frames, at)
        at += order.nbytes
        return cls(
            prefix=data[at : at + prefix_size],
            suffix=data[at + prefix_size :],
            big_endian=bool(flags & _BIG_ENDIAN),
            name=name,
            frame_order=tuple(order.tolist()),
        )

    def check(self, voxel_bytes: int, n_frames: int) -> None:
        """Compare the header with the voxels that are to be written into it.

        Raises
        ------
        SourceError
            If the length of Pixel Data is not that of `voxel_bytes` (and padding), or the frames'
            numbers are not each of 0 to `n_frames` - 1 once.
        """
        length = int.from_bytes(self.prefix[-4:], "big" if self.big_endian else "little")
        if not voxel_bytes <= length <= voxel_bytes + len(self.suffix):
            raise SourceError(
                f"the DICOM header in the stream is for {length} bytes of pixels, the stream holds "
                f"{voxel_bytes}; write .nii instead"
            )
        if self.frame_order and sorted(self.frame_order) != list(range(n_frames)):
            raise SourceError("the DICOM header in the stream has other frames than the stream")

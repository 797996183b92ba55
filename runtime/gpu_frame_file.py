"""Files of whole frames on a GPU: both networks' engines, and the kernels around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edge_codec.errors import EngineError
from edge_codec.runtime.device import StoredKernel
from edge_codec.runtime.gpu_archive import (
    REBUILD,
    Index,
    Members,
    describe_kernel,
    read_archive,
    read_kernel,
    whole,
    write_archive,
)
from edge_codec.runtime.gpu_engine import GpuEngine, read_engine

FORMAT = "edge-codec GPU frame"
VERSION = 1


class FrameKernel(NamedTuple):
    """What a kernel of a file has to be.

    Attributes
    ----------
    function : str
        Where its source is.
    arguments : tuple of str
        Triton's types of its arguments.
    blocks : tuple of str
        Constants that say how much a program does, 1 or more.
    """

    function: str
    arguments: tuple[str, ...]
    blocks: tuple[str, ...]


RATES = FrameKernel(
    "edge_codec.kernels.token_rates:token_rates_kernel",
    ("*i32", "*i32", "*i16", "*i32", *["i32"] * 3, "*i32"),
    ("TOKENS",),
)
KERNELS = {
    "normalize": FrameKernel(
        "edge_codec.kernels.normalize:normalize_kernel",
        ("*u16", "*u8", *["i32"] * 5, "*u8"),
        ("BLOCK",),
    ),
    "denormalize": FrameKernel(
        "edge_codec.kernels.normalize:denormalize_kernel",
        ("*u8", "*u16", *["i32"] * 5, "*u16"),
        ("BLOCK",),
    ),
    "nearest": FrameKernel(
        "edge_codec.kernels.codebook_search:nearest_i8_kernel",
        ("*i8", "*i8", "*i32", *["i32"] * 3, "*i32"),
        ("BLOCK_M", "BLOCK_N"),
    ),
    "rates_key": RATES,
    "rates_predicted": RATES,
    "rans": FrameKernel(
        "edge_codec.kernels.rans_encode:encode_kernel",
        ("*i32", "*i32", *["i32"] * 3, "*u16", "*i32", "*i32"),
        ("PAYLOADS",),
    ),
}
"""What a file holds, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class GpuFrameFile:
    """What codes frames on one architecture.

    Attributes
    ----------
    encoder, decoder : bytes
        Engine files of the networks; see `edge_codec.runtime.gpu_engine`.
    kernels : mapping of str to StoredKernel
        By the names in `KERNELS`.
    capability : int
        Compute capability times ten.
    compiler : str
        Name and version.
    """

    encoder: bytes
    decoder: bytes
    kernels: Mapping[str, StoredKernel]
    capability: int
    compiler: str

    def engines(self) -> tuple[GpuEngine, GpuEngine]:
        """Read encoder and decoder.

        Raises
        ------
        EngineError
            If one is damaged, or does not do what its name says.
        """
        encoder, decoder = read_engine(self.encoder), read_engine(self.decoder)
        found = [
            (engine.layers[0].table is None, engine.planes, last.conv.shape.signed_output)
            for engine, last in ((encoder, encoder.layers[-1]), (decoder, decoder.layers[-1]))
        ]
        if found != [(True, False, True), (False, True, False)]:
            raise EngineError(f"the networks in the file are no encoder and decoder; {REBUILD}")
        return encoder, decoder


def write_frame_file(file: GpuFrameFile) -> bytes:
    """Return the bytes of a file."""
    index = {
        "capability": file.capability,
        "compiler": file.compiler,
        "kernels": {name: describe_kernel(kernel) for name, kernel in file.kernels.items()},
    }
    members = {f"{name}.cubin": kernel.cubin for name, kernel in file.kernels.items()}
    networks = {"encoder.engine": file.encoder, "decoder.engine": file.decoder}
    return write_archive(FORMAT, VERSION, index, {**members, **networks})


def read_frame_file(data: bytes) -> GpuFrameFile:
    """Read a file; inverse of `write_frame_file`.

    Raises
    ------
    EngineError
        If it is damaged, truncated, of another format, or a kernel is missing or another one.
    """
    return read_archive(FORMAT, VERSION, data, _read)


def _read(index: Index, members: Members) -> GpuFrameFile:
    kernels = {name: read_kernel(name, index["kernels"][name], members) for name in KERNELS}
    for name, kernel in kernels.items():
        expected = KERNELS[name]
        is_known = (kernel.function, kernel.arguments) == (expected.function, expected.arguments)
        if not is_known or any(whole(kernel.constants[block]) < 1 for block in expected.blocks):
            raise EngineError(f"kernel '{name}' of the file is {kernel.function}; {REBUILD}")
    return GpuFrameFile(
        encoder=members["encoder.engine"],
        decoder=members["decoder.engine"],
        kernels=kernels,
        capability=whole(index["capability"]),
        compiler=str(index["compiler"]),
    )

"""Tokens of a stream, without pixels: what search and statistics need, without any network."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.titok.groups.data import GroupData, unpack_groups
from edge_codec.base.titok.token_coder import TokenCoder
from edge_codec.base.titok.token_prior import CODE_DIM, CODES, TOKENS, TokenPrior, load_tables
from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import LayerId, Packet
from edge_codec.errors import BitstreamError, EngineError, SpecError
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId, StreamSpec

Codebook = NDArray[np.float32]


@lru_cache(maxsize=1)
def load_prior() -> TokenPrior:
    """Return the tables of the shipped model.

    Raises
    ------
    EngineError
        If the file is missing or altered.
    """
    return TokenPrior(load_tables(load_manifest(ModelId.TITOK).read("token_model.npz")))


@lru_cache(maxsize=1)
def load_codebook() -> Codebook:
    """Return the code of each token, shape (4096, 12), float32, of length 1.

    Raises
    ------
    EngineError
        If the file is missing or altered.
    """
    return read_codebook(load_manifest(ModelId.TITOK).read("codebook.npy"))


def read_codebook(data: bytes) -> Codebook:
    """Read a codebook from the bytes of `codebook.npy`.

    Raises
    ------
    EngineError
        If it is none of this model's size.
    """
    try:
        codebook: Codebook = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EngineError(f"codebook.npy is malformed ({error}); reinstall") from error
    if codebook.shape != (CODES, CODE_DIM) or codebook.dtype != np.float32:
        raise EngineError(
            f"codebook is {codebook.dtype} {codebook.shape}, expected float32 {(CODES, CODE_DIM)}"
        )
    return codebook


def tokens_of(file: BinaryIO) -> NDArray[np.uint16]:
    """Read the tokens of a whole `titok` stream; no pixel is decoded and no network runs.

    Parameters
    ----------
    file : seekable binary file
        The stream.

    Returns
    -------
    ndarray, shape (slices, phases, 32), uint16, below 4096

    Raises
    ------
    SpecError
        If the stream is of another model.
    EngineError
        If it was made with other weights than the installed ones.
    BitstreamError
        If it is damaged, or lacks a frame.
    """
    reader = StreamReader(file)
    spec = reader.spec
    if spec.model is ModelId.TITOK_GROUPS:
        raise SpecError(
            f"the stream has {TOKENS} tokens for a whole cine or exam, and none for a frame alone; "
            "compress with --tokens-per frame, or read those with group_tokens_of"
        )
    if spec.model is not ModelId.TITOK:
        raise SpecError(
            f"the stream has model '{spec.model.label}', whose frames are no {TOKENS} tokens; "
            "compress with --model titok"
        )
    _check_weights(spec)
    shape = (spec.info.n_slices, reader.n_phases)
    if reader.n_packets != shape[0] * shape[1] or not shape[1]:
        raise BitstreamError(
            f"the stream holds {reader.n_packets} frames of {shape[0]} slices x {shape[1]} "
            "phases; get the whole file"
        )
    tokens = np.empty((*shape, TOKENS), np.uint16)
    coders = [TokenCoder(load_prior()) for _ in range(shape[0])]
    for packet in reader.packets():
        coder = coders[packet.slice_index]
        tokens[packet.slice_index, packet.phase_index] = coder.decode(
            payload_of(packet), packet.key
        )
    return tokens


def group_tokens_of(file: BinaryIO) -> GroupData:
    """Read the tokens of a stream of whole cines, or of a whole exam, from its header alone.

    Parameters
    ----------
    file : seekable binary file

    Raises
    ------
    SpecError
        If its tokens are those of frames, or it is of another model.
    EngineError
        If it was made with other weights than the installed ones.
    BitstreamError
        If the header is damaged.
    """
    spec = StreamReader(file, recover=True).spec  # without its packets, too
    if spec.model is not ModelId.TITOK_GROUPS:
        raise SpecError(
            f"the stream has model '{spec.model.label}', no tokens of whole cines; compress with "
            "--model titok --tokens-per cine or exam"
        )
    _check_weights(spec)
    return unpack_groups(spec)


def payload_of(packet: Packet) -> bytes:
    """Return the coded tokens of a packet.

    Raises
    ------
    BitstreamError
        If it has none.
    """
    payload = packet.layers.get(LayerId.BASE)
    if payload is None:
        raise BitstreamError(f"packet {packet.sequence} lacks its base layer")
    return payload


def _check_weights(spec: StreamSpec) -> None:
    manifest = load_manifest(spec.model)
    if spec.model_hashes != manifest.decoding_hashes():
        raise EngineError(
            f"the stream was made with other weights of '{manifest.name}' than this install's "
            f"version {manifest.version}; install the edge-codec that made it"
        )

"""Loads the zoo's models onto engines."""

from __future__ import annotations

import io

import numpy as np

from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.base.vqvae import STRIDE, VqvaeModel
from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.pick import load_engine
from edge_codec.spec import ModelId, StreamSpec


def load_model(
    model: ModelId,
    *,
    backend: str = "auto",
    threads: int | None = None,
    decode_only: bool = False,
) -> VqvaeModel | None:
    """Load a model of the zoo, its files checked against their hashes.

    Parameters
    ----------
    model : ModelId
        Which one; `NONE` gives None.
    backend, threads
        See `edge_codec.runtime.pick.load_engine`.
    decode_only : bool
        Leave the encoder out.

    Raises
    ------
    EngineError
        If a file is missing or altered, or the backend fails.
    """
    if model is ModelId.NONE:
        return None
    manifest = load_manifest(model)
    decoder = load_engine(manifest.read("decoder.onnx"), backend, threads)
    tokens = TokenCoder(load_token_model(manifest.read("token_model.npz")))
    if decode_only:
        return VqvaeModel(decoder, tokens)
    encoder = load_engine(manifest.read("encoder.onnx"), backend, threads)
    codebook = np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False)
    lookup = CodebookLookup(codebook)
    if backend != "triton":
        return VqvaeModel(decoder, tokens, encoder, lookup)
    from edge_codec.runtime.gpu_pick import load_gpu_frames
    from edge_codec.runtime.ort_backend import OrtEngine
    from edge_codec.runtime.self_check import check_frames

    # One graph from samples to bits, instead of a way back to the host after every step.
    frames = load_gpu_frames(manifest)
    check_frames(frames.coder, VqvaeModel(OrtEngine(manifest.read("decoder.onnx"), 1), tokens))
    return VqvaeModel(decoder, tokens, encoder, lookup, frames.coder)


def warm_up(model: VqvaeModel | None, spec: StreamSpec) -> None:
    """Run the networks once at the stream's frame size, so that the first frame is not late."""
    if model is None:
        return
    rows, columns = (-(-side // STRIDE) for side in spec.info.frame_shape)
    model.decoder.run(np.zeros((1, rows, columns), np.int32))
    if model.encoder is not None:
        model.encoder.run(np.zeros((1, 1, rows * STRIDE, columns * STRIDE), np.uint8))


def check_hashes(spec: StreamSpec) -> None:
    """Refuse a stream that was made with other weights than the installed ones.

    Raises
    ------
    EngineError
        If a hash in the stream's header is not the zoo's.
    """
    if spec.model is ModelId.NONE:
        return
    manifest = load_manifest(spec.model)
    if spec.model_hashes != manifest.decoding_hashes():
        found = ", ".join(digest.hex()[:16] for digest in spec.model_hashes)
        raise EngineError(
            f"the stream was made with other weights of '{manifest.name}' ({found}...) than this "
            f"install's version {manifest.version}; install the edge-codec that made it"
        )

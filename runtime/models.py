"""Loads what codes a stream's base layer: the zoo's networks onto engines, or a native coder."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_codec.base.layer import BaseModel
from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.base.vqvae import STRIDE, VqvaeModel
from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.base_rate import DEFAULT_QUALITY, USUAL, BaseRate
from edge_codec.runtime.pick import load_engine
from edge_codec.spec import Effort, ModelId, StreamSpec

if TYPE_CHECKING:
    from edge_codec.base.video.model import VideoModel


def load_model(
    model: ModelId,
    *,
    backend: str = "auto",
    threads: int | None = None,
    decode_only: bool = False,
    rate: BaseRate = USUAL,
    effort: Effort = Effort.DEFAULT,
) -> BaseModel | None:
    """Load the model of a stream; the zoo's files are checked against their hashes.

    Parameters
    ----------
    model : ModelId
        Which one; `NONE` gives None.
    backend, threads
        See `edge_codec.runtime.pick.load_engine`; for models with networks.
    decode_only : bool
        Leave the encoder out.
    rate : BaseRate
        What an encoder aims at.
    effort : Effort
        How long the encoder of `DWT_CAL` looks for a small coding of a frame.

    Raises
    ------
    EngineError
        If a file is missing or altered, or the backend or a package is not there.
    """
    if model is ModelId.NONE:
        return None
    if model is ModelId.DWT_CAL:
        return _load_hybrid(rate, effort)
    if model is ModelId.VIDEO:
        return _load_video(rate)
    return _load_vqvae(backend, threads, decode_only)


def is_shared(model: ModelId) -> bool:
    """Whether one loaded model may code several streams, one frame at a time.

    Networks are large and remember nothing; the others are small, and know what a stream took.
    """
    return model in (ModelId.NONE, ModelId.VQVAE)


def _load_hybrid(rate: BaseRate, effort: Effort) -> BaseModel:
    from edge_codec.base.hybrid.model import HybridModel, HybridSettings

    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return HybridModel(HybridSettings(quality, rate.bits_per_frame, effort=effort))


def _load_video(rate: BaseRate) -> VideoModel:
    from edge_codec.base.video.model import VideoModel

    return VideoModel(quality=DEFAULT_QUALITY if rate.quality is None else rate.quality)


def with_model_data(spec: StreamSpec, rate: BaseRate) -> StreamSpec:
    """Return a stream's description with what its model says of itself in the header.

    Parameters
    ----------
    spec : StreamSpec
        The description without it.
    rate : BaseRate
        What the encoder of the stream will aim at.

    Raises
    ------
    EngineError
        If the model's package is not there, or refuses the frame size.
    """
    if spec.model is not ModelId.VIDEO:
        return spec
    return replace(spec, model_data=_load_video(rate).model_data(spec))


def _load_vqvae(backend: str, threads: int | None, decode_only: bool) -> VqvaeModel:
    manifest = load_manifest(ModelId.VQVAE)
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


def warm_up(model: BaseModel | None, spec: StreamSpec) -> None:
    """Run networks once at the stream's frame size, so that the first frame is not late."""
    if not isinstance(model, VqvaeModel):
        return
    rows, columns = (-(-side // STRIDE) for side in spec.info.frame_shape)
    model.decoder.run(np.zeros((1, rows, columns), np.int32))
    if model.encoder is not None:
        model.encoder.run(np.zeros((1, 1, rows * STRIDE, columns * STRIDE), np.uint8))


def decoding_hashes(model: ModelId) -> tuple[bytes, ...]:
    """Return the digests of the files that decoding with a model depends on; may be none.

    Raises
    ------
    EngineError
        If the zoo lacks the model's manifest.
    """
    return load_manifest(model).decoding_hashes() if model is ModelId.VQVAE else ()


def check_hashes(spec: StreamSpec) -> None:
    """Refuse a stream that was made with other weights than the installed ones.

    Raises
    ------
    EngineError
        If a hash in the stream's header is not the zoo's.
    """
    if spec.model is not ModelId.VQVAE:
        return
    manifest = load_manifest(spec.model)
    if spec.model_hashes != manifest.decoding_hashes():
        found = ", ".join(digest.hex()[:16] for digest in spec.model_hashes)
        raise EngineError(
            f"the stream was made with other weights of '{manifest.name}' ({found}...) than this "
            f"install's version {manifest.version}; install the edge-codec that made it"
        )

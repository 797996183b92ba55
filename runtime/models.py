"""Loads what codes a stream's base layer: the zoo's networks onto engines, or a native coder."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edge_codec.base.layer import BaseModel
from edge_codec.base.lookup import CodebookLookup
from edge_codec.base.token_model import load_token_model
from edge_codec.base.tokens import TokenCoder
from edge_codec.base.video.encoders import DEFAULT_ENCODER
from edge_codec.base.vqvae import STRIDE, VqvaeModel
from edge_codec.errors import EngineError
from edge_codec.manifest import load_manifest
from edge_codec.runtime.base_rate import DEFAULT_QUALITY, USUAL, BaseRate
from edge_codec.runtime.pick import load_engine
from edge_codec.spec import TITOKS, Effort, ModelId, StreamSpec

if TYPE_CHECKING:
    from edge_codec.base.dwt_cal_vae.networks import Networks
    from edge_codec.base.hybrid.rate_control import RateReport
    from edge_codec.base.titok.conditions import ClinicalFacts
    from edge_codec.base.titok.groups.model import GroupModel
    from edge_codec.base.titok.model import TitokModel
    from edge_codec.base.video.model import VideoModel

WITH_WEIGHTS = (ModelId.VQVAE, ModelId.DWT_CAL_VAE, *TITOKS)


def load_model(
    model: ModelId,
    *,
    backend: str = "auto",
    threads: int | None = None,
    decode_only: bool = False,
    rate: BaseRate = USUAL,
    effort: Effort = Effort.DEFAULT,
    video_encoder: str = DEFAULT_ENCODER,
) -> BaseModel | None:
    """Load the model of a stream; the zoo's files are checked against their hashes.

    Parameters
    ----------
    model : ModelId
        Which one; `NONE` gives None.
    backend, threads
        See `edge_codec.runtime.pick.load_engine`, for `TITOK` that of
        `edge_codec.runtime.float_network.load_network`; for models with networks.
    decode_only : bool
        Leave the encoder out.
    rate : BaseRate
        What an encoder aims at.
    effort : Effort
        How long the encoder of `DWT_CAL` or `VIDEO` looks for a small coding of a frame.
    video_encoder : str
        Which encoder `VIDEO` takes, of `edge_codec.base.video.encoders.ENCODERS`.

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
        return _load_video(rate, video_encoder, effort)
    if model is ModelId.DWT_CAL_VAE:
        return _load_vae(rate, decode_only)
    if model is ModelId.TITOK:
        return _load_titok(backend, threads, decode_only)
    if model is ModelId.TITOK_GROUPS:
        return load_groups()
    return _load_vqvae(backend, threads, decode_only)


def is_shared(model: ModelId) -> bool:
    """Whether one loaded model may code several streams, one frame at a time.

    Networks are large and remember nothing; the others are small, or share their networks, and
    know what was asked of a stream.
    """
    return model in (ModelId.NONE, ModelId.VQVAE, *TITOKS)


def _load_hybrid(rate: BaseRate, effort: Effort) -> BaseModel:
    from edge_codec.base.hybrid.model import HybridModel, HybridSettings

    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return HybridModel(HybridSettings(quality, rate.bits_per_frame, effort=effort))


def _load_video(rate: BaseRate, encoder: str, effort: Effort) -> VideoModel:
    from edge_codec.base.video.model import VideoModel

    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return VideoModel(encoder, quality, effort)


def _load_vae(rate: BaseRate, decode_only: bool) -> BaseModel:
    from edge_codec.base.dwt_cal_vae.model import VaeModel

    quality = DEFAULT_QUALITY if rate.quality is None else rate.quality
    return VaeModel(_vae_networks(decode_only), quality)


@lru_cache(maxsize=2)
def _vae_networks(decode_only: bool) -> Networks:
    """Return networks that any number of streams may use at a time."""
    from edge_codec.base.dwt_cal_vae.networks import load_networks

    manifest = load_manifest(ModelId.DWT_CAL_VAE)
    decoder = manifest.read("decoder.npz")
    return load_networks(decoder, None if decode_only else manifest.read("encoder.npz"))


def make_model_data(
    model: ModelId,
    frame_shape: tuple[int, int],
    rate: BaseRate,
    effort: Effort,
    video_encoder: str = DEFAULT_ENCODER,
    facts: ClinicalFacts | None = None,
) -> bytes:
    """Return what a model says of the stream in its header; nothing, but for `VIDEO` and `TITOKS`.

    Parameters
    ----------
    model : ModelId
        Which one.
    frame_shape : (int, int)
        Rows and columns of the stream's frames.
    rate, effort, video_encoder
        As `load_model` will be told for the encoder of the stream.
    facts : ClinicalFacts, optional
        What `TITOK` shall tell its networks; nothing without it.

    Raises
    ------
    EngineError
        If the model's package is not there, or refuses the frame size.
    """
    if model is ModelId.TITOK:
        from edge_codec.base.titok.conditions import ClinicalFacts

        return (facts or ClinicalFacts()).pack()
    if model is ModelId.TITOK_GROUPS:
        return bytes(1)  # until the source is read for its tokens
    if model is not ModelId.VIDEO:
        return b""
    return _load_video(rate, video_encoder, effort).model_data(frame_shape)


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


def _load_titok(backend: str, threads: int | None, decode_only: bool) -> TitokModel:
    from edge_codec.base.titok.model import TitokModel
    from edge_codec.base.titok.reading import load_codebook, load_prior
    from edge_codec.runtime.float_network import load_network

    manifest = load_manifest(ModelId.TITOK)
    decoder = load_network(manifest.read("decoder.onnx"), backend, threads)
    encoder = None
    if not decode_only:
        encoder = load_network(manifest.read("encoder.onnx"), backend, threads)
    return TitokModel(decoder, load_codebook(), load_prior(), encoder)


@lru_cache(maxsize=1)
def load_groups() -> GroupModel:
    """Load the model of whole cines and exams, the same for all streams.

    Raises
    ------
    EngineError
        If its file is missing or altered.
    """
    from edge_codec.base.titok.groups.model import GroupModel
    from edge_codec.base.titok.groups.tables import load_group_tables

    return GroupModel(load_group_tables(load_manifest(ModelId.TITOK_GROUPS).read("groups.npz")))


def rate_report(model: BaseModel | None) -> RateReport | None:
    """Return what became of the bits of a model's frames; None for models that do not count."""
    if model is None:
        return None
    from edge_codec.base.hybrid.model import HybridModel

    return model.report if isinstance(model, HybridModel) else None


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
    return load_manifest(model).decoding_hashes() if model in WITH_WEIGHTS else ()


def check_hashes(spec: StreamSpec) -> None:
    """Refuse a stream that was made with other weights than the installed ones.

    Raises
    ------
    EngineError
        If a hash in the stream's header is not the zoo's.
    """
    if spec.model not in WITH_WEIGHTS:
        return
    manifest = load_manifest(spec.model)
    if spec.model_hashes != manifest.decoding_hashes():
        found = ", ".join(digest.hex()[:16] for digest in spec.model_hashes)
        raise EngineError(
            f"the stream was made with other weights of '{manifest.name}' ({found}...) than this "
            f"install's version {manifest.version}; install the edge-codec that made it"
        )

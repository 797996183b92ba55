"""How far backends are apart on the tokenizer's float networks, one frame after another.

Each backend decodes the same tokens, but from its own decoded frames: what differs in one frame is
there in the next one's past. Units are window codes, of which 192 are the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edge_codec.base.titok import token_prior as form
from edge_codec.base.titok.token_coder import best
from edge_codec.engine import NamedEngine
from edge_codec.export.titok_graph import inputs
from edge_codec.nn.titok import Conditions, TiTok, nothing_before
from edge_codec.runtime.float_network import FLOAT_BACKENDS, load_network
from edge_codec.runtime.phantom import heart
from edge_codec.spec import WINDOW_ONE

FRAMES = 16
BRIGHTEST = 255 / WINDOW_ONE

Frames = NDArray[np.float32]
Inputs = dict[str, NDArray[Any]]
TOLD = ("inside", "heart", "anatomy", "clinical")
PAST = ("past_frame", "past_codes", "past_known", "age")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest differences that were seen on a phantom's frames.

    Attributes
    ----------
    frames : int
        Of one group.
    float32 : float
        Of a decoded pixel, in window codes: the networks as trained against those shipped, on ONNX
        Runtime.
    backends : float
        Of a decoded pixel, in window codes: OpenVINO against ONNX Runtime.
    latents : float
        Of a number of a latent: the encoder on OpenVINO against ONNX Runtime.
    other_tokens : float
        Share of tokens that OpenVINO chooses otherwise from the same past.
    """

    frames: int
    float32: float
    backends: float
    latents: float
    other_tokens: float


def compare_backends(
    network: TiTok, models: dict[str, onnx.ModelProto], codebook: Frames, threads: int = 1
) -> Agreement:
    """Code a phantom with ONNX Runtime, and decode it with every backend.

    Parameters
    ----------
    network : TiTok
        As trained.
    models : dict of str to onnx.ModelProto
        'encoder' and 'decoder' as shipped.
    codebook : ndarray, shape (4096, 12), float32
    threads : int
        Of each backend.
    """
    side = network.config.canvas
    frames = heart(FRAMES, side, side, np.dtype(np.uint16)).astype(np.float32)
    frames /= np.percentile(frames, 99.9)
    made = {name: model.SerializeToString() for name, model in models.items()}
    encoders = {name: load_network(made["encoder"], name, threads) for name in FLOAT_BACKENDS}
    decoders = {name: load_network(made["decoder"], name, threads) for name in FLOAT_BACKENDS}
    known = {name: _example(network, "decoder") for name in FLOAT_BACKENDS}
    told = _example(network, "encoder")
    past = nothing_before(network.config, 1)
    apart, drift, latent, others = 0.0, 0.0, 0.0, 0
    for frame in np.clip(frames, 0, BRIGHTEST):
        now = {**told, **_past(known["onnxruntime"]), "frame": frame[None, None]}
        found = {name: encoders[name].run(now)[0] for name in FLOAT_BACKENDS}
        latent = max(latent, _largest(*found.values()))
        tokens = [best(latents @ codebook.T) for latents in found.values()]
        others += int((tokens[0] != tokens[1]).sum())
        codes = codebook[tokens[0]][None]
        decoded = {name: _decode(decoders[name], known[name], codes) for name in FLOAT_BACKENDS}
        with torch.no_grad():
            torch_codes = torch.from_numpy(codes)
            inside, heart_map, anatomy, clinical = (torch.from_numpy(told[name]) for name in TOLD)
            conditions = Conditions(inside, heart_map, anatomy, clinical)
            exact = network.decoder(torch_codes, past, conditions).clamp(0, BRIGHTEST)
            past = past.after(exact, torch_codes)
        apart = max(apart, _largest(decoded["onnxruntime"], exact.numpy()))
        drift = max(drift, _largest(*decoded.values()))
    return Agreement(
        FRAMES,
        WINDOW_ONE * apart,
        WINDOW_ONE * drift,
        latent,
        others / (FRAMES * form.TOKENS),
    )


def _example(network: TiTok, name: str) -> Inputs:
    """Return the inputs of a first frame, by name."""
    example = {key: value.numpy() for key, value in inputs(network, name).items()}
    past = nothing_before(network.config, 1)
    before = (past.frame, past.codes, past.known, past.age)
    return example | {key: value.numpy() for key, value in zip(PAST, before, strict=True)}


def _past(known: Inputs) -> Inputs:
    return {name: known[name] for name in PAST}


def _decode(decoder: NamedEngine, known: Inputs, codes: Frames) -> Frames:
    """Decode a frame and remember it."""
    frame: Frames = np.clip(decoder.run({**known, "codes": codes}), 0, BRIGHTEST)
    known["past_frame"] = frame
    known["past_codes"] = np.concatenate([codes[:, None], known["past_codes"][:, :-1]], axis=1)
    ones = np.ones((1, 1), np.float32)
    known["past_known"] = np.concatenate([ones, known["past_known"][:, :-1]], axis=1)
    known["age"] = known["age"] + 1
    return frame


def _largest(one: Frames, other: Frames) -> float:
    return float(np.abs(one - other).max())

"""The codecs that `benchmarks.bench_calibration` compares: one for each way of quantizing."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_codec.base.lookup import CodebookLookup
from edge_codec.calibration.chain import LookupStage, NetworkStage, Passed
from edge_codec.calibration.pipeline import Result, Settings, calibrate
from edge_codec.calibration.power_of_two import quantize_array
from edge_codec.calibration.qat import load_quantized
from edge_codec.calibration.run import Feed
from edge_codec.calibration.sampler import Sample
from edge_codec.export.float_zoo import vqvae_networks
from edge_codec.export.graph import export_network
from edge_codec.export.vqvae import integer_vqvae
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId
from edge_codec.training.loop import load_averaged
from edge_codec.training.token_tables import bisect_codes
from edge_codec.window import pad

SETTINGS = {
    "plain": Settings(equalize=False, correct_bias=False),
    "+ equalization": Settings(equalize=True, correct_bias=False),
    "+ bias correction": Settings(equalize=False, correct_bias=True),
    "+ both": Settings(equalize=True, correct_bias=True),
    "as it helps": Settings(),
    "minmax": Settings("minmax", equalize=False, correct_bias=False),
    "percentile": Settings("percentile", equalize=False, correct_bias=False),
    "entropy": Settings("entropy", equalize=False, correct_bias=False),
    "int8 activations": Settings(activations="int8", equalize=False, correct_bias=False),
}
PEERS = {"onnxruntime minmax": "MinMax"}
SHIPPED = "shipped"
VARIANTS = (SHIPPED, *SETTINGS, *PEERS)

LATENT_EXPONENTS = (-4, -5, -6, -7)


@dataclass(frozen=True, slots=True, eq=False)
class FloatModel:
    """The float model as ONNX files.

    Attributes
    ----------
    encoder, decoder : bytes
    codebook : ndarray, shape (codes, dim), float32
        In the shipped order.
    """

    encoder: bytes
    decoder: bytes
    codebook: NDArray[np.float32]


class Codec:
    """An encoder to latents, a codebook, and a decoder.

    Parameters
    ----------
    encoder, decoder : bytes
        ONNX files.
    codebook : ndarray, shape (codes, dim)
        int8 codes in units of 2**exponent, or float ones.
    exponent : int or None
        Float latents are rounded to int8 at this exponent; None leaves latents as they are.
    lookup : CodebookLookup, optional
        The codec's own search, where it is to be used; else every code is compared.

    Attributes
    ----------
    exponent : int or None
        As given.
    """

    def __init__(
        self,
        encoder: bytes,
        decoder: bytes,
        codebook: NDArray[Any],
        exponent: int | None = None,
        lookup: CodebookLookup | None = None,
    ) -> None:
        self._encoder, self._decoder = NetworkStage(encoder), NetworkStage(decoder)
        self._codes = codebook.astype(np.float32)
        self._half_norms = 0.5 * np.square(self._codes).sum(axis=1)
        self._nearest = LookupStage(codebook)
        self.exponent, self._lookup = exponent, lookup

    def run(self, frames: NDArray[np.uint8]) -> Passed:
        """Code and decode frames (n, 1, rows, columns)."""
        tokens = self.tokens(self.latents(frames))
        return self.decode(tokens)

    def latents(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Encode frames (n, 1, 8h, 8w) to latents (n, h, w, dim), int8 or float."""
        return self.round(self._encoder.run(frames))

    def round(self, latents: NDArray[Any]) -> NDArray[Any]:
        """Round float latents to int8, where the codec does."""
        if self.exponent is None:
            return latents
        return quantize_array(latents, self.exponent, -128, 127).astype(np.int8)

    def tokens(self, latents: NDArray[Any]) -> NDArray[np.int32]:
        """Look latents up."""
        if self._lookup is not None:
            return self._lookup.nearest(latents).astype(np.int32)
        return self._nearest.run(latents)

    def scores(self, latents: NDArray[Any]) -> NDArray[np.float32]:
        """Return minus half the squared distance to every code, up to a constant per latent."""
        rows = latents.astype(np.float32).reshape(-1, latents.shape[-1])
        scores: NDArray[np.float32] = rows @ self._codes.T - self._half_norms
        return scores

    def decode(self, tokens: NDArray[np.int32]) -> Passed:
        """Decode tokens (n, h, w) to frames."""
        return Passed(self._decoder.run(tokens), tokens)


class VariantFactory:
    """Makes a codec of a variant's name.

    Parameters
    ----------
    model : FloatModel
    sample : Sample
        Frames to calibrate on.

    Attributes
    ----------
    reference : Codec
        The float model.
    """

    def __init__(self, model: FloatModel, sample: Sample) -> None:
        self._model = model
        self._sample = sample
        self._frames = [pad(frame.codes, 8)[None, None] for frame in sample.frames]
        self.reference = Codec(model.encoder, model.decoder, model.codebook)
        tokens = [self.reference.tokens(self.reference.latents(x)) for x in self._frames]
        self._feeds: dict[str, list[Feed]] = {
            "encoder": [{"frame": frame} for frame in self._frames],
            "decoder": [{"tokens": found} for found in tokens],
        }

    def make(self, variant: str) -> tuple[Codec, dict[str, Any]]:
        """Return the codec, and what is to be recorded of how it was made."""
        if variant == SHIPPED:
            return self._shipped(), {}
        halves = {"encoder": self._model.encoder, "decoder": self._model.decoder}
        if variant in PEERS:
            files = [
                _quantize_static(file, self._feeds[name], PEERS[variant])
                for name, file in halves.items()
            ]
            return Codec(*files, self._model.codebook), {}
        settings = SETTINGS[variant]
        found = {
            name: calibrate(file, self._sample.sha256, self._feeds[name], settings)
            for name, file in halves.items()
        }
        codec = self._integer_codec(found["encoder"].model, found["decoder"].model)
        details = {name: _details(half) for name, half in found.items()}
        details["latents"] = {"exponent": codec.exponent}
        return codec, {"settings": asdict(settings), **details}

    def _integer_codec(self, encoder: bytes, decoder: bytes) -> Codec:
        """Round latents and codes to the int8 grid whose tokens lie nearest to the latents."""
        stage = NetworkStage(encoder)
        latents = [stage.run(frame) for frame in self._frames]

        def distance(codec: Codec) -> float:
            pairs = ((found, codec.tokens(codec.round(found))) for found in latents)
            return sum(
                float(np.square(found - self._model.codebook[tokens]).sum())
                for found, tokens in pairs
            )

        candidates = []
        for exponent in LATENT_EXPONENTS:
            codes = quantize_array(self._model.codebook, exponent, -127, 127).astype(np.int8)
            candidates.append(Codec(encoder, decoder, codes, exponent))
        return min(candidates, key=distance)

    def _shipped(self) -> Codec:
        manifest = load_manifest(ModelId.VQVAE)
        codes = np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False)
        encoder, decoder = manifest.read("encoder.onnx"), manifest.read("decoder.onnx")
        return Codec(encoder, decoder, codes, lookup=CodebookLookup(codes))


def float_model(checkpoints: Path) -> FloatModel:
    """Export the float checkpoint, its codes in the order of the shipped codebook."""
    twin, _ = load_quantized(next(checkpoints.glob("*-quantized.pt")))
    order = bisect_codes(integer_vqvae(twin).codebook.astype(np.float64))
    model = load_averaged(next(checkpoints.glob("*-float.pt")))
    model.codebook.vectors.copy_(model.codebook.vectors[torch.from_numpy(order.copy())])
    networks = {network.name: network for network in vqvae_networks(model)}
    files = {
        name: export_network(networks[name]).SerializeToString(deterministic=True)
        for name in ("encoder", "decoder")
    }
    codebook = model.codebook.vectors.numpy().astype(np.float32)
    return FloatModel(files["encoder"], files["decoder"], codebook)


def _quantize_static(model: bytes, feeds: list[Feed], method: str) -> bytes:
    """Quantize the convolutions with ONNX Runtime's own tool."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "float.onnx"), Path(name, "int8.onnx")
        source.write_bytes(model)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        return target.read_bytes()


def _details(half: Result) -> dict[str, Any]:
    """Return steps, exponents and largest sum of one network."""
    return {
        "steps": [asdict(step) for step in half.steps],
        "exponents": {name: scale.exponent for name, scale in half.table.tensors.items()},
        "exact": half.proof.exact,
        "largest_sum": max(layer.bound or 0 for layer in half.proof.layers.values()),
    }

"""The base layer of a frame in one graph on a GPU: samples go up, a payload and a frame come down.

    samples -> window codes -> encoder -> latents -> tokens -> frequencies -> rANS -> payload
                                                        `----> decoder -> codes -> base frame

Nothing waits for the host in between. The entropy coder of one frame is a single chain of dependent
steps, which leaves a GPU idle but for one warp, so that the decoder runs beside it. All of it is
integer: the payload is that of `edge_codec.base.tokens.TokenCoder` and the base frame that of the
decoder on any other backend. Tokens are those of an exhaustive search.
"""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.token_model import TokenModel, load_token_model
from edge_codec.base.vqvae import STRIDE
from edge_codec.errors import EngineError, FrameError
from edge_codec.kernels.reference.normalize import code_table, sample_table
from edge_codec.manifest import Manifest
from edge_codec.runtime.device import Buffer, Device, Graph
from edge_codec.runtime.gpu_archive import REBUILD
from edge_codec.runtime.gpu_frame_file import GpuFrameFile, read_frame_file
from edge_codec.runtime.gpu_network import GpuNetwork, check_architecture
from edge_codec.spec import StreamSpec


class GpuVqvae:
    """The `vqvae` model on a device, shared by the coders of all slices.

    Parameters
    ----------
    file : GpuFrameFile
        As `edge_codec.runtime.gpu_frame_file.read_frame_file` returns it.
    codebook : ndarray, shape (codes, dim), int8
    tokens : TokenModel
    device : Device

    Raises
    ------
    EngineError
        If the file is for another architecture, its kernels are for another codebook or token
        model, or the device refuses them.
    """

    def __init__(
        self,
        file: GpuFrameFile,
        codebook: NDArray[np.int8],
        tokens: TokenModel,
        device: Device,
    ) -> None:
        check_architecture(file.capability, device)
        _check_model(file, codebook, tokens)
        encoder, decoder = file.engines()
        table = decoder.layers[0].table
        self.device = device
        self.encoder = GpuNetwork(encoder, device)
        self.decoder = GpuNetwork(decoder, device)
        self.functions = {name: device.load(kernel) for name, kernel in file.kernels.items()}
        self.n_codes, self.dim = codebook.shape
        _check_networks(self, 0 if table is None else len(table))
        self.codes = self.put(codebook)
        squares = np.square(codebook.astype(np.int32)).sum(axis=1, dtype=np.int32)
        self.norms = self.put(squares)
        tables = [getattr(tokens, field.name).ravel() for field in fields(TokenModel)]
        self.rows = self.put(np.concatenate(tables[:-1]))
        self.exp2 = self.put(tables[-1].astype(np.int32))

    def put(self, array: NDArray[Any]) -> Buffer:
        """Allocate a buffer for an array and copy it there."""
        buffer = self.device.allocate(array.nbytes)
        self.device.upload(np.ascontiguousarray(array), buffer)
        return buffer

    def constant(self, kernel: str, name: str) -> int:
        """Return a constant that a kernel was compiled for."""
        return int(self.functions[kernel].kernel.constants[name])

    def coder(self, spec: StreamSpec) -> GpuVqvaeFrame:
        """Return a coder for the frames of one slice."""
        return GpuVqvaeFrame(self, spec)


def load_gpu_vqvae(data: bytes, manifest: Manifest, device: Device) -> GpuVqvae:
    """Load a model of the zoo onto a device.

    Parameters
    ----------
    data : bytes
        As `edge_codec.export.gpu_frame.build_frame_file` made it of the model.
    manifest : Manifest
        Of the model, for its codebook and token model.
    device : Device

    Raises
    ------
    EngineError
        If a file is missing, damaged or altered, or they do not fit each other or the device.
    """
    codebook = np.load(io.BytesIO(manifest.read("codebook.npy")), allow_pickle=False)
    tokens = load_token_model(manifest.read("token_model.npz"))
    return GpuVqvae(read_frame_file(data), codebook, tokens, device)


class GpuVqvaeFrame:
    """Codes the base layer of one slice's frames; see `edge_codec.base.vqvae.VqvaeCoder.encode`.

    The tokens of the previous frame stay on the device. There are two places for tokens, which take
    turns, and so up to four graphs: key and predicted frames into either.

    Parameters
    ----------
    model : GpuVqvae
    spec : StreamSpec
        Gives frame size and window.

    Raises
    ------
    EngineError
        If samples have more than 16 bits, or the device has too little memory.
    """

    def __init__(self, model: GpuVqvae, spec: StreamSpec) -> None:
        self._model = model
        self._span = spec.high - spec.low
        self._shape = rows, columns = spec.info.frame_shape
        h, w = -(-rows // STRIDE), -(-columns // STRIDE)
        self._tokens_shape = h, w
        self._n_tokens = h * w
        # Two words of the coder's state, and at most one for each of a token's two symbols.
        self._capacity = 2 + 2 * self._n_tokens
        self._encoder = model.encoder.plan((1, 1, h * STRIDE, w * STRIDE))
        self._decoder = model.decoder.plan((1, h, w))
        device = model.device
        self._samples = device.pin(2 * rows * columns).view(np.uint16).reshape(rows, columns)
        self._base = device.pin(2 * rows * columns).view(np.uint16).reshape(rows, columns)
        self._words = device.pin(2 * self._capacity)
        self._size = device.pin(4).view(np.int32)
        self._allocate(spec)
        self._place = 0
        self._has_previous = False
        self._graphs: dict[tuple[bool, int], Graph] = {}

    def _allocate(self, spec: StreamSpec) -> None:
        model, device = self._model, self._model.device
        h, w = self._tokens_shape
        self._to_code = model.put(code_table(spec))
        self._to_sample = model.put(sample_table(spec))
        self._frame = device.allocate(self._samples.nbytes)
        self._codes = device.allocate(h * w * STRIDE**2)
        self._latents = device.allocate(self._encoder.result_bytes)
        self._tokens = [device.allocate(4 * self._n_tokens) for _ in range(2)]
        self._pairs = device.allocate(8 * self._n_tokens)
        self._offsets = model.put(np.array([0, 2 * self._n_tokens], np.int32))
        self._payload = device.allocate(2 * self._capacity)
        self._begin, self._bytes = device.allocate(4), device.allocate(4)
        self._decoded = device.allocate(self._decoder.result_bytes)
        self._result = device.allocate(self._base.nbytes)
        self._encoder_between = model.encoder.allocate(self._encoder)
        self._decoder_between = model.decoder.allocate(self._decoder)

    def encode(self, samples: NDArray[np.uint32], key: bool) -> tuple[bytes, NDArray[np.uint32]]:
        """Code one frame.

        Parameters
        ----------
        samples : ndarray, shape (rows, columns), uint32
            Stored values minus the stream's lower bound.
        key : bool
            Whether the frame must be decodable without the previous one.

        Returns
        -------
        payload : bytes
            The coded tokens.
        base : ndarray, shape (rows, columns), uint32
            The frame that a decoder makes of them.

        Raises
        ------
        FrameError
            If the frame has another shape or dtype, or a sample is out of the stream's bounds.
        EngineError
            If the device fails.
        """
        if samples.shape != self._shape or samples.dtype != np.uint32:
            raise FrameError(
                f"the frame is {samples.dtype} {samples.shape}; expected uint32 {self._shape}"
            )
        if samples.max() > self._span:
            raise FrameError(f"a sample is {samples.max()}; the stream has 0..{self._span}")
        predicted = self._has_previous and not key
        place = 1 - self._place
        graph = self._graphs.get((predicted, place))
        if graph is None:
            graph = self._model.device.record(lambda: self._start(predicted, place))
            self._graphs[predicted, place] = graph
        np.copyto(self._samples, samples, casting="unsafe")
        graph.replay()
        self._model.device.synchronize()
        payload = self._take_payload()
        self._place, self._has_previous = place, True
        return payload, self._base.astype(np.uint32)

    def _take_payload(self) -> bytes:
        """Return the payload, which stands at the end of its slot."""
        size = int(self._size[0])
        if not 0 < size <= self._words.size:
            raise EngineError(
                f"the GPU gives a payload of {size} bytes in a slot of {self._words.size}; code "
                "on the CPU and report this"
            )
        return self._words[self._words.size - size :].tobytes()

    def _start(self, predicted: bool, place: int) -> None:
        """Start all work on a frame whose tokens go to a place."""
        device, tokens = self._model.device, self._tokens[place]
        self._analyze(tokens)
        before = self._tokens[1 - place] if predicted else tokens
        device.both(lambda: self._synthesize(tokens), lambda: self._code(tokens, before, predicted))

    def _analyze(self, tokens: Buffer) -> None:
        model, device = self._model, self._model.device
        device.upload(self._samples, self._frame)
        self._map("normalize", self._frame, self._to_code, self._codes)
        model.encoder.start(self._encoder, self._codes, self._encoder_between, self._latents)
        block = model.constant("nearest", "BLOCK_N")
        device.launch(
            model.functions["nearest"],
            (_blocks(self._n_tokens, model.constant("nearest", "BLOCK_M")), 1, 1),
            [
                self._latents,
                model.codes,
                model.norms,
                self._n_tokens,
                model.n_codes,
                block * _blocks(model.n_codes, block),
                tokens,
            ],
        )

    def _map(self, kernel: str, source: Buffer, table: Buffer, result: Buffer) -> None:
        """Start the way from samples to window codes, or back."""
        height, width = (side * STRIDE for side in self._tokens_shape)
        rows, columns = self._shape
        n_pixels = height * width if kernel == "normalize" else rows * columns
        self._model.device.launch(
            self._model.functions[kernel],
            (_blocks(n_pixels, self._model.constant(kernel, "BLOCK")), 1, 1),
            [source, table, rows, columns, height, width, n_pixels, result],
        )

    def _synthesize(self, tokens: Buffer) -> None:
        model = self._model
        model.decoder.start(self._decoder, tokens, self._decoder_between, self._decoded)
        self._map("denormalize", self._decoded, self._to_sample, self._result)
        model.device.download(self._result, self._base)

    def _code(self, tokens: Buffer, before: Buffer, predicted: bool) -> None:
        model, device = self._model, self._model.device
        rates = "rates_predicted" if predicted else "rates_key"
        device.launch(
            model.functions[rates],
            (_blocks(self._n_tokens, model.constant(rates, "TOKENS")), 1, 1),
            [
                *(tokens, before, model.rows, model.exp2),
                *(self._n_tokens, *self._tokens_shape),
                self._pairs,
            ],
        )
        device.launch(
            model.functions["rans"],
            (1, 1, 1),
            [
                *(self._pairs, self._offsets),
                *(1, 2 * self._n_tokens, self._capacity),
                *(self._payload, self._begin, self._bytes),
            ],
        )
        device.download(self._payload, self._words)
        device.download(self._bytes, self._size)


def _check_model(file: GpuFrameFile, codebook: NDArray[np.int8], tokens: TokenModel) -> None:
    """Compare what the kernels were compiled for with the model."""
    if codebook.ndim != 2 or codebook.dtype != np.int8 or len(codebook) != tokens.n_codes:
        raise EngineError(
            f"the codebook is {codebook.shape} {codebook.dtype}; the token model has "
            f"{tokens.n_codes} codes"
        )
    sizes = {"CLUSTERS": tokens.n_clusters, "LEAVES": tokens.n_leaves}
    expected: dict[str, dict[str, int | None]] = {
        "nearest": {"DIM": codebook.shape[1], "SHORT": False, "scores": None, "gathered": None},
        "rates_key": {**sizes, "PREDICTED": False},
        "rates_predicted": {**sizes, "PREDICTED": True},
        "rans": {"LANES": 1},
    }
    for name, constants in expected.items():
        found = {key: file.kernels[name].constants.get(key, "missing") for key in constants}
        if found != constants:
            raise EngineError(
                f"kernel '{name}' was compiled for {found}, the model has {constants}; {REBUILD}"
            )


def _check_networks(model: GpuVqvae, n_tokens: int) -> None:
    """Check that the networks stand on either side of the codebook, 8x8 pixels to a token."""
    latents = model.encoder.plan((1, 1, STRIDE, STRIDE)).stored[-1]
    pixels = model.decoder.plan((1, 1, 1)).stored[-1]
    found = latents, n_tokens, pixels
    expected = (1, 1, 1, model.dim), model.n_codes, (1, STRIDE, STRIDE, 1)
    if found != expected:
        raise EngineError(
            f"the networks have latents, tokens and pixels {found}, not {expected}; {REBUILD}"
        )


def _blocks(count: int, block: int) -> int:
    return -(-count // block)

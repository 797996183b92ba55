"""The base layer of model `video`.

Every key frame begins with a new encoder and a new decoder: a group depends on nothing before it,
and two groups of the same frames have the same bits. The encoder decodes what it made: what it
calls the base is what every decoder makes, whatever the encoder thought of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.video.encoders import DEFAULT_ENCODER, EncoderSetup, encoder_setup
from edge_codec.base.video.formats import coded_shape, pack_model_data, unpack_model_data
from edge_codec.base.video.levels import Levels
from edge_codec.base.video.libav import VideoDecoder, VideoEncoder, load
from edge_codec.engine import Mapper
from edge_codec.errors import BitstreamError, EngineError
from edge_codec.spec import Effort, StreamSpec


class VideoModel:
    """A standard video encoder and its decoder.

    Parameters
    ----------
    encoder : str, optional
        Name of the encoder, see `edge_codec.base.video.encoders.ENCODERS`; decoding takes the one
        that the stream names.
    quality : int
        0 to 63, the best, of all frames.
    effort : Effort
        How hard the encoder searches.

    Attributes
    ----------
    quality : int
        As above; a change counts from each slice's next key frame on.

    Raises
    ------
    EngineError
        If PyAV is not installed.
    """

    def __init__(
        self,
        encoder: str = DEFAULT_ENCODER,
        quality: int = 32,
        effort: Effort = Effort.DEFAULT,
    ) -> None:
        load()
        self.quality = quality
        self._encoder = encoder
        self._effort = effort

    def model_data(self, frame_shape: tuple[int, int]) -> bytes:
        """Return what the header of a stream must say for `coder` to encode it.

        Parameters
        ----------
        frame_shape : (int, int)
            Rows and columns of its frames.

        Raises
        ------
        SpecError
            If there is no such encoder or quality.
        EngineError
            If the encoder is not there or refuses the frame size.
        """
        shape = coded_shape(frame_shape)
        setup = self.setup(shape)
        return pack_model_data(setup.form, VideoEncoder(setup, shape).parameter_sets)

    def setup(self, shape: tuple[int, int]) -> EncoderSetup:
        """Return how the encoder of frames of `coded_shape` is called."""
        return encoder_setup(self._encoder, self._effort, self.quality, shape)

    def coder(self, spec: StreamSpec, mapper: Mapper = map) -> VideoCoder:
        """See `edge_codec.base.layer.BaseModel.coder`."""
        return VideoCoder(self, spec, mapper)

    def encode_frames(
        self,
        coders: Sequence[VideoCoder],
        samples: Sequence[NDArray[np.uint32]],
        phases: Sequence[int],
        keys: Sequence[bool],
        aheads: Sequence[Sequence[NDArray[np.uint32]]] = (),
    ) -> list[tuple[bytes, NDArray[np.uint32]]]:
        """See `edge_codec.base.layer.BaseModel.encode_frames`; slices go on several threads."""
        del aheads
        work = zip(coders, samples, phases, keys, strict=True)
        return list(coders[0].mapper(lambda job: job[0].encode(*job[1:]), work))


class VideoCoder:
    """Codes the base layer of one slice.

    Parameters
    ----------
    model : VideoModel
        The encoder.
    spec : StreamSpec
        The stream.
    mapper : callable
        How to go over frames of several slices.

    Raises
    ------
    BitstreamError
        If the stream's header names no known format.
    """

    def __init__(self, model: VideoModel, spec: StreamSpec, mapper: Mapper = map) -> None:
        self.mapper = mapper
        self._model = model
        self._spec = spec
        self._form, self._parameter_sets = unpack_model_data(spec)
        self._levels = Levels(spec.high - spec.low, self._form.depth)
        self._shape = coded_shape(spec.info.frame_shape)
        self._encoder: VideoEncoder | None = None
        self._decoder: VideoDecoder | None = None

    def encode(
        self,
        samples: NDArray[np.uint32],
        phase: int,
        key: bool,
        ahead: Sequence[NDArray[np.uint32]] = (),
    ) -> tuple[bytes, NDArray[np.uint32]]:
        """See `edge_codec.base.layer.BaseCoder.encode`."""
        del ahead
        if key or self._encoder is None:
            self._encoder = self._open_encoder()
        payload = self._encoder.encode(self._extend(self._levels.encode(samples)))
        return payload, self.decode(payload, phase, key)

    def _open_encoder(self) -> VideoEncoder:
        setup = self._model.setup(self._shape)
        encoder = VideoEncoder(setup, self._shape)
        made = pack_model_data(setup.form, encoder.parameter_sets)
        if made != self._spec.model_data:
            raise EngineError(
                f"{setup.library} makes other video ({made.hex()}) than the stream's header says "
                f"({self._spec.model_data.hex()}); use the encoder and effort that began the "
                "stream, or begin another"
            )
        return encoder

    def _extend(self, levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Repeat the edge below and to the right of a frame that is too small, or odd."""
        below, right = (due - side for due, side in zip(self._shape, levels.shape, strict=True))
        if not below and not right:
            return levels
        return np.pad(levels, ((0, below), (0, right)), mode="edge")

    def decode(self, payload: bytes, phase: int, key: bool) -> NDArray[np.uint32]:
        """See `edge_codec.base.layer.BaseCoder.decode`."""
        del phase  # frames follow each other as they come
        decoder, self._decoder = self._decoder, None  # nothing follows a frame that fails
        if key:
            decoder = VideoDecoder(self._form, self._parameter_sets, self._shape)
        if decoder is None:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        levels = decoder.decode(payload)
        self._decoder = decoder
        rows, columns = self._spec.info.frame_shape
        return self._levels.decode(levels[:rows, :columns])

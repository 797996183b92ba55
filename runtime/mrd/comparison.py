"""What came back against what was sent: image for image, byte for byte, and when."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.codec import Decoder
from edge_codec.errors import EdgeCodecError
from edge_codec.io.mrd_image import Form, ImageHead, plane_dtype
from edge_codec.runtime.models import check_hashes, load_model
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.packet_image import PacketImageReceiver
from edge_codec.runtime.mrd.protocol import AnyMessage, ImageMessage, Message, MessageId
from edge_codec.spec import StreamSpec


@dataclass(slots=True)
class Sent:
    """An image that waits for its answer."""

    image: ImageMessage
    due_ns: int


@dataclass(slots=True)
class Comparison:
    """Counts of what came back.

    Attributes
    ----------
    sent, answered : int
        Images.
    exact : int
        Answers that equal what was sent, header and attributes included.
    missing : int
        Images that later answers overtook.
    max_error : float
        Largest difference of a voxel, in stored units; infinity where sizes differ.
    latency_ms : list of float
        From the instant that an image was due until its answer was whole.
    texts : list of str
        What the server said.
    errors : list of str
        What was wrong with its packets.
    """

    sent: int = 0
    answered: int = 0
    exact: int = 0
    missing: int = 0
    max_error: float = 0.0
    latency_ms: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def all_exact(self) -> bool:
        """Whether every image came back as it was."""
        return self.sent == self.answered == self.exact > 0


class AnswerCheck:
    """Compares answers with what was sent; `expect` and `take` may be called in two threads.

    Parameters
    ----------
    limits : Limits
        For packets that come as answers.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._waiting: deque[Sent] = deque()
        self._lock = threading.Lock()
        self._receiver = PacketImageReceiver(_open_decoder, limits or Limits())
        self.result = Comparison()

    def expect(self, image: ImageMessage, due_ns: int) -> None:
        """Note an image that is about to be sent."""
        with self._lock:
            self.result.sent += 1
            self._waiting.append(Sent(image, due_ns))

    def take(self, message: AnyMessage, came_ns: int) -> None:
        """Compare an answer."""
        if isinstance(message, Message):
            if message.ident is MessageId.TEXT:
                self.result.texts.append(message.text)
            return
        try:
            image = self._receiver.push(message)
        except EdgeCodecError as error:
            self.result.errors.append(f"{error}")
            return
        if image is not None:
            self._compare(image, came_ns)

    def finish(self) -> Comparison:
        """Count what never came, and return the result."""
        with self._lock:
            self.result.missing += len(self._waiting)
            self._waiting.clear()
        return self.result

    def _compare(self, image: ImageMessage, came_ns: int) -> None:
        result = self.result
        sent = self._match(image)
        if sent is None:
            result.errors.append("an image came that was not sent")
            return
        result.answered += 1
        result.latency_ms.append((came_ns - sent.due_ns) / 1e6)
        original = sent.image
        same = image.header == original.header and image.attributes == original.attributes
        if bytes(image.voxels) == bytes(original.voxels):
            result.exact += same
            return
        result.max_error = max(result.max_error, _max_error(image, original))

    def _match(self, image: ImageMessage) -> Sent | None:
        """Find what an answer answers; those before it were left out."""
        with self._lock:
            for skipped, sent in enumerate(self._waiting):
                # All but the size of the attributes, which a lossy answer adds to.
                if sent.image.header[:-4] == image.header[:-4]:
                    for _ in range(skipped + 1):
                        self._waiting.popleft()
                    self.result.missing += skipped
                    return sent
        return None


def _max_error(image: ImageMessage, original: ImageMessage) -> float:
    if len(image.voxels) != len(original.voxels):
        return float("inf")
    first, second = _values(image), _values(original)
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(first - second), initial=0.0))


def _values(image: ImageMessage) -> NDArray[Any]:
    data_type = ImageHead.unpack(image.header).data_type
    form = Form.FLOAT if data_type >= 5 else Form.INTEGER
    return np.frombuffer(image.voxels, plane_dtype(data_type, form)).astype(np.float64)


def _open_decoder(spec: StreamSpec) -> Decoder:
    check_hashes(spec)
    return Decoder(spec, load_model(spec.model, decode_only=True))

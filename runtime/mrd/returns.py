"""From the packets of a live stream back to the peer: what it is answered for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from edge_codec.bitstream.packet import Packet
from edge_codec.errors import EngineError
from edge_codec.runtime.mrd.answers import Answers, Slot
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.meta import add_meta
from edge_codec.runtime.mrd.packet_image import wrap_header, wrap_packet
from edge_codec.runtime.mrd.protocol import AnyMessage, ImageMessage
from edge_codec.runtime.mrd.restore import ImageRestorer, OpenDecoder, read_note
from edge_codec.runtime.packet_sink import Segment
from edge_codec.spec import StreamSpec

PROMISE = "edge_codec.promise"


class AnswerMode(Enum):
    """What a peer gets for an image."""

    ORIGINAL = "original"  # its own bytes, once they are coded and every sink has them
    DECODED = "decoded"  # what a receiver decodes from the packets
    PACKETS = "packets"  # the packets, as images
    NONE = "none"  # nothing


@dataclass(slots=True)
class _Pending:
    """An image whose packets are on their way."""

    slot: Slot
    image: ImageMessage
    left: int
    messages: list[AnyMessage] = field(default_factory=list)


class ImageReturns:
    """Makes the answers for the images of one live stream; a sink of its packets.

    `expect` is called in the thread that reads, the sink's methods in the stream's; the work is
    done in the answering thread.

    Parameters
    ----------
    answers : Answers
        Where answers go.
    mode : AnswerMode
        What they are.
    open_decoder : callable
        Makes the decoder of a stream.
    limits : Limits
        The session's.

    Attributes
    ----------
    dropped : int
        Images that the policy left out, wholly or in part.
    """

    def __init__(
        self, answers: Answers, mode: AnswerMode, open_decoder: OpenDecoder, limits: Limits
    ) -> None:
        self._answers = answers
        self._mode = mode
        self._open_decoder = open_decoder
        self._limits = limits
        self._pending: dict[int, _Pending] = {}
        self._segment: Segment | None = None
        self._restorer: ImageRestorer | None = None
        self._begins = False
        self._take: Callable[[_Pending, Packet, bytes, Segment], Sequence[AnyMessage]] = {
            AnswerMode.ORIGINAL: self._original,
            AnswerMode.DECODED: self._decoded,
            AnswerMode.PACKETS: self._packets,
            AnswerMode.NONE: self._nothing,
        }[mode]
        self.dropped = 0

    def expect(self, item: int, slot: Slot, image: ImageMessage, planes: int) -> None:
        """Say that the packets of an image will come: call it before they can."""
        self._pending[item] = _Pending(slot, image, planes)

    def begin(self, segment: Segment) -> None:
        """See `PacketSink`."""
        self._answers.later(partial(self._begin, segment))

    def send(self, packet: Packet, data: bytes) -> None:
        """See `PacketSink`."""
        self._answers.later(partial(self._sent, packet, data))

    def end(self) -> None:
        """See `PacketSink`: images may still be whole in the next segment."""

    def abort(self) -> None:
        """See `PacketSink`."""

    def finish(self) -> None:
        """Give up what did not come, after the stream was closed."""
        self._answers.later(self._give_up_rest)

    def _begin(self, segment: Segment) -> None:
        self._segment = segment
        self._begins = True
        if self._mode is AnswerMode.DECODED:
            self._restorer = ImageRestorer(segment.spec, self._open_decoder, self._limits)

    def _sent(self, packet: Packet, data: bytes) -> None:
        segment = self._segment
        if segment is None:
            raise EngineError("a packet came before its segment; this is a defect, report it")
        item = read_note(packet, segment.spec).item
        self._give_up_before(item)
        pending = self._pending[item]
        pending.left -= 1
        pending.messages += self._take(pending, packet, data, segment)
        if not pending.left:
            del self._pending[item]
            self._answers.fill(pending.slot, pending.messages)

    def _give_up_before(self, item: int) -> None:
        """Leave out the images that a later one of the same stream has overtaken."""
        for old in [number for number in self._pending if number < item]:
            self._give_up(old)

    def _give_up_rest(self) -> None:
        for old in list(self._pending):
            self._give_up(old)

    def _give_up(self, item: int) -> None:
        self.dropped += 1
        self._answers.fill(self._pending.pop(item).slot, ())

    def _original(
        self, pending: _Pending, packet: Packet, data: bytes, segment: Segment
    ) -> Sequence[AnyMessage]:
        del packet, data, segment
        return () if pending.left else (pending.image,)

    def _nothing(
        self, pending: _Pending, packet: Packet, data: bytes, segment: Segment
    ) -> Sequence[AnyMessage]:
        del pending, packet, data, segment
        return ()

    def _packets(
        self, pending: _Pending, packet: Packet, data: bytes, segment: Segment
    ) -> Sequence[AnyMessage]:
        del packet
        like = pending.image.header
        head = (wrap_header(segment, like),) if self._begins else ()
        self._begins = False
        return (*head, wrap_packet(data, segment, like))

    def _decoded(
        self, pending: _Pending, packet: Packet, data: bytes, segment: Segment
    ) -> Sequence[AnyMessage]:
        if self._restorer is None:
            raise EngineError("a packet came before its segment; this is a defect, report it")
        # From its bytes, as a receiver would.
        found = self._restorer.push(Packet.unpack(data))
        if found is None:
            return ()
        image = found[1]
        if segment.spec.lossless:
            _check_same(image, pending.image)
            return (image,)
        return (with_promise(image, segment.spec),)


def _check_same(decoded: ImageMessage, original: ImageMessage) -> None:
    """Prove that a lossless stream gave back the image that came."""
    if (decoded.header, decoded.attributes) != (original.header, original.attributes) or bytes(
        decoded.voxels
    ) != bytes(original.voxels):
        raise EngineError(
            "an image came back changed from a lossless stream; this is a defect, report it"
        )


def with_promise(image: ImageMessage, spec: StreamSpec) -> ImageMessage:
    """Return an image whose attributes say that its voxels are not those of the scanner."""
    bound = spec.max_error
    promise = "none" if bound is None else f"max-error {bound}"
    attributes = add_meta(image.attributes, {PROMISE: promise})
    header = image.header[:-4] + len(attributes).to_bytes(4, "little")
    return ImageMessage(header, attributes, image.voxels)

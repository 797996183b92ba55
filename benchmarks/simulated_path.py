"""A sender and a receiver over UDP with a bad network between them, in one process and at no time.

The same code as over sockets, on a clock that is moved by hand: for tests and measurements.
"""

from __future__ import annotations

from benchmarks.lossy_link import Impairment, LossyLink
from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.runtime.transport import datagram as wire
from edge_codec.runtime.transport.forward_options import OnKeyRequest
from edge_codec.runtime.transport.packet_consumer import PacketConsumer
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.runtime.transport.udp_peer import UdpPeer
from edge_codec.runtime.transport.udp_sender import UdpSender
from edge_codec.spec import StreamSpec

_STEP_NS = 1_000_000
_NONCE = bytes(wire.NONCE_SIZE)


class SimulatedPath:
    """One stream from a sender to a consumer.

    Parameters
    ----------
    consumer : PacketConsumer
        Gets the packets.
    there, back : Impairment
        What happens to datagrams of the sender, and to answers.
    on_key_request : callable
        As of `UdpSender`.
    options : UdpOptions
        Times and bounds of both sides.
    token : str, optional
        Secret of both sides.

    Attributes
    ----------
    sender, peer : UdpSender, UdpPeer
        Both sides.
    there, back : LossyLink
        Both directions.
    now_ns : int
        The clock.
    """

    def __init__(
        self,
        consumer: PacketConsumer,
        there: Impairment,
        back: Impairment,
        on_key_request: OnKeyRequest,
        options: UdpOptions | None = None,
        token: str | None = None,
    ) -> None:
        self.now_ns = 0
        self.there, self.back = LossyLink(there), LossyLink(back)
        self.sender = UdpSender("simulated", token, self._send, on_key_request, options)
        self._token = token
        self._consumer = consumer
        self._options = options
        self.peer: UdpPeer | None = None

    def begin(self, spec: StreamSpec, number: int = 0) -> None:
        """Begin a segment."""
        self.sender.begin(number, pack_header(spec), self.now_ns)

    def send(self, packet: Packet) -> None:
        """Send a packet."""
        self.sender.send(
            packet.sequence, packet.slice_index, packet.key, packet.pack(), self.now_ns
        )

    def end(self, longest_ns: int = 1_000_000_000) -> bool:
        """End the segment; whether the sender got to know that it is complete."""
        self.sender.end(self.now_ns)
        deadline_ns = self.now_ns + longest_ns
        while not self.sender.acknowledged and self.now_ns < deadline_ns:
            self.run(_STEP_NS)
        return self.sender.acknowledged

    def run(self, duration_ns: int) -> None:
        """Let time pass, in steps of a millisecond."""
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            self.now_ns = min(self.now_ns + _STEP_NS, end_ns)
            for data in self.there.due(self.now_ns):
                self._arrive(data)
            if self.peer is not None:
                self.peer.tick(self.now_ns)
            for data in self.back.due(self.now_ns):
                self.sender.receive(data, self.now_ns)
            self.sender.tick(self.now_ns)

    def _send(self, data: bytes) -> None:
        self.there.send(data, self.now_ns)

    def _arrive(self, data: bytes) -> None:
        greeting = wire.greeting_seal(self._token)
        found = wire.open_datagram(data, greeting)
        if found is not None and found.kind == wire.Kind.HELLO:
            self._challenge(found)
        elif self.peer is not None:
            self.peer.receive(data, self.now_ns)

    def _challenge(self, hello: wire.Datagram) -> None:
        """Answer as `UdpReceiver` does, which also waits for a proof: here nobody is a stranger."""
        nonce, _ = wire.unpack_hello(hello.body)
        seal = wire.session_seal(self._token, hello.stream, nonce, _NONCE)
        if self.peer is None:
            self.peer = UdpPeer(
                hello.stream,
                seal,
                self._consumer,
                lambda data: self.back.send(data, self.now_ns),
                self._options,
            )
        self.peer.seal = seal
        answer = wire.Datagram(wire.Kind.CHALLENGE, hello.stream, body=nonce + _NONCE)
        self.back.send(answer.pack(wire.greeting_seal(self._token)), self.now_ns)

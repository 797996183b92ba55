"""The sink that forwards a live stream over UDP: for links where late is worse than lost."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

from edge_codec.bitstream.header import pack_header
from edge_codec.bitstream.packet import Packet
from edge_codec.errors import EdgeCodecError, SinkError
from edge_codec.runtime.packet_sink import Segment
from edge_codec.runtime.transport.datagram import MAX_DATAGRAM
from edge_codec.runtime.transport.forward_options import ForwardOptions, OnKeyRequest, WhenGone
from edge_codec.runtime.transport.forward_wire import stream_name
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.runtime.transport.udp_sender import SenderCounts, UdpSender

_log = logging.getLogger(__name__)

_TICK_S = 0.005
_BUFFER = 4 << 20
_LAST_WORDS = 3  # ends that are sent when nobody waits for an answer


class UdpSink:
    """Forwards the packets of one live stream to a `UdpReceiver`.

    It never waits for the receiver but at the end. What the receiver could not get in time is lost;
    keep the key interval small, or give `on_key_request`.

    Parameters
    ----------
    address : tuple of (str, int)
        Host and port of the receiver.
    options : ForwardOptions
        Token, and what happens if the receiver is gone; there is no TLS over UDP.
    on_key_request : callable, optional
        Called from the sink's thread with a slice or None when packets are lost; may be set later.
    udp : UdpOptions
        Times and bounds.

    Attributes
    ----------
    on_key_request : callable or None
        As given.

    Raises
    ------
    SinkError
        If the address cannot be used, or TLS is demanded.
    """

    def __init__(
        self,
        address: tuple[str, int],
        options: ForwardOptions | None = None,
        on_key_request: OnKeyRequest | None = None,
        udp: UdpOptions | None = None,
    ) -> None:
        self._address = address
        self._options = options or ForwardOptions()
        self._udp = udp or UdpOptions()
        if self._options.tls is not None:
            raise SinkError("there is no TLS over UDP; forward over TCP, or through a tunnel")
        self.on_key_request = on_key_request
        self._sender: UdpSender | None = None
        self._stream = ""
        self._sock: socket.socket | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._began_ns = 0
        self._burst = 0
        self._warned = False

    @property
    def counts(self) -> SenderCounts:
        """What was done so far."""
        return SenderCounts() if self._sender is None else self._sender.counts

    def begin(self, segment: Segment) -> None:
        """Announce a segment."""
        stream_name(segment.stream.encode())
        with self._changed:
            if self._sender is None:
                self._stream = segment.stream
                self._sender = UdpSender(
                    segment.stream, self._options.token, self._transmit, self._key, self._udp
                )
            elif segment.stream != self._stream:
                raise SinkError(
                    f"the sink forwards stream {self._stream}, not {segment.stream}; give each "
                    "stream a sink of its own"
                )
            self._start()
            self._began_ns = time.monotonic_ns()
            self._sender.begin(segment.number, pack_header(segment.spec), self._began_ns)

    def send(self, packet: Packet, data: bytes) -> None:
        """Send a packet.

        Raises
        ------
        SinkError
            If the receiver is gone, and the options say to fail.
        """
        sender = self._begun()
        silent_s = self._silent_s(sender)
        if silent_s > self._options.patience_s:
            self._gone(f"no answer for {silent_s:.1f} s")
        with self._changed:
            sender.send(packet.sequence, packet.slice_index, packet.key, data, time.monotonic_ns())

    def end(self) -> None:
        """Wait until the receiver knows that the segment is complete.

        Raises
        ------
        SinkError
            If it does not answer, and the options say to fail.
        """
        sender = self._begun()
        with self._changed:
            sender.end(time.monotonic_ns())
            known = self._changed.wait_for(lambda: sender.acknowledged, self._options.patience_s)
        self._halt()
        if not known:
            self._gone("it does not confirm the end of the segment")

    def abort(self) -> None:
        """Say the end a few times without waiting for an answer."""
        if self._sender is not None and self._sock is not None:
            with self._changed:
                for _ in range(_LAST_WORDS):
                    self._sender.end(time.monotonic_ns())
        self._halt()

    def _begun(self) -> UdpSender:
        if self._sender is None or self._sock is None:
            raise SinkError("no segment has begun; call begin first")
        return self._sender

    def _silent_s(self, sender: UdpSender) -> float:
        return (time.monotonic_ns() - max(sender.heard_ns or 0, self._began_ns)) / 1e9

    def _gone(self, what: str) -> None:
        host, port = self._address
        message = f"forwarding to {host}:{port} over UDP: {what}"
        if self._options.when_gone is WhenGone.FAIL:
            raise SinkError(f"{message}; check address, token, and that the receiver runs")
        if not self._warned:
            _log.warning("%s; going on without it", message)
        self._warned = True

    def _start(self) -> None:
        if self._sock is not None:
            return
        try:
            family, kind, number, _, address = socket.getaddrinfo(
                *self._address, type=socket.SOCK_DGRAM
            )[0]
            self._sock = socket.socket(family, kind, number)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._sock.settimeout(_TICK_S)
            self._sock.connect(address)
        except OSError as error:
            self._close()
            host, port = self._address
            raise SinkError(f"cannot send to {host}:{port}: {error}; check the address") from error
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(self._sock,), name=f"udp-{self._stream}", daemon=True
        )
        self._thread.start()

    def _halt(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._close()

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def _transmit(self, data: bytes) -> None:
        """Send a datagram; what the network does not take is lost, as on the way."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.send(data)
        self._burst += 1
        if self._burst >= self._udp.burst_datagrams:
            self._burst = 0
            time.sleep(self._udp.pause_ns / 1e9)

    def _key(self, slice_index: int | None) -> None:
        if self.on_key_request is not None:
            with contextlib.suppress(EdgeCodecError):  # the stream may just be ending
                self.on_key_request(slice_index)

    def _run(self, sock: socket.socket) -> None:
        sender = self._begun()
        while not self._stop.is_set():
            try:
                data = sock.recv(MAX_DATAGRAM + 1)
            except OSError as error:  # time-out, or nobody is there yet
                data = b""
                if not isinstance(error, TimeoutError):
                    self._stop.wait(_TICK_S)
            with self._changed:
                self._burst = 0 if not data else self._burst
                if data:
                    sender.receive(data, time.monotonic_ns())
                sender.tick(time.monotonic_ns())
                self._changed.notify_all()

"""From an address as it is written on a command line to the sink that forwards there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_codec.errors import SpecError
from edge_codec.runtime.access import client_context, parse_address
from edge_codec.runtime.transport.forward_options import ForwardOptions, OnKeyRequest
from edge_codec.runtime.transport.tcp_forward import TcpForwardSink
from edge_codec.runtime.transport.udp_sink import UdpSink


def open_forward(
    url: str,
    options: ForwardOptions | None = None,
    on_key_request: OnKeyRequest | None = None,
    *,
    ca_file: Path | None = None,
) -> TcpForwardSink | UdpSink:
    """Make the sink of an address; it connects when its first segment begins.

    Parameters
    ----------
    url : str
        `tcp://HOST:PORT`, `tls://HOST:PORT` or `udp://HOST:PORT`; `HOST:PORT` is `tcp`, or `tls`
        where certificates to trust are given.
    options : ForwardOptions
        Token, and what happens if the receiver is gone.
    on_key_request : callable, optional
        Called with a slice or None when packets are lost; may be set later.
    ca_file : Path, optional
        PEM certificates to trust, instead of the system's.

    Raises
    ------
    SpecError
        If the address is none, or the certificates cannot be read.
    """
    options = options or ForwardOptions()
    scheme, separator, rest = url.rpartition("://")
    if not separator:
        scheme = "tcp" if ca_file is None else "tls"
    if scheme not in ("tcp", "tls", "udp") or (ca_file is not None and scheme != "tls"):
        raise SpecError(
            f"address {url!r}: give tcp://HOST:PORT, tls://HOST:PORT or udp://HOST:PORT; "
            "certificates are for tls"
        )
    address = parse_address(rest.rstrip("/"))
    if not address[0] or not address[1]:
        raise SpecError(f"address {url!r}: give the host and port of a receiver")
    if scheme == "udp":
        return UdpSink(address, options, on_key_request)
    if scheme == "tls":
        options = replace(options, tls=client_context(ca_file))
    return TcpForwardSink(address, options, on_key_request)

import pytest
from tls_files import make_certificate

from edge_codec.errors import SinkError, SpecError
from edge_codec.runtime.access import client_context
from edge_codec.runtime.transport.forward_options import ForwardOptions, WhenGone
from edge_codec.runtime.transport.open_forward import open_forward
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.tcp_forward import TcpForwardSink
from edge_codec.runtime.transport.udp_options import UdpOptions
from edge_codec.runtime.transport.udp_sink import UdpSink


@pytest.mark.parametrize(
    ("url", "kind", "tls"),
    [
        ("tcp://127.0.0.1:9003", TcpForwardSink, False),
        ("127.0.0.1:9003", TcpForwardSink, False),
        ("tls://scanner.local:9003/", TcpForwardSink, True),
        ("udp://[::1]:9003", UdpSink, False),
    ],
)
def test_addresses(url, kind, tls):
    options = ForwardOptions(when_gone=WhenGone.GO_ON)
    sink = open_forward(url, options)
    assert type(sink) is kind
    assert (sink._options.tls is not None) is tls
    assert sink._options.when_gone is WhenGone.GO_ON
    assert sink._address[1] == 9003
    sink.abort()


def test_certificates_mean_tls(tmp_path):
    cert, _ = make_certificate(tmp_path)
    assert open_forward("127.0.0.1:9003", ca_file=cert)._options.tls is not None
    for url in ("tcp://127.0.0.1:9003", "udp://127.0.0.1:9003"):
        with pytest.raises(SpecError, match="certificates are for tls"):
            open_forward(url, ca_file=cert)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9003", "tcp://127.0.0.1", "tcp://:9003", "tcp://host:0", ""]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SpecError):
        open_forward(url)


def test_there_is_no_tls_over_udp():
    with pytest.raises(SinkError, match="over UDP"):
        UdpSink(("127.0.0.1", 9003), ForwardOptions(tls=client_context()))


def test_options_that_let_nothing_through_are_refused():
    for make in (
        lambda: ForwardOptions(patience_s=0),
        lambda: ForwardOptions(window_packets=0),
        lambda: ReceiverOptions(max_peers=0),
        lambda: ReceiverOptions(silence_s=-1),
        lambda: UdpOptions(deadline_ns=0),
    ):
        with pytest.raises(SpecError, match="above 0"):
            make()

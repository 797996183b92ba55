"""Sessions over TLS, and on to a second machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrd_peer import connect, exchange, images_of, plain_decoder, serving, talk, texts_of
from mrd_samples import make_image, same, smooth_voxels
from tls_files import make_certificate

from edge_codec.bitstream.container import StreamReader
from edge_codec.bitstream.packet import Packet
from edge_codec.runtime.access import Access, client_context, server_context
from edge_codec.runtime.mrd.limits import Limits
from edge_codec.runtime.mrd.restore import ImageRestorer
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.runtime.transport.open_forward import open_forward
from edge_codec.runtime.transport.receiver_options import ReceiverOptions
from edge_codec.runtime.transport.tcp_receive import PacketReceiver

TOKEN = "0123456789abcdef-secret"
IMAGES = [make_image(smooth_voxels(1, (2, 1, 16, 12), n), phase=n) for n in range(8)]


def test_sessions_over_tls(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    access = Access(TOKEN, server_context(cert, key))
    trust = client_context(cert)
    with serving(access=access, limits={"max_connections": 2}) as server:
        answers = talk(server, IMAGES, config=f"edge-codec;token={TOKEN}", tls=trust)
        assert all(map(same, images_of(answers), IMAGES))
        assert len(images_of(answers)) == len(IMAGES)
        denied = talk(server, IMAGES, tls=trust)
        assert "access denied" in texts_of(denied)[0]
        # In clear there is no answer but an end.
        assert (
            images_of(exchange(connect(server), b"\1\0" + b"edge-codec".ljust(1024, b"\0"))) == []
        )
        assert server.wait_idle(10)
        big = [make_image(smooth_voxels(2, (1, 1, 300, 400), n)) for n in range(6)]
        answers = talk(server, big, config=f"edge-codec;token={TOKEN}", tls=trust)
        assert [bytes(image.voxels) for image in images_of(answers)] == [
            image.voxels for image in big
        ]


def test_packets_reach_a_second_machine(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    reports: list[SessionReport] = []
    with PacketReceiver(("127.0.0.1", 0), far, ReceiverOptions()) as receiver:
        host, port = receiver.address
        sinks = [lambda name: open_forward(f"tcp://{host}:{port}")]
        with serving(make_sinks=sinks, folder=tmp_path / "near", reports=reports) as server:
            answers = talk(server, IMAGES)
    assert reports[0].error == ""
    assert all(map(same, images_of(answers), IMAGES))
    (path,) = far.rglob("*.ecd")
    (near,) = (tmp_path / "near").rglob("*.ecd")
    assert path.read_bytes() == near.read_bytes()
    with path.open("rb") as file:
        reader = StreamReader(file)
        restorer = ImageRestorer(reader.spec, plain_decoder, Limits())
        found = [image for packet in reader.packets() if (image := restorer.push(packet))]
    assert [item for item, _ in found] == list(range(len(IMAGES)))
    assert all(same(image, sent) for (_, image), sent in zip(found, IMAGES, strict=True))


class AskingSink:
    """A sink whose receiver asks for a key frame after its third packet."""

    def __init__(self) -> None:
        self.on_key_request: Callable[[int | None], None] | None = None
        self.keys: list[bool] = []

    def begin(self, segment: object) -> None:
        pass

    def send(self, packet: Packet, data: bytes) -> None:
        del data
        self.keys.append(packet.key)
        if len(self.keys) == 3 and self.on_key_request is not None:
            self.on_key_request(None)

    def end(self) -> None:
        pass

    def abort(self) -> None:
        pass


def test_a_receiver_may_ask_for_key_frames() -> None:
    sink = AskingSink()
    images = [make_image(smooth_voxels(1, (1, 1, 16, 12), n), phase=n) for n in range(30)]
    with serving(make_sinks=[lambda name: sink]) as server:
        back = images_of(talk(server, images))
    assert all(map(same, back, images))
    assert sink.keys[0]
    assert sum(sink.keys) == 2

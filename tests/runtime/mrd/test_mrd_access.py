"""Who is let in, and what nobody is told: tokens, and the folders of this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mrd_peer import (
    CLOSE,
    IMAGES,
    TOKEN,
    connect,
    exchange,
    images_of,
    opening,
    serving,
    stored,
    talk,
    texts_of,
)
from mrd_samples import same

from edge_codec.errors import SpecError
from edge_codec.runtime.access import Access
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.mrd.protocol import MessageId, pack_message, text_message
from edge_codec.runtime.mrd.server import MrdServer, ServeOptions
from edge_codec.runtime.mrd.session import SessionReport
from edge_codec.runtime.mrd.session_texts import for_peer
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import Effort


def test_a_token_is_demanded_before_anything_else(tmp_path: Path) -> None:
    access = Access(token=TOKEN)
    with serving(access=access, folder=tmp_path) as server:
        for config in ("edge-codec", "edge-codec;token=wrong", f"edge-codec;token={TOKEN}x"):
            answers = talk(server, IMAGES, config=config)
            assert images_of(answers) == []
            assert "access denied" in texts_of(answers)[0]
        assert stored(tmp_path) == {}
        good = talk(server, IMAGES, config=f"edge-codec;token={TOKEN}")
        assert all(map(same, images_of(good), IMAGES))
        text = text_message(MessageId.CONFIG_TEXT, f"<xml/> ;token={TOKEN}\nrest")
        data = b"".join(map(pack_message, (text, *opening()[1:], *IMAGES, CLOSE)))
        assert len(images_of(exchange(connect(server), data))) == len(IMAGES)
    files = stored(tmp_path)
    assert files
    assert not any(TOKEN.encode() in data for data in files.values())
    assert b"<xml/> \nrest" in files["45_6-7-2.mrd"]


def test_no_token_gets_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0), serving(access=Access(token=TOKEN)) as server:
        talk(server, IMAGES, config=f"edge-codec;token={TOKEN}")
        talk(server, IMAGES, config="edge-codec;token=another-secret-0")
    assert caplog.text
    assert TOKEN not in caplog.text
    assert "another-secret-0" not in caplog.text


def test_other_machines_are_refused_without_a_token() -> None:
    with Pipeline() as pipeline, pytest.raises(SpecError, match="token"):
        MrdServer(("0.0.0.0", 0), ServeOptions(LiveOptions(effort=Effort.FAST)), Access(), pipeline)


def test_a_port_in_use_is_said() -> None:
    with Pipeline() as pipeline, socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[:2]
        with pytest.raises(SpecError, match="choose another port"):
            MrdServer(address, ServeOptions(), Access(), pipeline)


def test_errors_do_not_tell_peers_the_folders_of_this_machine(tmp_path: Path) -> None:
    reports: list[SessionReport] = []
    folder = tmp_path / "a folder"
    with serving(folder=folder, reports=reports) as server:
        (folder / "45_6-7-s1").write_text("a file where a folder is due")
        answers = talk(server, IMAGES)
        assert server.wait_idle(5)
    text = texts_of(answers)[-1]
    assert "45_6-7-s1" in text
    assert str(tmp_path) not in text
    assert "/" not in text
    assert str(folder) in reports[0].error  # for the log


def test_absolute_paths_are_shortened_and_nothing_else_is() -> None:
    said = "a/b of '/var/lib/x/model.onnx': /etc/y.pem is no file; see https://a/b or int16 / float"
    found = for_peer(said, None)
    assert found == "a/b of 'model.onnx': y.pem is no file; see https://a/b or int16 / float"

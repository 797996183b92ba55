"""The viewer's web server: what it answers, and whom it does not."""

import contextlib
import http.client
import json
import socket
import threading

import numpy as np
import pytest
import viewer_samples

from edge_codec.errors import SourceError
from edge_codec.runtime.viewer import frame_store
from edge_codec.runtime.viewer import server as server_module
from edge_codec.runtime.viewer.library import Library
from edge_codec.runtime.viewer.packed_frame import unpack_frame
from edge_codec.runtime.viewer.server import ASSETS, ViewerServer

CINE = viewer_samples.cine()
TIMEOUT_S = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "a.ecd"
    path.write_bytes(viewer_samples.stream(CINE)[0])
    with ViewerServer(Library(path)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(TIMEOUT_S)


def get(server, path, host=None, method="GET"):
    """Return (status, headers, body) of a request."""
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.putrequest(method, path, skip_host=True)
        for value in [f"127.0.0.1:{port}"] if host is None else host:
            connection.putheader("Host", value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def inside(server, path):
    return get(server, f"/{server.token}/{path}")


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(server):
    for name, (_, kind) in ASSETS.items():
        status, headers, body = inside(server, name)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert body
        assert b"http://" not in body
        assert b"https://" not in body
    page = inside(server, "")[2]
    assert b"Research use only, not for diagnosis" in page
    assert b"<style" not in page
    assert b"style=" not in page


def test_modules_import_only_what_is_served(server):
    for name in ASSETS:
        if name.endswith(".js"):
            text = inside(server, name)[2].decode()
            for part in text.split(' from "./')[1:]:
                assert part.split('"')[0] in ASSETS


@pytest.mark.parametrize("path", ["", "viewer.js", "api/state?stream=0&since=0", "nothing"])
def test_every_answer_has_the_headers_of_security(server, path):
    assert_secure(inside(server, path)[1])


def assert_secure(headers):
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Python" not in headers["Server"]


def test_frames_and_state(server):
    state = json.loads(inside(server, "api/state?stream=0&since=2")[2])
    assert state["streams"] == ["a.ecd"]
    assert len(state["rows"]) == 12
    assert len(state["rows"][0]) == len(state["fields"])
    status, headers, body = inside(server, "api/frame?stream=0&slice=1&phase=5&what=whole")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    np.testing.assert_array_equal(unpack_frame(body), CINE.voxels[1, 5])


def test_the_reason_of_a_refusal_reaches_the_page(server):
    status, _, body = inside(server, "api/frame?stream=0&slice=1&phase=99&what=whole")
    assert status == 422
    assert "phase 99 is not in the stream" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/", "/wrong/", "//", "/wrong/api/state?stream=0&since=0", "/favicon.ico", "/%00/",
        "/../../etc/passwd", "/{token}", "/{token}x/", "/{token}/nothing",
        "/{token}/../a.ecd", "/{token}/a.ecd", "/{token}/static/viewer.js", "/{token}/server.py",
        "/{token}/..%2fserver.py", "/{token}//etc/passwd", "/{token}/api/frame/../../x",
        "/{token}/viewer.js?x=1", "/{token}/%2e%2e/a.ecd",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server, path):
    status, _, body = get(server, path.format(token=server.token))
    assert status in (400, 404)
    assert body in (b"Not Found", b"Bad Request")


@pytest.mark.parametrize(
    "query",
    [
        "", "stream=0", "stream=-1&since=0", "stream=0&since=1e3", "stream=0&since=9999999999",
        "stream=0&stream=1&since=0", "stream=0&since=%2e", "stream=0&since=\u00b2",
        "&".join(f"a{i}=1" for i in range(50)),
    ],
)  # fmt: skip
def test_bad_queries(server, query):
    path = f"/{server.token}/api/state?" + query.encode("latin-1").decode("latin-1")
    with socket.create_connection(server.server_address, TIMEOUT_S) as connection:
        port = server.server_address[1]
        text = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(text.encode("latin-1"))
        assert connection.makefile("rb").readline().split()[1] == b"400"


def test_names_that_somebody_pointed_here_are_refused(server):
    port, path = server.server_address[1], f"/{server.token}/"
    for good in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert get(server, path, [good])[0] == 200
    bad = (
        "evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}", "127.0.0.1",
        f"127.0.0.1:{port + 1}", f"user@127.0.0.1:{port}", f"10.0.0.1:{port}", "", f":{port}",
        f"127.0.0.1:{port}/x", "[", f"127.0.0.1:{port}, evil.example",
    )  # fmt: skip
    for host in bad:
        assert get(server, path, [host])[0] == 421, host
    assert get(server, path, [])[0] == 421
    assert get(server, path, [f"127.0.0.1:{port}"] * 2)[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_reading_only(server, method):
    status, headers, _ = get(server, f"/{server.token}/", method=method)
    assert status == 501
    assert headers["Connection"] == "close"
    assert_secure(headers)


@pytest.mark.parametrize(
    "data",
    [b"\r\n\r\n", b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n"],
)  # fmt: skip
def test_garbage_harms_only_its_connection(server, data):
    with socket.create_connection(server.server_address, TIMEOUT_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:  # it closed before it had read all
            answer = b""
        assert b" 200 " not in answer
    assert inside(server, "")[0] == 200


@contextlib.contextmanager
def serving(path):
    path.write_bytes(viewer_samples.stream(CINE)[0])
    with ViewerServer(Library(path)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(TIMEOUT_S)


def test_silent_connections_make_room_and_those_with_the_token_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with serving(tmp_path / "a.ecd") as server, contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(socket.create_connection(server.server_address, TIMEOUT_S))

        def ask(connection):
            request = f"GET /{server.token}/ HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n"
            connection.sendall(request.encode() + b"\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
            return answer.status

        page = connect()
        assert ask(page) == 200
        silent = [connect() for _ in range(5)]
        assert [connection.recv(1) for connection in silent[:4]] == [b""] * 4
        assert ask(page) == 200  # the oldest of all, and known
        assert ask(silent[4]) == 200
        assert connect().recv(1) == b""  # all that are there have the token
        assert ask(page) == ask(silent[4]) == 200


def dripped(connection):
    """Send one more byte; whether the other side has closed."""
    try:
        connection.sendall(b"b")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True


def test_a_request_that_drips_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_S", 0.3)
    with serving(tmp_path / "a.ecd") as server:
        with socket.create_connection(server.server_address, TIMEOUT_S) as connection:
            connection.settimeout(0.05)
            connection.sendall(b"GET / HTTP/1.1\r\nA: ")
            assert any(dripped(connection) for _ in range(200))
        assert inside(server, "")[0] == 200


def test_a_frame_that_takes_long_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_store, "WORK_S", 0.0)
    with serving(tmp_path / "a.ecd") as server:
        inside(server, "api/state?stream=0&since=0")
        path = "api/frame?stream=0&slice=1&phase=5&what=whole"
        for decoded in (1, 2):
            status, headers, body = inside(server, path)
            assert (status, headers["Content-Type"]) == (202, "application/json")
            assert json.loads(body) == {"decoded": decoded, "frames": 3}
        status, _, body = inside(server, path)
        assert status == 200
        np.testing.assert_array_equal(unpack_frame(body), CINE.voxels[1, 5])


def test_no_answer_holds_what_is_no_json():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            server_module._json({"value": value})


def test_tokens_differ_and_a_given_one_is_used(tmp_path):
    path = tmp_path / "a.ecd"
    path.write_bytes(viewer_samples.stream(CINE)[0])
    with ViewerServer(Library(path)) as one, ViewerServer(Library(path)) as two:
        assert one.token != two.token
        assert len(one.token) >= 32
        with pytest.raises(SourceError, match="cannot listen"):
            ViewerServer(Library(path), port=one.server_address[1])
    with ViewerServer(Library(path), token="a/b?c#d%e+fghijklmn") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        assert get(server, "/" + server.url.split("/", 3)[3])[0] == 200
        server.shutdown()
        thread.join(TIMEOUT_S)


@pytest.mark.parametrize("port", [-1, 70000])
def test_impossible_ports(tmp_path, port):
    (tmp_path / "a.ecd").write_bytes(viewer_samples.stream(CINE)[0])
    with pytest.raises(SourceError, match="cannot listen"):
        ViewerServer(Library(tmp_path / "a.ecd"), port=port)

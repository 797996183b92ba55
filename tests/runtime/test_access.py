import socket
import ssl
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_files import make_certificate

from edge_codec.errors import EdgeCodecError, SpecError
from edge_codec.runtime import access as access_module
from edge_codec.runtime.access import (
    Access,
    check_listen,
    client_context,
    is_loopback,
    load_token,
    parse_address,
    prove,
    same_proof,
    same_token,
    server_context,
)

TOKEN = "0123456789abcdef"


def token_file(folder, text, mode=0o600):
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_token_without_the_white_space_around_it(tmp_path):
    assert load_token(token_file(tmp_path, f"  {TOKEN}\n")) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602])
def test_token_that_others_may_read_or_write_is_refused(tmp_path, mode):
    with pytest.raises(SpecError, match="chmod 600"):
        load_token(token_file(tmp_path, TOKEN, mode))


@pytest.mark.parametrize("text", ["", "short", TOKEN[:15], "a b" * 10, "ä" * 20, "x" * 1025])
def test_what_is_no_token_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match="16 to 1024"):
        load_token(token_file(tmp_path, text))


def test_missing_token_file_says_how_to_make_one(tmp_path):
    with pytest.raises(SpecError, match="openssl rand"):
        load_token(tmp_path / "none")


def test_same_token():
    assert same_token(TOKEN.encode(), Access(TOKEN))
    assert not same_token(TOKEN.encode() + b"x", Access(TOKEN))
    assert not same_token(b"", Access(TOKEN))
    assert same_token(b"anything", Access())


def test_proofs_depend_on_everything_that_goes_in():
    proof = prove(b"secret", b"label", b"ab", b"c")
    others = [
        prove(b"secreu", b"label", b"ab", b"c"),
        prove(b"secret", b"labem", b"ab", b"c"),
        prove(b"secret", b"label", b"a", b"bc"),
        prove(b"secret", b"label", b"abc"),
    ]
    assert same_proof(proof, prove(b"secret", b"label", b"ab", b"c"))
    assert len(proof) == 32
    assert not any(same_proof(proof, other) for other in others)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    check_listen(host, Access())


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "192.168.0.7", "10.0.0.1", "example.org", "fe80::1", "128.0.0.1"]
)
def test_elsewhere_needs_a_token(host):
    with pytest.raises(SpecError, match=r"--token-file.*127\.0\.0\.1"):
        check_listen(host, Access())
    check_listen(host, Access(TOKEN))


@pytest.mark.parametrize("addresses", [[], ["192.168.0.7"], ["127.0.0.1", "192.168.0.7"]])
def test_localhost_that_is_not_only_loopback_needs_a_token(monkeypatch, addresses):
    found = [(socket.AF_INET, 1, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(access_module.socket, "getaddrinfo", lambda *_: found)
    assert not is_loopback("localhost")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:0", ("::1", 0)),
        (":9002", ("", 9002)),
        ("scanner.local:65535", ("scanner.local", 65535)),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "::1:80",
        "h:-1",
        "a..b:80",
        f"{'a' * 64}:80",
        "a\0:80",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(SpecError, match="HOST:PORT"):
        parse_address(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text):
    try:
        host, port = parse_address(text)
    except EdgeCodecError:
        return
    assert 0 <= port <= 65535
    assert text.endswith(str(port)) or text.rpartition(":")[2].lstrip("0") in ("", str(port))
    assert host in text


def test_tls_contexts_demand_1_2_and_verify(tmp_path):
    cert, key = make_certificate(tmp_path)
    server, client = server_context(cert, key), client_context(cert)
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert client.verify_mode == ssl.CERT_REQUIRED
    assert client.check_hostname
    assert client_context().check_hostname


def test_files_that_are_no_certificates_are_refused(tmp_path):
    cert, key = make_certificate(tmp_path)
    (other := tmp_path / "other").mkdir()
    other_cert, other_key = make_certificate(other)
    none = tmp_path / "none.pem"
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for wrong in ((cert, other_key), (none, key), (text, key), (cert, text)):
        with pytest.raises(SpecError, match="pass phrase"):
            server_context(*wrong)
    for wrong in (none, text):
        with pytest.raises(SpecError, match="give PEM"):
            client_context(wrong)
    assert other_cert.exists()


def test_key_with_a_pass_phrase_is_refused_and_does_not_wait_for_one(tmp_path):
    cert, key = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:hello", "-out", locked],
        check=True,
        capture_output=True,
    )
    with pytest.raises(SpecError, match="pass phrase"):
        server_context(cert, locked)

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from edge_codec.commands.listening import open_access, open_telemetry
from edge_codec.errors import SpecError


def given(**values: object) -> argparse.Namespace:
    names = ("token_file", "tls_cert", "tls_key", "metrics_port", "telemetry")
    return argparse.Namespace(**{**dict.fromkeys(names), **values})


def test_certificate_and_key_come_together() -> None:
    for name in ("tls_cert", "tls_key"):
        with pytest.raises(SpecError, match="both --tls-cert and --tls-key"):
            open_access(given(**{name: Path("x")}))


def test_a_token_is_read_and_tls_is_off_without_a_certificate(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef-token\n")
    access = open_access(given(token_file=token))
    assert access.token == "0123456789abcdef-token"
    assert access.server_tls is None
    assert open_access(given()).token is None


def test_telemetry_is_what_was_asked_for(tmp_path: Path) -> None:
    assert open_telemetry(given()) is None
    telemetry = open_telemetry(given(telemetry=tmp_path / "a.jsonl"), io.StringIO())
    assert telemetry is not None
    telemetry.close()
    assert (tmp_path / "a.jsonl").exists()

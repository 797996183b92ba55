"""A certificate for 127.0.0.1 and its key, made on the spot: no key is ever checked in."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def make_certificate(folder):
    """Make a self-signed certificate; return its path and that of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, and makes the certificate of this test")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=edge-codec test", "-keyout", key, "-out", cert,
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key

"""What the commands that listen have in common: who may come in, and figures of what comes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from edge_codec.runtime.access import Access
    from edge_codec.runtime.telemetry.output import Output
    from edge_codec.runtime.telemetry.telemetry import Telemetry


def add_access_options(parser: argparse.ArgumentParser, who: str) -> None:
    """Declare what `open_access` reads, and who must show the token."""
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"{who} this token")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS: certificate")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")


def add_telemetry_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `open_telemetry` reads."""
    parser.add_argument(
        "--metrics-port", type=int, metavar="P", help="figures for Prometheus, on this machine"
    )
    parser.add_argument(
        "--telemetry", type=Path, metavar="FILE", help="append figures as lines of JSON"
    )


def open_access(options: argparse.Namespace) -> Access:
    """Read what `--token-file`, `--tls-cert` and `--tls-key` name.

    Raises
    ------
    SpecError
        If a file cannot be read, or certificate and key are not given together.
    """
    from edge_codec.errors import SpecError
    from edge_codec.runtime.access import Access, load_token, server_context

    if (options.tls_cert is None) != (options.tls_key is None):
        raise SpecError("TLS needs both --tls-cert and --tls-key")
    token = None if options.token_file is None else load_token(options.token_file)
    if options.tls_cert is None:
        return Access(token)
    return Access(token, server_context(options.tls_cert, options.tls_key))


def open_telemetry(options: argparse.Namespace, terminal: TextIO | None = None) -> Telemetry | None:
    """Open what `--telemetry` and `--metrics-port` ask for, and a view in a terminal if given one.

    Returns
    -------
    Telemetry or None
        None where nothing is asked for.
    """
    if options.metrics_port is None and options.telemetry is None and terminal is None:
        return None
    from edge_codec.runtime.telemetry.output import JsonLines
    from edge_codec.runtime.telemetry.telemetry import Telemetry

    outputs: list[Output] = []
    if options.telemetry is not None:
        outputs.append(JsonLines(options.telemetry))
    if options.metrics_port is not None:
        from edge_codec.runtime.telemetry.prometheus import PrometheusEndpoint

        outputs.append(PrometheusEndpoint(options.metrics_port))
    if terminal is not None:
        from edge_codec.runtime.telemetry.terminal import TerminalView

        outputs.append(TerminalView(terminal))
    return Telemetry(outputs=outputs)

"""`edge-codec view`: streams in the browser, recorded or growing."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_codec.errors import SourceError
from edge_codec.exit_status import ExitStatus

if TYPE_CHECKING:
    from edge_codec.cli import Console


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", type=Path, help="a stream, .ecd, or a folder of streams such as serve writes"
    )
    parser.add_argument(
        "--original",
        type=Path,
        metavar="FILE",
        help="what the stream was made of (NIfTI, DICOM, npy), to be shown beside it",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="secret part of the page's address, needed beyond loopback; drawn at random without",
    )
    parser.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help="of the model's network, as decompress"
    )


def run(options: argparse.Namespace, console: Console) -> ExitStatus:
    """Serve the page until interrupted."""
    from edge_codec.runtime.access import Access, check_listen, load_token
    from edge_codec.runtime.viewer.library import Library
    from edge_codec.runtime.viewer.server import ViewerServer

    token = None if options.token_file is None else load_token(options.token_file)
    check_listen(options.host, Access(token))
    library = Library(options.source, options.original, options.backend)
    with ViewerServer(library, options.host, options.port, token) as server:
        print(server.url, file=console.out, flush=True)
        print("edge-codec: Ctrl-C ends the viewer", file=console.err)
        opened = contextlib.nullcontext() if options.no_open else _opened(server.url)
        try:
            with opened:
                server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return ExitStatus.OK
    return ExitStatus.OK


@contextlib.contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open a browser by a file that leads to the page.

    Every user of the machine can read the command line of a browser; the address holds the token.
    The file can be read by its owner alone, and is there until the viewer ends.

    Raises
    ------
    SourceError
        If the file cannot be made.
    """
    import html
    import tempfile
    import webbrowser

    text = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">'
        f'<a href="{html.escape(url)}">edge-codec viewer</a>\n'
    )
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="edge-codec-", ignore_cleanup_errors=True)
            )
            path = Path(folder, "viewer.html")
            path.touch(0o600)
            path.write_text(text)
        except OSError as error:
            raise SourceError(
                f"no temporary file can be made for the browser ({error.strerror}); use --no-open "
                "and open the printed address"
            ) from error
        webbrowser.open(path.as_uri())
        yield

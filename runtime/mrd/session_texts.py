"""What a session says to its peer, and what it leaves out: tokens, folders of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from edge_codec.runtime.mrd.protocol import (
    CONFIG_FILE_BYTES,
    TEXT_SIZE,
    AnyMessage,
    Message,
    MessageId,
)

TOKEN = re.compile(rb";token=([!-~]+)")
_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^\s/:;,'\"]+/)+")  # of an absolute path


def for_peer(error: str, folder: Path | None) -> str:
    """Return an error without the folders of this machine, which are no business of a peer's."""
    if folder is not None:
        error = error.replace(f"{folder}/", "")
    return _FOLDERS.sub("", error)


def out_of_order(message: AnyMessage | None, expected: str) -> str:
    """Say what came where something else was due; None: the peer hung up."""
    if message is None:
        return f"the peer hung up; expected {expected}"
    return (
        f"a message of id {int(message.ident)} ({message.ident.name.lower()}) came where "
        f"{expected} was expected"
    )


def without_token(config: Message) -> Message:
    """Return a config message as it may be stored."""
    if config.ident is MessageId.CONFIG_FILE:
        body = TOKEN.sub(b"", config.body)
        return Message(config.ident, body.ljust(CONFIG_FILE_BYTES, b"\0"))
    body = TOKEN.sub(b"", config.body[TEXT_SIZE.size :])
    return Message(config.ident, TEXT_SIZE.pack(len(body)) + body)

"""Exit statuses of the command line."""

from __future__ import annotations

from enum import IntEnum

from edge_codec.errors import BitstreamError, EdgeCodecError, EngineError


class ExitStatus(IntEnum):
    """What the process returns."""

    OK = 0
    DEFECT = 1  # an error nobody foresaw, with a traceback: report it
    USAGE = 2  # argparse's own
    INPUT = 3  # the source, the target or the options do not fit
    DAMAGED = 4  # the stream is damaged, truncated or hostile
    ENGINE = 5  # backend or model files
    RECOVERED = 6  # a damaged stream was decoded as far as it goes
    UNVERIFIED = 7  # bench: a codec failed, or did not keep its promise
    INTERRUPTED = 130  # 128 + SIGINT, as shells do


def status_of(error: EdgeCodecError) -> ExitStatus:
    """Return the exit status that an error ends the process with."""
    if isinstance(error, BitstreamError):
        return ExitStatus.DAMAGED
    if isinstance(error, EngineError):
        return ExitStatus.ENGINE
    return ExitStatus.INPUT

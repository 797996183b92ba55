"""The command line: `edge-codec <command>`.

Commands are named here as strings and imported when chosen, so that `--help` is quick and no
command pays for another's imports.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from edge_codec import __version__
from edge_codec.errors import EdgeCodecError
from edge_codec.exit_status import ExitStatus, status_of

COMMANDS = {
    "compress": "NIfTI, DICOM or npy into an .ecd stream",
    "decompress": "an .ecd stream back into NIfTI, DICOM or npy",
    "info": "what a stream holds and promises",
    "verify": "check every byte of a stream",
    "search": "the frames, slices or exams of a folder most like a given one, by tokens alone",
    "serve": "take frames from a scanner (MRD over TCP), code them live, answer, store, forward",
    "send": "send a cine to a server as a scanner would, and check what comes back",
    "receive": "take packets that a server forwards, and store them",
    "view": "look at streams in the browser, recorded or live",
    "build": "engines for GPUs: ours, and TensorRT's",
    "calibrate": "a float ONNX network into an exact integer one",
    "data": "patient folders into shards to train from, checked and listed",
    "doctor": "what this machine can do, and what to install for more",
    "bench": "measure this codec and its peers on your volumes",
    "evaluate": "segmentation, volumes, ejection fraction and motion of decoded frames",
}

EPILOG = """\
examples:
  edge-codec compress heart.nii.gz heart.ecd
  edge-codec compress heart.nii.gz heart.ecd --max-error 2
  edge-codec decompress heart.ecd back.nii.gz
  edge-codec info heart.ecd --json
  edge-codec bench rd heart.nii.gz --out results
  edge-codec bench latency heart.nii.gz --rate 30 --frames 900
"""


@dataclass(frozen=True)
class Console:
    """Where a command reads from and writes to, so that tests can run it in process."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)


def main(argv: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run one command and return its exit status."""
    if console is None:
        # A polite kill must clean up as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        console = Console()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse printed help or a usage error
        return int(stop.code or 0)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="edge-codec: %(message)s",
        stream=console.err,
        force=True,
    )
    try:
        return int(options.run(options, console))
    except BrokenPipeError:  # the reader of our output has gone; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitStatus.OK)
    except EdgeCodecError as error:
        return _fail(console, str(error), status_of(error))
    except (OSError, MemoryError) as error:
        return _fail(console, f"{type(error).__name__}: {error}", ExitStatus.INPUT)
    except KeyboardInterrupt:
        return _fail(console, "interrupted", ExitStatus.INTERRUPTED)
    except Exception:
        traceback.print_exc(file=console.err)
        return _fail(console, "this is a defect; please report the lines above", ExitStatus.DEFECT)


def _fail(console: Console, message: str, status: ExitStatus) -> int:
    print("edge-codec:", " ".join(message.split()), file=console.err)
    return int(status)


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """Build the parser; only the chosen command's module is imported."""
    parser = argparse.ArgumentParser(
        prog="edge-codec",
        description="Neural codec for cardiac cine MRI. For research use only, no medical device.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-codec {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    chosen = next((word for word in arguments if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--verbose", action="store_true", help="say what is done on stderr")
        if name == chosen:
            module = importlib.import_module(f"edge_codec.commands.{name}")
            module.register(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())

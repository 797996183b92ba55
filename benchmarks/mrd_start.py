"""From the start of the process `edge-codec serve` to its first answered image.

    python -m benchmarks.mrd_start --runs 10 [--results benchmarks/results/mrd.jsonl]

The image is one of 256x256 from the sample; the client waits for the server's line on stdout, then
connects. The server's measurement of what the machine holds is part of its start.
"""

from __future__ import annotations

import argparse
import queue
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.demo import SAMPLE
from benchmarks.record import append_record, describe_machine, percentiles
from edge_codec.io import open_source
from edge_codec.runtime.access import parse_address
from edge_codec.runtime.mrd.client import MrdClient
from edge_codec.runtime.mrd.protocol import AnyMessage, ImageMessage
from edge_codec.runtime.mrd.scanner import scanner_images, xml_header

PROFILES = {
    "lossless": [],
    "vqvae lossless": ["--model", "vqvae", "--lossless"],
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results" / "mrd.jsonl"
    )
    options = parser.parse_args()
    source = open_source(SAMPLE)
    image, xml = next(scanner_images(source)), xml_header(source.info)
    machine = describe_machine()
    for profile, arguments in PROFILES.items():
        runs = [measure(image, xml, arguments) for _ in range(options.runs)]
        listening, answered = zip(*runs, strict=True)
        row = {
            "profile": profile,
            "unit": "s",
            "listening": percentiles(listening),
            "first_answer": {**percentiles(answered), "max": max(answered)},
        }
        print(row, flush=True)
        append_record(options.results, "mrd_start", row, machine)


def measure(image: ImageMessage, xml: bytes, arguments: list[str]) -> tuple[float, float]:
    """Return seconds until the server listens, and until its first answer is here."""
    answers: queue.Queue[AnyMessage] = queue.Queue()
    start = time.monotonic()
    command = [sys.executable, "-m", "edge_codec", "serve", "--listen", "127.0.0.1:0", "--once"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise SystemExit("no output of the server")
        address = parse_address(process.stdout.readline().split()[-1])
        listening = time.monotonic() - start
        with MrdClient(address, lambda message, _: answers.put(message)) as client:
            client.begin(xml)
            client.send(image)
            answer = answers.get(timeout=60)
            answered = time.monotonic() - start
            client.finish()
    if not isinstance(answer, ImageMessage) or answer.voxels[:] != image.voxels:
        raise SystemExit("the first answer is not the image")
    return listening, answered


if __name__ == "__main__":
    main()

"""README's tables of coding with loss, from the records of `edge-codec bench rd`.

The records are `benchmarks/results/rd_lossy.jsonl`; `benchmarks.report` prints the tables, and a
test compares them with what README shows. Fields of view and crops stand in rows of their own.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.markdown import table
from edge_codec.bench.rd.difference import HEART, PSNR, Curve, curves, differences
from edge_codec.bench.rd.records import Records
from edge_codec.metrics.rate import quality_at, rate_at

RESULTS = Path(__file__).parent / "results" / "rd_lossy.jsonl"
LIVE, ARCHIVE = "edge-codec-dwt-cal-best", "edge-codec-dwt-cal-archive"
INSTANT = f"{LIVE}-no-look-ahead"
LEARNED = "edge-codec-dwt-cal-vae"
# Ours, and whom it is compared with.
PAIRS = (
    (LIVE, "x265-low-delay"),
    (LIVE, "x265-low-delay-untuned"),
    (LIVE, "svt-av1-low-delay"),
    (INSTANT, "x265-low-delay"),
    (INSTANT, "svt-av1-low-delay"),
    (ARCHIVE, "svt-av1-random-access"),
    (LEARNED, "x265-low-delay"),
)
COMPARED = ("x265-low-delay", "svt-av1-low-delay", LEARNED, LIVE, "svt-av1-random-access",
            ARCHIVE)  # fmt: skip
QUALITIES_DB = (36.0, 40.43, 45.0)
LOW_RATE_BPP = 0.016  # a thousandth of 16 bits


def differences_table(records: Records) -> str:
    """Return BD-rates of ours against each peer, by PSNR of all voxels and of the heart."""
    head = ["case", *(f"{_short(ours)} against {peer}" for ours, peer in PAIRS)]
    body = []
    for case in records.cases:
        results = records.results(case["case"])
        cells = []
        for ours, peer in PAIRS:
            found = {
                (item.codec, item.measure): item.found.rate_percent
                for item in differences(results, peer, ())
            }
            cells.append(" / ".join(_percent(found.get((ours, name))) for name in (PSNR, HEART)))
        body.append([_title(case["case"]), *cells])
    return table(head, body)


def points_table(records: Records) -> str:
    """Return the bits per voxel that each codec needs for some qualities."""
    head = ["case", "PSNR", *(_short(name) for name in COMPARED)]
    body = []
    for case in records.cases:
        found = curves(records.results(case["case"]))
        for quality in QUALITIES_DB:
            rates = [rate_at(found.get(name, []), quality) for name in COMPARED]
            if any(rate is not None for rate in rates):
                cells = ("-" if rate is None else f"{rate:.4f}" for rate in rates)
                body.append([_title(case["case"]), f"{quality:g} dB", *cells])
    return table(head, body)


def low_rate_table(records: Records, case: str) -> str:
    """Return what each codec reaches at a thousandth of 16 bits."""
    results = records.results(case)
    qualities, similarities = curves(results), curves(results, "ssim")
    body = []
    for name in COMPARED:
        quality = _at_low_rate(qualities.get(name, []))
        similarity = _at_low_rate(similarities.get(name, []))
        if quality is not None and similarity is not None:
            body.append([_short(name), f"{quality:.2f} dB", f"{similarity:.4f}"])
    return table([f"{_title(case)}, {LOW_RATE_BPP} bits per voxel", "PSNR", "SSIM"], body)


def tables() -> tuple[str, ...]:
    """Return all of README's tables of coding with loss."""
    records = Records.read(RESULTS)
    return (
        differences_table(records),
        points_table(records),
        low_rate_table(records, "SCD0000301_4d"),
    )


def _at_low_rate(curve: Curve) -> float | None:
    return quality_at(curve, LOW_RATE_BPP)


def _short(codec: str) -> str:
    return codec.removeprefix("edge-codec-")


def _title(case: str) -> str:
    name, mark, _ = case.partition("-heart")
    return name.removesuffix("_4d") + (", heart crop" if mark else "")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def main() -> None:
    """Print the tables."""
    print(*tables(), sep="\n\n")


if __name__ == "__main__":
    main()

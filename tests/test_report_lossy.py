"""README's tables of coding with loss, from made-up records."""

from benchmarks import report_lossy
from edge_codec.bench.rd.measure import Figures, Result
from edge_codec.bench.rd.records import Records

RATES = (0.01, 0.02, 0.04, 0.08)
DECIBELS = (34.0, 38.0, 42.0, 46.0)  # 4 dB for each doubling


def made(**factors):
    """Return records of two cases whose curves are the same but for a factor on the rate."""
    records = Records()
    records.start({"threads": 1})
    for case in ("heart_4d", "heart_4d-heart"):
        records.add_case({"case": case})
        for codec, factor in factors.items():
            for rate, quality in zip(RATES, DECIBELS, strict=True):
                figures = Figures(
                    1, rate * factor, 1.0, quality, None, None, quality - 2, quality / 50, 1, 1.0,
                    1.0, "frame",
                )  # fmt: skip
                name = codec.replace("_", "-")
                records.add_result(
                    Result(case, name, f"at {rate}", "lossy", None, 1, "ok", figures=figures)
                )
    return records


RECORDS = made(x265_low_delay=1, svt_av1_low_delay=2, edge_codec_dwt_cal_best=0.5)


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_fields_of_view_and_crops_have_rows_of_their_own():
    head, _, whole, crop = rows(report_lossy.differences_table(RECORDS))
    assert head[:2] == ["case", "dwt-cal-best against x265-low-delay"]
    assert (whole[0], crop[0]) == ("heart", "heart, heart crop")
    # Not measured: the peer without tuning, ours without looking ahead, archive and network.
    assert whole[1:4] == ["-50.0 % / -50.0 %", "- / -", "-75.0 % / -75.0 %"]
    assert whole[4:] == ["- / -"] * 4


def test_rates_at_a_quality_lie_between_those_measured():
    head, _, first, *_ = rows(report_lossy.points_table(RECORDS))
    line = dict(zip(head, first, strict=True))
    assert line["PSNR"] == "36 dB"
    assert line["x265-low-delay"] == f"{0.01 * 2**0.5:.4f}"
    assert line["dwt-cal-best"] == f"{0.005 * 2**0.5:.4f}"
    assert line["dwt-cal-archive"] == "-"


def test_a_thousandth_of_16_bits():
    _, _, *lines = rows(report_lossy.low_rate_table(RECORDS, "heart_4d"))
    found = {name: (quality, similarity) for name, quality, similarity in lines}
    assert found["dwt-cal-best"] == ("40.71 dB", "0.8142")  # 0.016 = 0.005 * 2**1.678
    assert "svt-av1-low-delay" not in found  # its curve begins above

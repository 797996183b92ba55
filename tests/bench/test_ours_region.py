"""Our codec with a region of interest on the bench: the streams that `compress` writes."""

import numpy as np
import pytest

from edge_codec.bench.rd import ours
from edge_codec.bench.rd.codecs import choose
from edge_codec.runtime.base_rate import BaseRate
from edge_codec.runtime.files import compress_file
from edge_codec.runtime.options import CompressOptions
from edge_codec.spec import Effort, ModelId

QUALITY = 24
NAMES = {
    "edge-codec-dwt-cal-roi": {},
    "edge-codec-dwt-cal-archive-roi": {"archive": True, "effort": Effort.BEST},
}


def coded(case, name, quality=QUALITY):
    (codec,) = choose([name])
    trials = {trial.setting: trial for trial in codec.trials(1)}
    return trials[f"quality {quality}"].code(case)


@pytest.mark.parametrize("name", NAMES)
def test_streams_are_those_of_compress(name, heart_case, heart_file, tmp_path):
    for roi in ({"roi": "heart", "roi_gain": ours.HEART_GAIN}, {}):
        options = CompressOptions(
            ModelId.DWT_CAL, None, rate=BaseRate(QUALITY), threads=1, **NAMES[name], **roi
        )
        compress_file(heart_file, tmp_path / f"{len(roi)}.ecd", options)
    size = (tmp_path / "2.ecd").stat().st_size
    assert size > (tmp_path / "0.ecd").stat().st_size  # there is a heart, coded more finely
    assert coded(heart_case, name).stream_bytes == size


def test_an_exam_without_a_heart_is_coded_without_a_region(make_case):
    rows = np.arange(48, dtype=np.int16)
    case = make_case(np.broadcast_to(rows[:, None] + rows, (1, 2, 48, 48)).copy(), "no_heart")
    found = coded(case, "edge-codec-dwt-cal-roi")
    plain = coded(case, "edge-codec-dwt-cal")
    assert found.stream_bytes == plain.stream_bytes
    np.testing.assert_array_equal(found.voxels, plain.voxels)


def test_the_network_looks_at_an_exam_once(make_case, heart, monkeypatch):
    calls = []

    def find(*arguments):
        calls.append(arguments)
        return find_region(*arguments)

    find_region = ours.find_region
    monkeypatch.setattr(ours, "find_region", find)
    case = make_case(heart, "once")
    coded(case, "edge-codec-dwt-cal-roi", 12)
    coded(case, "edge-codec-dwt-cal-roi", 18)
    assert len(calls) == 1
    coded(make_case(heart + 1, "other"), "edge-codec-dwt-cal-roi", 12)
    assert len(calls) == 2

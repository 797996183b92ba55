"""Every codec, for real, on a small crop of a real heart."""

import importlib.util
import pickle
import subprocess
import sys
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest

from edge_codec.bench.rd import peers_video
from edge_codec.bench.rd.codecs import all_codecs, choose, library_versions, trials
from edge_codec.bench.rd.levels import Levels
from edge_codec.bench.rd.measure import NOT_APPLICABLE, OK, SKIPPED, measure
from edge_codec.bench.rd.trial import NotApplicableError, Tier, UnavailableError
from edge_codec.errors import EngineError, SpecError
from edge_codec.runtime.files import compress_file
from edge_codec.runtime.options import CompressOptions

CODECS = all_codecs()
# imagecodecs' last version for Python 3.10 has no HTJ2K; there its codecs are skipped, and say so.
BUILT = [name for name in CODECS if hasattr(imagecodecs, "HTJ2K") or "htj2k" not in name]
PLAIN = [name for name in BUILT if f"{name}-difference" in CODECS]


def results(case, name, threads=1):
    codec = CODECS[name]
    return [measure(case, codec, trial) for trial in codec.trials(threads)]


def first(case, name):
    """Measure a codec's first setting alone."""
    return measure(case, CODECS[name], CODECS[name].trials(1)[0])


@pytest.fixture(scope="module")
def measured(heart_case):
    """Return a function: codec -> its results, each codec run once."""
    known = {}

    def find(name):
        if name not in known:
            known[name] = results(heart_case, name)
        return known[name]

    return find


@pytest.mark.parametrize("name", BUILT)
def test_every_setting_is_verified(name, measured, capfd):
    found = measured(name)
    assert found
    assert len({result.setting for result in found}) == len(found)
    for result in found:
        assert result.status == OK, (result.setting, result.reason)
        assert result.figures.encode_ms > 0
        assert result.figures.decode_ms > 0
        if result.tier == Tier.LOSSLESS.value:
            assert (result.promised_max_error, result.figures.max_error) == (0, 0)
        if result.tier == Tier.BOUNDED.value:
            assert 0 < result.figures.max_error <= result.promised_max_error
    assert capfd.readouterr() == ("", "")  # no library talks


@pytest.mark.parametrize(
    "name", [name for name in BUILT if len(CODECS[name].trials(1)) > 4]
)  # fmt: skip
def test_settings_come_by_falling_rate(name, measured):
    lossy = [r.figures for r in measured(name) if r.tier != Tier.LOSSLESS.value]
    assert [f.bpp for f in lossy] == sorted((f.bpp for f in lossy), reverse=True)


@pytest.mark.parametrize("name", PLAIN)
def test_the_difference_variant_costs_a_byte_a_frame_at_most(name, measured, heart_case):
    plain = {r.setting: r.figures.stream_bytes for r in measured(name)}
    frames = heart_case.voxels.shape[0] * heart_case.voxels.shape[1]
    for result in measured(f"{name}-difference"):
        assert result.figures.stream_bytes <= plain[result.setting] + frames


def test_a_still_cine_gains_from_the_difference(make_case, heart):
    case = make_case(np.repeat(heart[:1, :1], 4, axis=1))
    plain, differing = first(case, "jpeg-ls"), first(case, "jpeg-ls-difference")
    assert (plain.status, differing.status) == (OK, OK)
    assert differing.figures.stream_bytes < plain.figures.stream_bytes / 3


@pytest.mark.parametrize("name", ["edge-codec", "x265-low-delay", "jpeg-xl"])
def test_two_threads_are_stated(name, heart_case):
    trial = CODECS[name].trials(2)[0]
    result = measure(heart_case, CODECS[name], trial)
    assert (result.status, result.threads) == (OK, 2)


def test_our_size_is_that_of_the_file(heart_file, heart_case, tmp_path):
    compress_file(heart_file, tmp_path / "heart.ecd", CompressOptions(max_error=2, threads=1))
    result = next(r for r in results(heart_case, "edge-codec") if r.promised_max_error == 2)
    assert result.figures.stream_bytes == (tmp_path / "heart.ecd").stat().st_size


@pytest.mark.parametrize("voxels", ["signed", "bytes", "sixteen bits"])
def test_other_ranges_of_values(voxels, heart, make_case):
    wide = heart[:1, :2].astype(np.int32)
    case = make_case(
        {
            "signed": (wide - 100).astype(np.int16),
            "bytes": (wide // 4).astype(np.uint8),
            "sixteen bits": (wide * 150).astype(np.uint16),
        }[voxels]
    )
    wanted = [CODECS[name] for name in BUILT if not name.startswith("edge")]
    for codec, trial in trials(wanted, (Tier.LOSSLESS,), 1):
        result = measure(case, codec, trial)
        fits = case.bits <= 12 or not codec.name.startswith("x265")
        assert result.status == (OK if fits else NOT_APPLICABLE), (codec.name, result.reason)


@pytest.mark.parametrize("name", [n for n in PLAIN if n != "jpeg-ls"])
def test_lossy_images_do_not_wrap_at_the_top_of_the_range(name, heart, make_case):
    bright = np.clip(heart[:1, :1].astype(np.int32) * 2, 0, 255).astype(np.uint8)
    assert (bright == 255).mean() > 0.2
    for result in results(make_case(bright), name):
        assert result.status == OK
        if result.figures.bpp > 1 and result.figures.max_error:
            assert result.figures.max_error < 100, result.setting


@pytest.mark.parametrize(
    ("form", "options", "params"),
    [
        (peers_video.X265_LOW_DELAY, {"preset": "veryslow", "tune": "zerolatency"},
         {"info=0", "aq-mode=0", "psy-rd=0", "psy-rdoq=0"}),
        (peers_video.X265_LOW_DELAY_UNTUNED, {"preset": "veryslow", "tune": "zerolatency"},
         {"info=0"}),
        (peers_video.X265_RANDOM_ACCESS, {"preset": "veryslow", "tune": "psnr"}, {"info=0"}),
        (peers_video.SVT_LOW_DELAY, {"preset": "4"}, {"tune=1", "pred-struct=1"}),
        (peers_video.SVT_RANDOM_ACCESS, {"preset": "4"}, {"tune=1", "pred-struct=2"}),
    ],
)  # fmt: skip
def test_video_peers_are_set_as_documented(form, options, params):
    given = form.with_params("crf=1")
    assert {**given, **options} == given
    words = set(given[form.params_option].split(":"))
    assert words - {"log-level=none"} == {*params, "crf=1"}
    assert form.depth == (12 if form.encoder == "libx265" else 10)


def test_streams_of_video_hold_no_banner(heart_case, monkeypatch):
    seen = []
    decode = peers_video._open_decoder

    def listen(*arguments):
        inner = decode(*arguments)
        return lambda parts: seen.append(b"".join(parts)) or inner(parts)

    monkeypatch.setattr(peers_video, "_open_decoder", listen)
    trial = CODECS["x265-low-delay"].trials(1)[-1]
    result = measure(heart_case, CODECS["x265-low-delay"], trial)
    streams = seen[: heart_case.voxels.shape[0]]
    assert not any(b"x265" in stream for stream in streams)  # its info SEI says so
    # Everything that a decoder needs is in them, and all of it is counted.
    assert all(stream.startswith(b"\0\0\0\1\x40\1") for stream in streams)  # parameter sets
    assert result.figures.stream_bytes == sum(map(len, streams))


def test_video_leaves_the_scheduling_as_it_was(heart_case):
    # SVT-AV1 makes the caller a real-time thread where it may.
    code = (
        "import os, pickle, sys; from edge_codec.bench.rd.codecs import all_codecs;"
        "case = pickle.load(sys.stdin.buffer); before = os.sched_getscheduler(0);"
        "all_codecs()['svt-av1-low-delay'].trials(1)[-1].code(case);"
        "print(os.sched_getscheduler(0) == before)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(heart_case), capture_output=True,
        check=True,
    )  # fmt: skip
    assert found.stdout.split()[-1] == b"True"


def test_lossy_video_says_that_it_scales(heart, make_case):
    case = make_case((heart[:1, :2].astype(np.int32) * 150).astype(np.uint16))
    lossy = first(case, "svt-av1-low-delay")
    assert lossy.notes == ("values scaled down by 2^6 to fit 10 bits",)
    assert lossy.figures.psnr_db > 40


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (65, 101), (64, 130)])
def test_x265_is_exact_at_awkward_sizes(rows, columns, make_case, heart):
    tiled = np.tile(heart[:1], (1, 1, 2, 2))[:, :, :rows, :columns]
    result = first(make_case(np.ascontiguousarray(tiled)), "x265-low-delay")
    assert (result.status, result.tier) == (OK, "lossless"), result.reason


def test_x265_is_kept_from_frames_that_it_corrupts_memory_with(heart, make_case):
    case = make_case(np.ascontiguousarray(heart[:, :, :60]))
    assert {r.status for r in results(case, "x265-random-access")} == {NOT_APPLICABLE}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"params": "bogus=1"}, "bogus"),
        ({"params": "aq-mode=77"}, "Cannot open libx265"),
        ({"encoder": "libx999"}, "was built without libx999"),
        ({"pixel_formats": ("gray16le",)}, "has no gray16le"),
    ],
)
def test_a_setting_that_the_library_lacks_has_a_reason(change, reason, heart_case, capfd):
    form = replace(peers_video.X265_LOW_DELAY_EXACT, **change)
    options = form.with_params("log-level=none")
    with pytest.raises(UnavailableError, match=reason):
        peers_video._code(form, options, 1, Levels.exact, heart_case)
    assert capfd.readouterr() == ("", "")


def test_a_format_that_imagecodecs_lacks_is_skipped(heart_case, monkeypatch):
    class NotBuilt:
        available = False

    monkeypatch.setattr(imagecodecs, "JPEG2K", NotBuilt)
    found = results(heart_case, "jpeg-2000")
    assert {result.status for result in found} == {SKIPPED}
    assert "has no jpeg2k" in found[0].reason


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tomoz" else find(name)
    )
    with pytest.raises(EngineError, match=r"needs tomoz: pip install 'edge-codec\[bench\]'"):
        choose(None)
    assert [codec.name for codec in choose(["gzip", "edge-codec"])] == ["edge-codec", "gzip"]


def test_an_unknown_codec_is_refused():
    with pytest.raises(SpecError, match="'vvc' is unknown"):
        choose(["jpeg-ls", "vvc"])


def test_naming_the_codecs_imports_none_of_them():
    names = {"imagecodecs", "av", "tomoz", "zstandard", "matplotlib", "scipy"}
    code = (
        "import sys; from edge_codec.bench.rd.codecs import all_codecs; all_codecs();"
        f"print({names!r} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_versions_of_the_libraries():
    versions = library_versions()
    assert {"jpegls", "jpeg2k", "jpegxl", "ffmpeg", "zstd"} <= set(versions)


def test_levels_refuse_before_the_size_is_looked_at(heart, make_case):
    case = make_case((heart * 16).astype(np.int16))
    with pytest.raises(NotApplicableError, match="13 bits"):
        CODECS["x265-low-delay"].trials(1)[0].code(case)

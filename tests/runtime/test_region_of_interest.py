"""A region of interest from the options to the voxels: masks, the heart, promises, live streams."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_codec
from edge_codec.bitstream.container import StreamReader
from edge_codec.cli import Console, main
from edge_codec.codec import Decoder
from edge_codec.errors import SourceError, SpecError
from edge_codec.exit_status import ExitStatus
from edge_codec.io import open_source
from edge_codec.metrics.motion import heart_region
from edge_codec.region import Region
from edge_codec.runtime import segmenter
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.models import load_model
from edge_codec.runtime.options import DecompressOptions
from edge_codec.runtime.packet_list import PacketList
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.region_of_interest import HEART_MARGIN, read_mask
from edge_codec.spec import CineInfo, ModelId, StreamSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
SHAPE = (2, 5, 48, 64)


def beating() -> np.ndarray:
    """Two slices of a disk that beats in noise."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[2], : SHAPE[3]]
    frames = [
        np.where(np.hypot(y - 24, x - 30) < 9 + 2 * np.sin(phase), 800, 200 + 3 * x)
        for phase in range(SHAPE[1])
    ]
    return (np.array([frames] * 2) + rng.normal(0, 12, SHAPE)).astype(np.int16)


VOXELS = beating()
CINE = edge_codec.Cine.from_array(VOXELS)
MASK = np.zeros((2, *SHAPE[2:]), bool)
MASK[0, 18:30, 20:40] = True  # nothing in the second slice


def spec_of(data: bytes) -> StreamSpec:
    return StreamReader(io.BytesIO(data)).spec


def errors_of(data: bytes) -> np.ndarray:
    return np.abs(edge_codec.decompress(data).voxels.astype(np.int64) - VOXELS)


@pytest.mark.parametrize("model", ["none", "dwt-cal", "vqvae"])
@pytest.mark.parametrize("inner", [0, 1])
def test_voxels_of_the_region_keep_the_lower_bound(model: str, inner: int) -> None:
    data = edge_codec.compress(CINE, model=model, max_error=4, roi=MASK, roi_max_error=inner)
    region = spec_of(data).region
    assert region == Region.of_mask(MASK, 0, inner)
    error, inside = errors_of(data), region.mask(2, *SHAPE[2:])
    assert inside[MASK].all()
    assert error.swapaxes(0, 1)[:, inside].max() == inner
    assert error.swapaxes(0, 1)[:, ~inside].max() == 4
    lower = edge_codec.compress(CINE, model=model, max_error=inner)
    higher = edge_codec.compress(CINE, model=model, max_error=4)
    assert len(higher) < len(data) < len(lower)


@pytest.mark.parametrize("archive", [False, True])
def test_a_gain_makes_the_region_better_and_leaves_slices_without_one(archive: bool) -> None:
    options = {"model": "dwt-cal", "max_error": None, "quality": 24, "archive": archive}
    without = edge_codec.compress(CINE, **options)
    data = edge_codec.compress(CINE, **options, roi=MASK)
    assert spec_of(data).region == Region.of_mask(MASK, 6)
    error, before = errors_of(data) ** 2, errors_of(without) ** 2
    assert error[0][:, MASK[0]].mean() < 0.75 * before[0][:, MASK[0]].mean()
    np.testing.assert_array_equal(error[1], before[1])


def test_a_target_psnr_and_bits_per_frame_go_with_a_region() -> None:
    data = edge_codec.compress(CINE, model="dwt-cal", max_error=None, psnr_db=36.0, roi=MASK)
    mean = np.mean(errors_of(data).astype(float) ** 2)
    assert 10 * np.log10(float(VOXELS.max()) ** 2 / mean) >= 36
    data = edge_codec.compress(
        CINE, model="dwt-cal", max_error=None, bits_per_frame=900, roi=MASK, roi_gain=9
    )
    assert 8 * len(data) / (SHAPE[0] * SHAPE[1]) < 2 * 900
    assert spec_of(data).region == Region.of_mask(MASK, 9)


def test_groups_without_a_base_layer_keep_the_bound() -> None:
    data = edge_codec.compress(
        CINE, model="dwt-cal", max_error=4, base_cost_percent=0.0, roi=MASK, roi_max_error=0
    )
    assert errors_of(data)[0][:, MASK[0]].max() == 0


# ------------------------------------------------------------------------------------- masks


def test_masks_of_all_forms_are_one(tmp_path: Path) -> None:
    phases = np.zeros(SHAPE, np.uint8)
    phases[0, 1, 18:30, 20:32] = 3
    phases[0, 4, 18:30, 32:40] = 1
    np.save(tmp_path / "flat.npy", MASK)
    np.save(tmp_path / "phases.npy", phases)
    edge_codec.decompress_file(  # a NIfTI file of labels
        _stream(tmp_path, phases), tmp_path / "labels.nii.gz", DecompressOptions()
    )
    sources = (MASK, phases, *(tmp_path / name for name in ("flat.npy", "phases.npy")))
    for roi in (*sources, str(tmp_path / "labels.nii.gz")):
        np.testing.assert_array_equal(read_mask(roi, CINE.info), MASK)
    np.testing.assert_array_equal(read_mask(MASK[0], CINE.info), np.stack([MASK[0]] * 2))
    one = edge_codec.Cine.from_array(VOXELS[0]).info
    np.testing.assert_array_equal(read_mask(phases[0], one), MASK[:1])


def _stream(folder: Path, labels: np.ndarray) -> Path:
    path = folder / "labels.ecd"
    path.write_bytes(edge_codec.compress(edge_codec.Cine.from_array(labels)))
    return path


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK[:, :, 1:], r"has shape \(2, 48, 63\); expected .* 2 slices of 48x64"),
        (np.ones((3, 48, 64)), "expected"),
        (np.ones((2, 1, 1, 48, 64)), "expected"),
        (np.ones(48), "expected"),
        (np.zeros((48, 64)), "nothing inside"),
        (np.full((48, 64), np.nan), "float64 that are not all numbers"),
        (np.full((48, 64), "x"), "not all numbers"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        edge_codec.compress(CINE, max_error=2, roi=mask, roi_max_error=0)


def test_files_that_are_no_masks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no mask")
    np.save(tmp_path / "floats.npy", np.ones((48, 64)))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, mask=MASK)
    for name, shape in (("huge.npy", (1 << 50, 48, 64)), ("negative.npy", (-2, 48, 64))):
        with (tmp_path / name).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(MASK.tobytes())
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x05\x00{((((")
    for name in (
        "text.npy", "floats.npy", "objects.npy", "missing.npy", "missing.nii", "archive.npy",
        "huge.npy", "negative.npy", "header.npy",
    ):  # fmt: skip
        with pytest.raises(SourceError, match=name):
            read_mask(tmp_path / name, CINE.info)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roi_gain": 3}, "need a region"),
        ({"roi_max_error": 0}, "need a region"),
        ({"roi": MASK}, "nothing would differ"),
        ({"roi": MASK, "roi_gain": 3}, "use model dwt-cal"),
        ({"roi": MASK, "roi_max_error": 0}, "lower there"),
        ({"roi": MASK, "max_error": 2, "roi_max_error": 2}, "lower there"),
        ({"roi": MASK, "max_error": 2, "roi_max_error": -1}, "max_error of the region is -1"),
        ({"roi": MASK, "model": "dwt-cal", "max_error": None, "roi_gain": 64}, "quality_gain"),
        ({"roi": MASK, "model": "dwt-cal", "max_error": None, "roi_gain": 0}, "nothing would"),
        ({"roi": MASK, "model": "dwt-cal", "max_error": None, "roi_max_error": 0}, "residual"),
    ],
)
def test_what_cannot_hold_in_a_region_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        edge_codec.compress(CINE, **options)


# ----------------------------------------------------------------------------------- the heart


class _Stub:
    """Finds the disk, or nothing."""

    def __init__(self, finds: bool) -> None:
        self._finds = finds

    def exam(self, voxels: np.ndarray, progress: object) -> np.ndarray:
        del progress
        labels = np.zeros(voxels.shape, np.uint8)
        labels[0, 2, 20:26, 24:36] = 3 * self._finds
        return labels


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    np.save(tmp_path / "exam.npy", VOXELS)
    return tmp_path / "exam.npy"


def run(*arguments: object) -> tuple[int, str, str]:
    console = Console(io.StringIO(), io.StringIO())
    status = main([str(argument) for argument in arguments], console)
    return status, console.out.getvalue(), console.err.getvalue()


def test_the_heart_has_a_margin(exam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "load_segmenter", lambda threads: _Stub(True))
    stream = exam.with_suffix(".ecd")
    options = ("--max-error", 3, "--roi", "heart", "--roi-max-error", 0)
    status, out, err = run("compress", exam, stream, "--json", *options)
    assert (status, err) == (ExitStatus.OK, "")
    mask, m = np.zeros_like(MASK), HEART_MARGIN
    mask[0, 20 - m : 26 + m, 24 - m : 36 + m] = True
    assert spec_of(stream.read_bytes()).region == Region.of_mask(mask, 0, 0)
    info, check = (json.loads(run(name, stream, "--json")[1]) for name in ("info", "verify"))
    for told in (json.loads(out), info):
        assert told["region_slices"] == 1
        assert told["region_max_error"] == 0
        assert told["region_quality_gain"] == 0
        assert told["region_percent_of_voxels"] == pytest.approx(100 * 16 * 32 / (2 * 48 * 64))
    promise = "no voxel off by more than 3 stored units, and the region lossless"
    assert json.loads(out)["promise"] == info["promise"] == check["promise"] == promise


def test_the_shipped_network_finds_the_heart_of_the_example() -> None:
    voxels = edge_codec.Cine.from_source(open_source(EXAMPLE)).voxels[:, ::5]
    cine = edge_codec.Cine.from_array(voxels)
    data = edge_codec.compress(cine, effort="fast", max_error=9, roi="heart", roi_max_error=2)
    region = spec_of(data).region
    assert region is not None
    inside = region.mask(2, 256, 256)
    moving = heart_region(voxels)
    assert (inside & moving).sum() > 0.8 * moving.sum()
    assert 0.02 < inside.mean() < 0.15
    error = np.abs(edge_codec.decompress(data).voxels.astype(int) - voxels).swapaxes(0, 1)
    assert error[:, inside].max() == 2
    assert error[:, ~inside].max() == 9


def test_without_a_heart_all_is_coded_alike_and_said(
    exam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "load_segmenter", lambda threads: _Stub(False))
    stream = exam.with_suffix(".ecd")
    options = ("--max-error", 3, "--roi", "heart", "--roi-max-error", 1)
    status, out, err = run("compress", exam, stream, "--json", *options)
    assert status == ExitStatus.OK
    assert "no heart was found" in err
    assert json.loads(out)["promise"] == "no voxel off by more than 3 stored units"
    assert stream.read_bytes() == edge_codec.compress(
        edge_codec.Cine.from_source(open_source(exam)), max_error=3
    )


def test_mask_files_and_gains_on_the_command_line(exam: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", MASK)
    stream = tmp_path / "a.ecd"
    arguments = ("--model", "dwt-cal", "--roi", tmp_path / "mask.npy", "--roi-gain", 4)
    assert run("compress", exam, stream, *arguments)[0] == ExitStatus.OK
    assert spec_of(stream.read_bytes()).region == Region.of_mask(MASK, 4)
    status, _, err = run("compress", exam, tmp_path / "b.ecd", "--roi-gain", 4)
    assert status != ExitStatus.OK
    assert "--roi" in err
    assert not (tmp_path / "b.ecd").exists()


# ------------------------------------------------------------------------------------ live streams


@pytest.mark.parametrize(
    ("model", "bound", "region"),
    [
        (ModelId.NONE, 3, Region.of_mask(MASK, 0, 0)),
        (ModelId.DWT_CAL, None, Region.of_mask(MASK, 9)),
    ],
)
def test_a_live_stream_takes_the_region_of_its_description(
    model: ModelId, bound: int | None, region: Region
) -> None:
    info = CineInfo(2, 0, *SHAPE[2:], VOXELS.dtype)
    spec = StreamSpec(info, 0, 2047, model, max_error=bound, region=region)
    sink = PacketList()
    with Pipeline() as pipeline:
        stream = pipeline.open("s", LiveOptions(budget_ms=0, n_slices=2), [sink], spec=spec)
        for phase in range(2):
            for slice_index in range(2):
                stream.push(VOXELS[slice_index, phase], slice_index)
    found = sink.segments[0].spec
    assert found.region == region
    decoder = Decoder(found, load_model(model, decode_only=True))
    for _, packet, _ in sink.sent:
        frame = decoder.push(packet)
        error = np.abs(frame.astype(int) - VOXELS[packet.slice_index, packet.phase_index])
        if bound is not None:
            assert error[MASK[packet.slice_index]].max(initial=0) == 0

"""The viewer's page in a real browser: what is on the canvas is what the codec decoded."""

import io
from dataclasses import replace
from pathlib import Path

import chrome
import numpy as np
import pytest

import edge_codec
from edge_codec.bitstream.container import StreamWriter
from edge_codec.bitstream.live import LiveNote, Policy
from edge_codec.bitstream.packet import LayerId
from edge_codec.cine import Cine
from edge_codec.codec import Encoder
from edge_codec.io import open_source
from edge_codec.runtime.viewer import frame_store
from edge_codec.spec import StreamSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
SLICES, PHASES = 2, 8
LIVE_BATCH = 5
MINUS = "\u2212"


@pytest.fixture(scope="module")
def heart():
    voxels = Cine.from_source(open_source(EXAMPLE)).voxels
    return Cine.from_array(
        np.ascontiguousarray(voxels[:, :PHASES, 60:188, 60:180]), spacing_mm=(8, 1.5, 1.25)
    )


@pytest.fixture(scope="module")
def files(heart, tmp_path_factory):
    """Streams of every kind, and the source as a file."""
    folder = tmp_path_factory.mktemp("streams")
    kinds = {
        "lossless": {},
        "lossy": {"max_error": 3},
        "both": {"model": "vqvae"},
        "base": {"model": "vqvae", "max_error": None},
    }
    for name, options in kinds.items():
        (folder / f"{name}.ecd").write_bytes(edge_codec.compress(heart, **options))
    np.save(folder / "heart.npy", heart.voxels)
    return folder


@pytest.fixture(scope="module")
def driver():
    driver = chrome.start()
    yield driver
    driver.quit()


@pytest.fixture
def page(driver):
    """Give a page, and see that its console stayed empty."""
    page = chrome.Page(driver)
    page.console()
    yield page
    assert page.console() == []


def show_window(page, center, width):
    page.set("center", center)
    page.set("width", width)


def test_the_canvas_shows_the_decoded_frame_under_the_window(page, files, heart):
    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        for center, width in ((200, 400), (101.5, 77), (400, 1)):
            show_window(page, center, width)
            expected = chrome.gray_of(heart.voxels[0, 0], center, width)
            np.testing.assert_array_equal(page.grays("decoded"), expected)
            np.testing.assert_array_equal(page.grays("original"), expected)
        assert "not for diagnosis" in page.run("return document.body.innerText")


@pytest.mark.parametrize(
    ("dtype", "gain", "offset"), [("float32", 0.37, -20.0), ("int32", 1000, -1 << 20)]
)
def test_floats_and_wide_integers(page, heart, tmp_path, dtype, gain, offset):
    voxels = (heart.voxels[:1, :2].astype(float) * gain + offset).astype(dtype)
    (tmp_path / "wide.ecd").write_bytes(edge_codec.compress(Cine.from_array(voxels)))
    with page.served(tmp_path / "wide.ecd") as url:
        page.open(url)
        center, width = 200 * gain + offset, 400 * gain
        show_window(page, center, width)
        expected = chrome.gray_of(voxels[0, 0], center, width)
        np.testing.assert_array_equal(page.grays("decoded"), expected)
        assert page.note("error") == "zero everywhere"


def test_keys_and_sliders_go_to_every_frame(page, files, heart):
    from selenium.webdriver.common.keys import Keys

    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        show_window(page, 200, 400)
        steps = (
            ((Keys.ARROW_RIGHT,) * 3, (0, 3)),
            ((Keys.ARROW_UP,), (1, 3)),
            ((Keys.END,), (1, PHASES - 1)),
            ((Keys.ARROW_RIGHT,), (1, 0)),
            ((Keys.ARROW_DOWN, Keys.ARROW_LEFT), (0, PHASES - 1)),
            ((Keys.HOME,), (0, 0)),
        )
        for keys, (slice_index, phase) in steps:
            page.press(*keys)
            page.wait_drawn(f"0/{slice_index}/{phase}/whole")
            expected = chrome.gray_of(heart.voxels[slice_index, phase], 200, 400)
            np.testing.assert_array_equal(page.grays("decoded"), expected)
        page.set("phase", 5, "input")
        page.set("slice", 1, "input")
        page.wait_drawn("0/1/5/whole")
        assert page.text("phase-text") == f"6 / {PHASES}"


def test_a_frame_that_takes_long_is_asked_for_until_it_is_there(page, files, heart, monkeypatch):
    monkeypatch.setattr(frame_store, "WORK_S", 0.0)  # one frame per request
    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        show_window(page, 200, 400)
        page.run(
            "const box = document.getElementById('message'); window.said = [];"
            "const note = () => window.said.push(box.textContent);"
            "new MutationObserver(note).observe(box, { childList: true });"
        )
        page.set("phase", PHASES - 1, "input")
        page.wait_drawn(f"0/0/{PHASES - 1}/whole")
        expected = chrome.gray_of(heart.voxels[0, PHASES - 1], 200, 400)
        np.testing.assert_array_equal(page.grays("decoded"), expected)
        said = page.run("return window.said")
        for decoded in range(2, PHASES):
            assert f"This frame builds on many others: {decoded} of {PHASES} are decoded." in said
        assert page.run("return document.getElementById('message').hidden")


@pytest.mark.parametrize("original", [None, "heart.npy"])
def test_the_error_map_of_a_lossless_stream_is_black(page, files, original):
    with page.served(files / "both.ecd", original and files / original) as url:
        page.open(url)
        assert not page.pixels("error")[..., :3].any()
        assert page.note("error") == "zero everywhere"


def test_the_error_map_of_a_lossy_stream_has_sign_and_scale(page, files, heart):
    decoded = edge_codec.decompress((files / "lossy.ecd").read_bytes()).voxels[0, 0]
    error = decoded.astype(int) - heart.voxels[0, 0]
    assert set(np.unique(error)) == set(range(-3, 4))
    with page.served(files / "lossy.ecd", files / "heart.npy") as url:
        page.open(url)
        shown = page.pixels("error").astype(int)
        assert (shown[..., :3].any(axis=-1) == (error != 0)).all()
        assert (np.sign(shown[..., 0] - shown[..., 2]) == np.sign(error)).all()
        for value in range(-3, 4):  # one color for one error
            assert len(np.unique(shown[error == value], axis=0)) == 1
        assert page.note("error") == f"{MINUS}3 to +3"
        assert page.text("scale-high") == "+3"
        page.set("error-scale", "10")
        assert page.text("scale-low") == f"{MINUS}10"
        assert page.pixels("error").astype(int).sum() < shown.sum()


def test_without_an_original_a_lossy_stream_has_nothing_to_compare(page, files):
    with page.served(files / "lossy.ecd") as url:
        page.open(url)
        reason = "return document.querySelector('#pane-error .stage').dataset.reason"
        assert page.run(reason) == "nothing to compare"
        assert not page.pixels("error").any()


def test_layers_on_and_off(page, files, heart):
    base = edge_codec.decompress((files / "both.ecd").read_bytes(), preview=True).voxels
    assert (base != heart.voxels).any()
    with page.served(files / "both.ecd") as url:
        page.open(url)
        show_window(page, 200, 400)
        page.press("b")
        page.wait_drawn("0/0/0/base")
        np.testing.assert_array_equal(page.grays("decoded"), chrome.gray_of(base[0, 0], 200, 400))
        expected = chrome.gray_of(heart.voxels[0, 0], 200, 400)
        np.testing.assert_array_equal(page.grays("original"), expected)
        wrong = base[0, 0] != heart.voxels[0, 0]
        assert (page.pixels("error")[..., :3].any(axis=-1) == wrong).all()
        page.press("b")
        page.wait_drawn("0/0/0/whole")
        np.testing.assert_array_equal(page.grays("decoded"), expected)
        assert not page.pixels("error")[..., :3].any()


def test_a_stream_of_the_base_alone(page, files):
    base = edge_codec.decompress((files / "base.ecd").read_bytes()).voxels
    with page.served(files / "base.ecd", files / "heart.npy") as url:
        page.open(url)
        show_window(page, 200, 400)
        np.testing.assert_array_equal(page.grays("decoded"), chrome.gray_of(base[0, 0], 200, 400))
        assert page.run("return document.getElementById('layers').disabled")
        assert page.text("promise") == "none: lossy base layer, not for diagnosis"


def test_playing_and_pausing(page, files):
    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        page.press(" ")
        page.wait("another phase", lambda: page.drawn() not in ("0/0/0/whole", None))
        seen = {page.drawn()}
        page.wait("many phases", lambda: seen.add(page.drawn()) or len(seen) > PHASES // 2)
        page.press(" ")
        assert page.text("play") == "Play"


def test_mouse_reads_voxels_and_drags_the_window(page, files, heart):
    from selenium.webdriver.common.action_chains import ActionChains

    decoded = edge_codec.decompress((files / "lossy.ecd").read_bytes()).voxels[0, 0]
    with page.served(files / "lossy.ecd", files / "heart.npy") as url:
        page.open(url)
        show_window(page, 200, 400)
        stage = page.run("return document.querySelector('#pane-decoded .stage')")
        mouse = ActionChains(page.driver, duration=0)
        mouse.move_to_element_with_offset(stage, 30, -20).perform()
        place, stored, compared = page.text("readout").split("\n")
        row, column = (int(part.split()[-1]) for part in place.split(","))
        value, original = int(decoded[row, column]), int(heart.voxels[0, 0, row, column])
        assert 0 < row < 64 < column
        assert stored == f"stored {value}"
        assert compared.startswith(f"original {original}, error ")
        assert int(compared.split()[-1].replace(MINUS, "-")) == value - original
        mouse.click_and_hold().move_by_offset(40, 0).release().perform()
        width = float(page.run("return document.getElementById('width').value"))
        assert width > 400
        gray = chrome.gray_of(decoded, 200, width)
        assert np.abs(page.grays("decoded").astype(int) - gray).max() <= 1  # width has 7 digits


def test_zoom(page, files):
    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        page.press("+", "+")
        style = "return document.querySelector('#pane-error canvas').style.transform"
        assert "scale(1.5625)" in page.run(style)
        page.press("0")
        assert "scale(1)" in page.run(style)


def test_presets_change_the_window(page, files, heart):
    with page.served(files / "lossless.ecd") as url:
        page.open(url)
        frame = heart.voxels[0, 0]
        page.set("preset", "wide")
        low, high = float(frame.min()), float(frame.max())
        expected = chrome.gray_of(frame, (low + high) / 2, high - low)
        np.testing.assert_array_equal(page.grays("decoded"), expected)
        page.press("w")
        assert page.run("return document.getElementById('preset').value") == "dark"
        assert (page.grays("decoded") >= expected).all()


def test_lost_frames_are_marked_and_the_others_shown(page, files, heart, tmp_path):
    spec = StreamSpec(heart.info, 0, int(heart.voxels.max()), key_interval=4)
    file, encoder, offsets = io.BytesIO(), Encoder(spec), []
    writer = StreamWriter(file, spec)
    for frame in heart.frames():
        offsets.append(writer.offset)
        writer.write(encoder.push(frame.samples, frame.slice_index))
    writer.close()
    data = bytearray(file.getvalue())
    data[offsets[2 * SLICES] + 100] ^= 1  # slice 0, phase 2; phase 3 builds on it
    (tmp_path / "damaged.ecd").write_bytes(data)
    with page.served(tmp_path / "damaged.ecd") as url:
        page.open(url)
        page.set("phase", 2, "input")
        page.wait_drawn("0/0/2/whole")
        reason = "return document.querySelector('#pane-decoded .stage').dataset.reason"
        assert page.run(reason) == "this frame is lost"
        assert page.text("damage-title") == "Damage: 2 frames are lost"
        assert "slice 0, phase 2 is lost: layer 1" in page.text("damage")
        page.set("phase", 4, "input")
        page.wait_drawn("0/0/4/whole")
        show_window(page, 200, 400)
        expected = chrome.gray_of(heart.voxels[0, 4], 200, 400)
        np.testing.assert_array_equal(page.grays("decoded"), expected)


def live_stream(heart):
    """Return the header of a live stream, and its packets with their notes."""
    info = replace(heart.info, n_phases=0)
    spec = StreamSpec(info, 0, int(heart.voxels.max()), key_interval=4)
    file, encoder = io.BytesIO(), Encoder(spec)
    StreamWriter(file, spec)
    packets = []
    for frame in heart.frames():
        packet = encoder.push(frame.samples, frame.slice_index)
        note = LiveNote(Policy.ADAPTIVE, 0, 700, 5300, late=frame.phase_index == 1)
        packets.append(replace(packet, layers={**packet.layers, LayerId.LIVE: note.pack()}).pack())
    return file.getvalue(), packets


def test_a_growing_stream_is_followed(page, heart, tmp_path):
    header, packets = live_stream(heart)
    (tmp_path / "scanner").mkdir()
    with page.served(tmp_path) as url:
        page.open(url, drawn=None)
        page.wait("the message", lambda: "No stream is here yet" in page.text("message"))
        with (tmp_path / "scanner" / "0000.ecd").open("wb", buffering=0) as file:
            file.write(header + b"".join(packets[:LIVE_BATCH]) + packets[LIVE_BATCH][:99])
            page.wait_drawn("0/0/0/whole")
            assert page.text("phase-text") == "1 / 3"
            show_window(page, 200, 400)
            file.write(packets[LIVE_BATCH][99:])
            page.wait_drawn("0/1/2/whole")
            expected = chrome.gray_of(heart.voxels[1, 2], 200, 400)
            np.testing.assert_array_equal(page.grays("decoded"), expected)
            assert page.text("live").lower() == "live"
            page.press("f")
            file.write(b"".join(packets[LIVE_BATCH + 1 :]))
            page.wait("all phases", lambda: page.text("phase-text") == f"3 / {PHASES}")
            assert page.drawn() == "0/1/2/whole"
        assert "median 6.00 ms" in page.text("latency-note")
        assert page.run("return document.getElementById('stream').value") == "0"
        assert page.run("return document.getElementById('damage-box').hidden")


def test_a_live_pipeline_is_followed_into_its_next_segment(page, heart, tmp_path):
    from edge_codec.runtime.live_options import LiveOptions
    from edge_codec.runtime.pipeline import Pipeline
    from edge_codec.runtime.stream_file import FileSink

    with page.served(tmp_path) as url, Pipeline() as pipeline:
        stream = pipeline.open("scanner", LiveOptions(n_slices=SLICES), [FileSink(tmp_path)])
        stream.push(heart.voxels[0, 0])
        stream.flush(chrome.PATIENCE_S)
        page.open(url)
        for phase in (1, 2):
            stream.push(heart.voxels[0, phase])
            page.wait_drawn(f"0/0/{phase}/whole")
        smaller = np.ascontiguousarray(heart.voxels[1, 3, :96])  # another matrix: a new file
        stream.push(smaller)
        stream.flush(chrome.PATIENCE_S)
        page.wait_drawn("1/0/0/whole")
        show_window(page, 200, 400)
        expected = chrome.gray_of(smaller, 200, 400)
        np.testing.assert_array_equal(page.grays("decoded"), expected)
        stream.push(smaller)
        page.wait_drawn("1/0/1/whole")
        names = page.run("return [...document.getElementById('stream').options].map(o => o.text)")
        assert names == ["scanner/0000.ecd", "scanner/0001.ecd"]
        assert page.text("latency-note").startswith("median ")
        stream.close()

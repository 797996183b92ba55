"""Make docs/images/viewer.png: the CC0 example, coded live, in the viewer.

    python tests/browser/screenshot.py [target.png]

The stream is written by the pipeline at 25 frames/s, so that the graph of latencies shows what was
measured while the picture was made.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import chrome

from edge_codec.bitstream.live import Policy
from edge_codec.cine import Cine
from edge_codec.io import open_source
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.runtime.stream_file import FileSink
from edge_codec.spec import ModelId

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sunnybrook_scd0000301_slice.nii.gz"
TARGET = ROOT / "docs" / "images" / "viewer.png"
SIZE = (1480, 730)
PERIOD_S = 0.04


def write_live(folder: Path) -> None:
    """Code the example as a scanner would deliver it."""
    cine = Cine.from_source(open_source(EXAMPLE))
    options = LiveOptions(
        model=ModelId.VQVAE, max_error=0, policy=Policy.ADAPTIVE, budget_ms=40.0,
        n_slices=cine.info.n_slices, n_phases=cine.info.n_phases,
    )  # fmt: skip
    with Pipeline() as pipeline:
        stream = pipeline.open("scanner", options, [FileSink(folder)], geometry=cine.info)
        due = time.monotonic()
        for frame in cine.frames():
            stream.push(frame.samples, frame.slice_index)
            due += PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))
        stream.close()


def _write(picture: bytes, target: Path) -> None:
    """Save a PNG with 256 colors: a third of the size, and looks the same."""
    from PIL import Image  # comes with matplotlib

    colors = Image.open(io.BytesIO(picture)).convert("RGB")
    few = colors.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(target, optimize=True)


def main() -> None:
    """Write the stream, show it, and save what the browser shows."""
    from selenium.webdriver.common.action_chains import ActionChains

    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with tempfile.TemporaryDirectory() as folder:
        write_live(Path(folder))
        driver = chrome.start(SIZE)
        try:
            inner = driver.execute_script("return [innerWidth, innerHeight]")
            driver.set_window_size(2 * SIZE[0] - inner[0], 2 * SIZE[1] - inner[1])
            with chrome.served(Path(folder)) as url:
                page = chrome.Page(driver)
                page.open(url)
                page.set("phase", 7, "input")
                page.wait_drawn("0/0/7/whole")
                page.press("b")
                page.wait_drawn("0/0/7/base")
                stage = page.run("return document.querySelector('#pane-decoded .stage')")
                ActionChains(driver).move_to_element(stage).perform()
                picture = driver.get_screenshot_as_png()
        finally:
            driver.quit()
    _write(picture, target)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()

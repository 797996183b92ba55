"""A real headless Chromium on the viewer's page, and what can be read back from it."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_codec.runtime.viewer.library import Library
from edge_codec.runtime.viewer.server import ViewerServer

PATIENCE_S = 30.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
)


def find_browser() -> tuple[str, str]:
    """Return the paths of browser and driver; skips the test where one is missing."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[dev]'")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with chromedriver here: run tests/browser/install.sh as root")
    return browser, driver


def start(size: tuple[int, int] = (1480, 900)) -> Any:
    """Start a browser; nothing is downloaded, since both paths are given."""
    browser, driver = find_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = browser
    for flag in (*FLAGS, f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


@contextmanager
def served(path: Path, original: Path | None = None) -> Iterator[str]:
    """Serve a stream or folder in this process, and give the page's address."""
    with ViewerServer(Library(path, original)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join(PATIENCE_S)


class Page:
    """What the tests do to the page and read from it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    @contextmanager
    def served(self, path: Path, original: Path | None = None) -> Iterator[str]:
        """Like `served`; leaves the page before its server ends."""
        with served(path, original) as url:
            yield url
            self.driver.get("about:blank")

    def open(self, url: str, drawn: str | None = "0/0/0/whole") -> None:
        self.driver.get(url)
        if drawn is not None:
            self.wait_drawn(drawn)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Wait until something is true; the page draws when it can."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{what} did not come; drawn is {self.drawn()}")

    def drawn(self) -> str | None:
        """Return `stream/slice/phase/layer` of the frame on the canvas."""
        found: str | None = self.run("return document.body.dataset.drawn || null")
        return found

    def wait_drawn(self, expected: str) -> None:
        self.wait(f"frame {expected}", lambda: self.drawn() == expected)

    def text(self, element_id: str) -> str:
        found: str = self.run("return document.getElementById(arguments[0]).innerText", element_id)
        return found

    def note(self, pane: str) -> str:
        found: str = self.run(
            "return document.querySelector(`#pane-${arguments[0]} .note`).textContent", pane
        )
        return found

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def set(self, element_id: str, value: Any, event: str = "change") -> None:
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event(arguments[2], {bubbles: true}));",
            element_id, value, event,
        )  # fmt: skip

    def pixels(self, pane: str) -> NDArray[np.uint8]:
        """Return what is on a pane's canvas, shape (rows, columns, 4), RGBA."""
        rows, columns, data = self.run(
            "const c = document.querySelector(`#pane-${arguments[0]} canvas`);"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let s = ''; for (let i = 0; i < d.length; i += 8192)"
            "  s += String.fromCharCode(...d.subarray(i, i + 8192));"
            "return [c.height, c.width, btoa(s)];",
            pane,
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(rows, columns, 4)

    def grays(self, pane: str) -> NDArray[np.uint8]:
        """Return the gray values of a pane that shows a gray image."""
        shown = self.pixels(pane)
        assert (shown[..., 0] == shown[..., 1]).all()
        assert (shown[..., 0] == shown[..., 2]).all()
        assert (shown[..., 3] == 255).all()
        return shown[..., 0]

    def console(self) -> list[str]:
        """Return the console's errors and warnings since the last call."""
        found = self.driver.get_log("browser")
        return [entry["message"] for entry in found if entry["level"] in ("SEVERE", "WARNING")]


def gray_of(voxels: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
    """Return the gray values that the page must show, by the words of docs/viewer.md."""
    low = center - width / 2
    gray = np.floor((voxels.astype(np.float64) - low) * (255 / width) + 0.5)
    return np.clip(gray, 0, 255).astype(np.uint8)

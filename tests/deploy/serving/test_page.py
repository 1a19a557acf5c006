"""The page for people, in a real browser: a picture is chosen, and what is seen is drawn."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Service
from served import served

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or ""
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium")


class Browser:
    """Headless Chromium, told by the pipe of its debugging protocol what to do."""

    def __init__(self, folder: Path) -> None:
        self._number, self._rest = 0, b""
        theirs, self._out = os.pipe()
        self._in, their_out = os.pipe()
        line = [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--window-size=1100,800",
            f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # It reads from 3 and writes to 4.
        shell = f'exec 3<&{theirs} 4>&{their_out}; exec "$0" "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, *line],
            pass_fds=(theirs, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(their_out)
        self.faults: list[Any] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            told = answer.get("params", {})
            is_error = told.get("entry", {}).get("level") == "error"
            if answer.get("method") == "Runtime.exceptionThrown" or is_error:
                self.faults.append(told)

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            part = os.read(self._in, 2**16)
            assert part, "the browser has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def value(self, expression: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        end = time.monotonic() + 60
        while not self.value(expression):
            assert time.monotonic() < end, (expression, self.value("document.body.innerText"))
            time.sleep(0.05)

    def choose(self, file: Path) -> None:
        """Choose a file, and wait for what is said of it."""
        self.value("document.getElementById('say').textContent = ''")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
        self.until("!/^$|is sent/.test(document.getElementById('say').textContent)")

    def screenshot(self) -> Image.Image:
        content = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        return Image.open(io.BytesIO(content)).convert("RGB")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._out)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


def shown(browser: Browser, address: str, file: Path) -> None:
    browser.faults.clear()
    browser.call("Page.navigate", url=address)
    browser.until("document.readyState === 'complete' && location.href.startsWith('http')")
    browser.choose(file)
    assert browser.value("document.getElementById('say').className") == ""
    kept = os.environ.get("REGROW_SCREENSHOTS")
    if kept:
        browser.screenshot().save(Path(kept) / f"{file.stem}.png")


CANVAS = "document.getElementById('shown')"


def pixels_of(browser: Browser) -> np.ndarray:
    """Return what the page has drawn, (h, w, 4)."""
    size = browser.value(f"[{CANVAS}.height, {CANVAS}.width]")
    drawn = f"{CANVAS}.getContext('2d').getImageData(0, 0, {CANVAS}.width, {CANVAS}.height).data"
    return np.array(browser.value(f"Array.from({drawn})"), np.uint8).reshape(*size, 4)


def is_visible(browser: Browser, name: str) -> bool:
    return bool(browser.value(f"document.getElementById('{name}').checkVisibility()"))


def turn(browser: Browser, knob: str, value: float) -> None:
    at = f"document.getElementById('{knob}')"
    browser.value(f"{at}.value = {value}; {at}.dispatchEvent(new Event('input'))")


@needs_browser
@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_a_picture_is_sent_and_what_is_seen_is_drawn(
    browser: Browser,
    models: dict[str, ServedModel],
    picture: Callable[..., np.ndarray],
    tmp_path: Path,
    kind: str,
) -> None:
    file, pixels = tmp_path / f"{kind}.png", picture(5, (240, 320))
    Image.fromarray(pixels).save(file)
    # Small pictures are drawn larger, so that the words on them can be read.
    sent = pixels.repeat(3, axis=0).repeat(3, axis=1)
    with served(models[kind]) as address:
        shown(browser, address, file)
        said = browser.value("document.getElementById('say').innerText")
        assert re.fullmatch(rf"answered in \d+ ms by the model {models[kind].sha256[:12]}", said)
        drawn = pixels_of(browser)
        assert drawn.shape == (*sent.shape[:2], 4)
        changed = (drawn[..., :3] != sent).any(-1).mean()
        text = browser.value("document.getElementById('rows').innerText")
        assert browser.value("document.querySelectorAll('#rows i').length") == 0  # of a class name
        knobs = [name for name in ("score", "alpha") if is_visible(browser, name)]
        assert knobs == {"labels": [], "boxes": ["score"], "masks": ["alpha"]}[kind]
        if kind == "labels":
            assert changed == 0
            assert {"a", "b", "<i>c</i>"} <= {*text.split()}
        elif kind == "boxes":
            assert 0 < changed < 1
            turn(browser, "score", 1)
            assert browser.value("document.getElementById('rows').innerText").strip() == "no object"
            assert (pixels_of(browser)[..., :3] == sent).all()
        else:
            assert changed > 0.9
            assert "%" in text
            turn(browser, "alpha", 0)
            browser.until(f"{CANVAS}.getContext('2d').globalAlpha === 0")
            assert (pixels_of(browser)[..., :3] == sent).all()
        told = json.loads(browser.value("document.getElementById('json').textContent"))
        assert told["model"] == models[kind].sha256
        line = browser.value("document.getElementById('curl').textContent")
        assert line.startswith("curl --data-binary @photo.jpg ")
        assert line.endswith(f" {address}invocations")
    assert browser.faults == []


# A picture is drawn on another canvas, and dropped as the file of it.
DROP = """(async () => {
  const other = new OffscreenCanvas(40, 30);
  other.getContext("2d").fillRect(0, 0, 40, 30);
  const data = new DataTransfer();
  data.items.add(new File([await other.convertToBlob()], "dropped.png", { type: "image/png" }));
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.getElementById("drop").dispatchEvent(event);
    if (!event.defaultPrevented) throw new Error(`the browser would open it at ${kind}`);
  }
})()"""


@needs_browser
def test_a_picture_is_dropped(browser: Browser, models: dict[str, ServedModel]) -> None:
    with served(models["labels"]) as address:
        browser.call("Page.navigate", url=address)
        browser.until("document.readyState === 'complete' && location.href.startsWith('http')")
        browser.value(DROP)
        browser.until("/^answered/.test(document.getElementById('say').textContent)")
        assert browser.value(f"{CANVAS}.width / {CANVAS}.height") == 40 / 30


@needs_browser
def test_an_error_is_said_and_a_turned_picture_is_shown_upright(
    browser: Browser,
    models: dict[str, ServedModel],
    picture: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1, (60, 90))).save(tmp_path / "turned.jpg", exif=exif)
    with served(models["labels"]) as address:
        shown(browser, address, tmp_path / "turned.jpg")
        assert browser.value(f"[{CANVAS}.height, {CANVAS}.width]") == [90 * 9, 60 * 9]
        browser.choose(tmp_path / "bad.png")
        assert browser.value("document.getElementById('say').className") == "bad"
        said = browser.value("document.getElementById('say').innerText")
        assert said.startswith("the picture: corrupt or truncated")


def test_the_page_asks_nobody_else() -> None:
    """No address of anybody else stands in it, and its policy would forbid to ask there."""
    service = Service()
    app = make_app(service)
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [word for word in ("http:", "https:", "innerHTML") if word in answer.text] == []

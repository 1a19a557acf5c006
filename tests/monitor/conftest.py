"""Captured events, made in a moment."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import LinearNetwork
from PIL import Image

from regrow.monitor.baseline import Baseline, BaselineBuilder
from regrow.monitor.files.captures import Body, Event, event_line
from regrow.monitor.network import reference
from regrow.monitor.network.reference import NetworkBuilder
from regrow.monitor.network.served import NETWORK

TIME = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def png() -> Callable[[np.ndarray], bytes]:
    def encoded(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encoded


@pytest.fixture(scope="session")
def event() -> Callable[..., Event]:
    def made(content: bytes | None, answer: Any = None, **own: Any) -> Event:
        sent = own.pop("content_type", "image/png")
        body = Body(sent, base64.b64encode(content).decode(), "BASE64") if content else None
        output = None if answer is None else Body("application/json", json.dumps(answer), "JSON")
        return Event(**{"id": "e", "time": TIME, "input": body, "output": output} | own)

    return made


MODEL = "ab12" * 16
CLASSES = ["dark", "light"]


def predict(pixels: np.ndarray) -> dict[str, Any]:
    """Tell dark pictures from light ones, as a network would that is right about most."""
    share = float(np.clip((pixels.mean() / 255 - 0.5) * 3 + 0.5, 0.001, 0.999))
    scores = {"dark": 1 - share, "light": share}
    label = max(scores, key=lambda name: scores[name])
    return {"label": label, "score": scores[label], "scores": scores}


def picture(draw: np.random.Generator, light: float = 1.0) -> np.ndarray:
    """A noisy grey picture of some lightness."""
    level = draw.uniform(60, 200) * light
    return np.clip(level + draw.normal(0, 12, (12, 16, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def baseline() -> Baseline:
    builder, draw = BaselineBuilder(MODEL, "m.onnx", "labels", CLASSES, predict), seeded(0)
    for number in range(400):
        pixels = picture(draw)
        builder.add(f"p{number}", pixels, None, predict(pixels)["label"])
    return builder.build("test")


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def folder(baseline: Baseline, tmp_path: Path) -> Path:
    """The folder of a monitor with its baseline."""
    made = tmp_path / "monitor"
    made.mkdir()
    baseline.write(made)
    return made


@pytest.fixture
def network() -> LinearNetwork:
    """The network behind the captures, as far as the probe needs one."""
    return LinearNetwork(np.linspace(0.01, 0.06, 16), sha256(b"the network").hexdigest())


@pytest.fixture
def probed(network: LinearNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a monitor whose baseline keeps the network."""
    monkeypatch.setattr(reference, "NUM_RUNS", 32)
    collects, draw = NetworkBuilder(network, 60), seeded(0)
    builder = BaselineBuilder(MODEL, "m.onnx", "labels", CLASSES, predict, network=collects)
    for number in range(200):
        pixels = picture(draw)
        builder.add(f"p{number}", pixels, None, predict(pixels)["label"])
    made = tmp_path / "probed"
    made.mkdir()
    (made / NETWORK).write_bytes(b"the network")
    builder.build("test").write(made)
    return made


Captured = Callable[..., list[Event]]


@pytest.fixture(scope="session")
def captured(png: Callable[[np.ndarray], bytes], event: Callable[..., Event]) -> Captured:
    """Return the events of an hour, as a server captures them."""

    def made(hour: datetime, count: int = 60, light: float = 1.0, **own: Any) -> list[Event]:
        draw, events = seeded(int(hour.timestamp()) + own.pop("seed", 0)), []
        model = own.pop("model", MODEL)
        for number in range(count):
            pixels = picture(draw, light)
            answer = {"model": model, "predictions": [predict(pixels)]}
            name = f"{hour:%d%H}-{number:04d}"
            about = {"id": name, "inference_id": f"cam-{name}", "attributes": {"camera": "3"}}
            time = hour + timedelta(seconds=3600 * number / count)
            events.append(event(png(pixels), answer, **({"time": time} | about | own)))
        return events

    return made


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Return a function that writes events into a file of captures."""

    def written(captures: Path, events: Sequence[Event], name: str = "a") -> Path:
        hour = events[0].time.strftime("%Y/%m/%d/%H")
        file = captures / "endpoint" / "AllTraffic" / hour / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(map(event_line, events)))
        return file

    return written

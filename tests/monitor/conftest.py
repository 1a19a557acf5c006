"""Captured events, made in a moment."""

import base64
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.monitor.files.captures import Body, Event

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

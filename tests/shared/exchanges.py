"""Exchanges as a server tells them, and a reader of captures that knows only the format."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regrow.deploy.serving.observing import Exchange

TIME = 1_796_024_050.9  # 2026-11-30T07:34:10.9Z


def told(**about: Any) -> Exchange:
    """Return what a server tells of one request."""
    usual = {
        "event_id": "74b0dd56-e7c8-368e-94b1-14a138a96000",
        "inference_id": "",
        "custom_attributes": "",
        "time": TIME,
        "model": "regrow",
        "sha256": "0" * 64,
        "request_type": "image/jpeg",
        "request_body": b"\xff\xd8\xff\xe0",
        "response_type": "application/json",
        "response_body": b'{"label":"car"}',
    }
    return Exchange(**{**usual, **about})


def captured(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the folder below endpoint and variant of each line, and what the line holds."""
    for file in sorted(folder.rglob("*.jsonl")):
        for line in file.read_bytes().decode("ascii").splitlines():
            yield file.parent.relative_to(folder).as_posix(), json.loads(line)


def body(captured: dict[str, str]) -> bytes:
    """Return the bytes of a captured body."""
    data = captured["data"]
    return base64.b64decode(data) if captured["encoding"] == "BASE64" else data.encode()


def ids(folder: Path) -> list[str]:
    """Return the ids of the events that were captured, in the order of the files."""
    return [line["eventMetadata"]["eventId"] for _, line in captured(folder)]

"""What tests of the formats write and read: pictures, text or JSON, and the rows of a content."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regrow.data.source import Content


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), len(path.name), np.uint8)).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def rows(content: Content) -> list[tuple[str, Any, str | None]]:
    return [(item.name, item.target, item.split) for item in content.items]

"""Small served models of each task, pictures for them, and captures of what they answer."""

import base64
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Item, Mask, Target
from regrow.deploy.serving.opener import Opener
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.monitor.files.captures import Body, Event, event_line
from regrow.pipelines.monitoring.baseline import predictor
from regrow.pipelines.serve import promoted_model

SIZE, CLASSES, HOUR = (32, 48), ["a", "b", "c"], datetime(2026, 11, 30, 7, tzinfo=UTC)
TASKS = {"labels": Classification, "boxes": Detection, "masks": Segmentation}


def untrained_task(kind: str) -> Task:
    """Return a task with weights of seed 0 whose answers differ from picture to picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task: Task = TASKS[kind](CLASSES, SIZE, net="fcos" if kind == "boxes" else "small").eval()
        if kind == "boxes":
            torch.nn.init.normal_(task.net.cls_logits.weight, std=0.5)
            torch.nn.init.zeros_(task.net.cls_logits.bias)
    return task


def picture(number: int) -> np.ndarray:
    """Return a smooth picture of its own for a number, uint8 RGB (40, 60, 3)."""
    draw = np.random.default_rng(number)
    small = draw.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((60, 40), Image.Resampling.BICUBIC))


def target_of(kind: str, number: int) -> Target:
    """Return the label of a picture."""
    if kind == "labels":
        return CLASSES[number % 3]
    if kind == "boxes":
        return Boxes(np.array([[5, 5, 30, 30]], np.float32), (CLASSES[number % 3],))
    return Mask(np.full((40, 60), number % 3, np.uint8), dict(enumerate(CLASSES)))


def watched_data(kind: str, split: str = "test", count: int = 24) -> GrowingData:
    """Return data with so many pictures in one split, and three in the others."""
    items = [
        Item(f"{own}{n}", picture(place + n), target_of(kind, n), own)
        for own, number, place in (("train", 3, 900), ("val", 3, 950), (split, count, 0))
        for n in range(number)
        if own != split or place == 0
    ]
    given = Given(items, CLASSES)
    return GrowingData(given, size=SIZE, batch_size=4, test_share=0, val_share=0)


def capture_of(folder: Path, model: Path, numbers: list[int], change: Callable[..., Any]) -> Path:
    """Capture what a model answers to changed pictures, a second apart, and return the folder."""
    served, _ = Opener(promoted_model).open(model)
    predict, lines = predictor(served), []
    for place, number in enumerate(numbers):
        pixels = change(picture(number))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        answer = {"model": served.sha256, "predictions": [predict(pixels)]}
        event = Event(
            f"e{place}",
            HOUR + timedelta(seconds=place),
            Body("image/png", base64.b64encode(file.getvalue()).decode(), "BASE64"),
            Body("application/json", json.dumps(answer), "JSON"),
        )
        lines.append(event_line(event))
    place_ = folder / "2026/11/30/07"
    place_.mkdir(parents=True)
    (place_ / "a.jsonl").write_text("".join(lines))
    return folder

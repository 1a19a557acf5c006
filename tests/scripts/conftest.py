"""Small folders of images, and commands as a user starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.metrics.scores import Accuracy
from regrow.training.progress_bar import RunProgress

ROOT = Path(__file__).parents[2]
COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Give a maker of image folders: noisy squares of a colour, `<split>/<class>/<n>.png`."""

    def make(name: str = "images", classes: tuple[str, ...] = ("red", "green"), count: int = 12):
        root = tmp_path / "data" / name
        for split in ("train", "val", "test"):
            for label in classes:
                random = np.random.default_rng([*split.encode(), *label.encode()])
                place = root / split / label
                place.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    noise = random.integers(-30, 30, (32, 32, 3))
                    pixels = (np.array(COLORS[label]) + noise).clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(place / f"{number}.png")
        return root

    return make


@pytest.fixture
def words(tmp_path: Path) -> Callable[..., list[str]]:
    """Give the words of a short training run on a folder of images."""

    def make(root: Path, run: str = "run", *more: str) -> list[str]:
        return [
            f"--config={ROOT / 'configs' / 'classification.yaml'}",
            "--data.source=regrow.data.formats.ImageFolder",
            f"--data.root={root}",
            "--data.batch_size=8",
            "--fit.epochs=2",
            f"--run={tmp_path / run}",
            *more,
        ]

    return make


@pytest.fixture
def stop_after() -> Callable[..., None]:
    """Give what lets the platform's signal come in the middle of a batch, of `train` or `val`."""

    def patch(monkeypatch: pytest.MonkeyPatch, num_batches: int, split: str = "train") -> None:
        hook = {"train": "on_train_batch_end", "val": "on_validation_batch_end"}[split]
        counted = 0
        original = getattr(RunProgress, hook)

        def counting(self, *args, **kwargs) -> None:
            nonlocal counted
            original(self, *args, **kwargs)
            counted += 1
            if counted == num_batches:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(RunProgress, hook, counting)

    return patch


@pytest.fixture
def score_epochs() -> Callable[..., None]:
    """Give what lets the accuracy of each scoring be the next of some, whatever a network says."""

    def patch(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
        scores, compute = iter(values), Accuracy.compute

        def told(self: Accuracy) -> dict[str, torch.Tensor]:
            return {**compute(self), "accuracy": torch.tensor(next(scores, 0.0))}

        monkeypatch.setattr(Accuracy, "compute", told)

    return patch


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give what runs a script in a process of its own."""

    def call(script: str, *args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(ROOT / "scripts" / script), *args]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    return call

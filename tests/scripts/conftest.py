"""Small folders of images, and commands as a user starts them."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from children import finished
from PIL import Image

from regrow.metrics.scores import Accuracy
from regrow.pipelines import commands
from regrow.training.progress_bar import RunProgress

ROOT = Path(__file__).parents[2]
Fill = Callable[[Callable[..., Path], Callable[..., list[str]]], None]
COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_images(base: Path, name: str, classes: Sequence[str], count: int = 12) -> Path:
    """Write noisy squares of a colour, `<base>/data/<name>/<split>/<class>/<n>.png`."""
    root = base / "data" / name
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


def short_training(base: Path, root: Path, run: str, *more: str) -> list[str]:
    """Return the words of a short training run on a folder of images."""
    return [
        f"--config={ROOT / 'configs' / 'classification.yaml'}",
        "--data.source=regrow.data.formats.ImageFolder",
        f"--data.root={root}",
        "--data.batch_size=8",
        "--fit.epochs=2",
        f"--run={base / run}",
        *more,
    ]


def _folder(base: Path) -> Callable[..., Path]:
    def make(name: str = "images", classes: Sequence[str] = ("red", "green"), count: int = 12):
        return write_images(base, name, classes, count)

    return make


def _words(base: Path) -> Callable[..., list[str]]:
    def make(root: Path, run: str = "run", *more: str) -> list[str]:
        return short_training(base, root, run, *more)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of image folders: `folder(name, classes, count)`."""
    return _folder(tmp_path)


@pytest.fixture
def words(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a maker of the words of a short run: `words(root, run, *more)`."""
    return _words(tmp_path)


def _copied(base: Path, place: Path) -> None:
    """Copy runs and images to another folder, as if all had been made there."""
    shutil.copytree(base, place, dirs_exist_ok=True)
    for kind in ("*.yaml", "*.json", "*.txt"):
        for file in place.rglob(kind):
            file.write_text(file.read_text().replace(str(base), str(place)))


@pytest.fixture(scope="session")
def _made_before() -> dict[Hashable, Path]:
    return {}


@pytest.fixture
def made_once(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    _made_before: dict[Hashable, Path],
) -> Callable[[Hashable, Fill], None]:
    """Return what fills the test's folder: made once a session under a key, copied since."""

    def make(key: Hashable, fill: Fill) -> None:
        if key not in _made_before:
            base = tmp_path_factory.mktemp("once")
            fill(_folder(base), _words(base))
            _made_before[key] = base
        _copied(_made_before[key], tmp_path)

    return make


@pytest.fixture
def trained(tmp_path: Path, made_once: Callable[[Hashable, Fill], None]) -> Callable[..., Path]:
    """Return a maker of trained runs and their images: `trained(run, *options)`, its best file."""

    def make(
        run: str, *more: str, images: str = "images", classes: Sequence[str] = ("red", "green")
    ) -> Path:
        def fill(folder: Callable[..., Path], words: Callable[..., list[str]]) -> None:
            commands.train(words(folder(images, classes), run, *more))

        made_once(("trained", run, more, images, tuple(classes)), fill)
        return tmp_path / run / "best.ckpt"

    return make


@pytest.fixture
def stop_after() -> Callable[..., None]:
    """Return a function that sends a signal in the middle of a batch, of `train` or `val`."""

    def patch(
        monkeypatch: pytest.MonkeyPatch,
        num_batches: int,
        split: str = "train",
        signals: Sequence[int] = (signal.SIGTERM,),
    ) -> None:
        hook = {"train": "on_train_batch_end", "val": "on_validation_batch_end"}[split]
        counted = 0
        original = getattr(RunProgress, hook)

        def counting(self, *args, **kwargs) -> None:
            nonlocal counted
            original(self, *args, **kwargs)
            counted += 1
            for number in signals if counted == num_batches else ():
                os.kill(os.getpid(), number)

        monkeypatch.setattr(RunProgress, hook, counting)

    return patch


@pytest.fixture
def score_epochs() -> Callable[..., None]:
    """Return a function that sets the accuracy of each scoring to the next of some values."""

    def patch(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
        scores, compute = iter(values), Accuracy.compute

        def told(self: Accuracy) -> dict[str, torch.Tensor]:
            return {**compute(self), "accuracy": torch.tensor(next(scores, 0.0))}

        monkeypatch.setattr(Accuracy, "compute", told)

    return patch


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a script in a process of its own."""

    def call(script: str, *args: str) -> subprocess.CompletedProcess[str]:
        return finished(ROOT / "scripts" / script, args, ROOT, os.environ)

    return call

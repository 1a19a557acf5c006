"""Training jobs as the platform lays them out: files below a base folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.deploy.sagemaker.contract import Container
from regrow.models.checkpoint import save
from regrow.models.classification import Classification


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Return a folder of configs: one on the built-in sample, one on a set of its own."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "sample.yaml").write_text("data: {source: {class_path: regrow.data.sample.Digits}}")
    (folder / "own.yaml").write_text("data: {source: regrow.data.formats.Coco}")
    return folder


@pytest.fixture
def job(base: Path, configs: Path) -> Callable[..., Container]:
    """Return a maker of jobs: hyperparameters, channels (with their folders), more files."""

    def make(
        hyperparameters: dict[str, str] | None = None, *channels: str, **files: Any
    ) -> Container:
        described = {name: {"TrainingInputMode": "File"} for name in channels}
        for name in channels:
            (base / "input" / "data" / name).mkdir(parents=True, exist_ok=True)
        contents = {"hyperparameters": hyperparameters or {}, "inputdataconfig": described}
        for name, content in {**contents, **files}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (base / "input" / "config" / f"{name}.json").write_text(text)
        return Container.from_environment()

    return make


@pytest.fixture
def checkpoint() -> Callable[[Path, int], None]:
    """Return a function that writes a checkpoint of a training run after some steps."""

    def write(path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, Classification(["a", "b"], (32, 32), net_args={"width": 4}))
        state = {"global_step": step, "epoch": 1, "loops": {}, "callbacks": {}}
        state |= {"optimizer_states": [], "lr_schedulers": []}
        torch.save(torch.load(path) | state, path)

    return write


@pytest.fixture
def channel() -> Callable[..., dict[str, Path]]:
    """Return a function that makes the folder of a channel, with empty files in it."""

    def make(folder: Path, name: str, *files: str) -> dict[str, Path]:
        for file in files:
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return {name: folder / name}

    return make

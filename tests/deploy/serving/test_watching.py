"""A model that is newly named takes over; one that cannot be loaded does not."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Limits, Service
from regrow.deploy.serving.watching import Watch, stamp
from regrow.errors import BadInput


def named(file: Path) -> Path:
    path = file.parent / file.read_text()
    if not path.is_file():
        raise BadInput(f"{path} is not there")
    return path


def name(file: Path, model: str) -> None:
    """Write a file that names a model, whole."""
    new = file.with_suffix(".new")
    new.write_text(model)
    os.replace(new, file)


async def until(is_met: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_met():
            await asyncio.sleep(0.01)


def test_a_new_model_takes_over_and_a_bad_one_does_not(
    files: dict[str, Path], models: dict[str, ServedModel], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "promoted.json"
    for kind in ("labels", "masks"):
        shutil.copy(files[kind], tmp_path / f"{kind}.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    name(file, "labels.onnx")
    seen = stamp(file)

    async def check() -> None:
        service = Service(Limits())
        service.host.put("m", models["labels"])
        first = service.host.entries["m"]
        opener = Opener(named, num_threads=1)
        watch = Watch(service, "m", file, opener.beside, seen=seen, seconds=0.01)
        task = asyncio.create_task(watch.run())

        def is_counted(outcome: str, count: float) -> bool:
            line = f'regrow_model_reloads_total{{model="m",outcome="{outcome}"}} {count}'
            return line in service.metrics.text().decode()

        name(file, "bad.onnx")
        await until(lambda: is_counted("failed", 1.0))
        assert service.host.entries["m"] is first
        file.unlink()
        await until(lambda: is_counted("failed", 2.0))
        assert service.host.entries["m"] is first

        with service.host.use("m") as used:  # a request that is under way
            name(file, "masks.onnx")
            await until(lambda: is_counted("taken", 1.0))
            assert service.host.entries["m"].model.sha256 == models["masks"].sha256
            found = used.runner.submit(np.zeros((1, 3, 64, 96), np.uint8), ["probabilities"])
            assert found.result(20)["probabilities"].shape == (1, 3)
        await until(lambda: not hasattr(first, "runner"))
        text = service.metrics.text().decode()
        assert f'model_info{{model="m",sha256="{models["masks"].sha256}"}} 1.0' in text
        assert models["labels"].sha256 not in text

        shutil.copy(tmp_path / "masks.onnx", tmp_path / "same.onnx")
        name(file, "same.onnx")  # the same model, so nothing is swapped
        second = service.host.entries["m"]
        await until(lambda: watch._seen == stamp(file))
        assert service.host.entries["m"] is second
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await service.close()

    asyncio.run(check())
    out, err = capsys.readouterr()
    assert "bad.onnx: ONNX Runtime cannot load it" in err
    assert f"{models['labels'].sha256[:12]} is served still" in err
    assert "is served now, no longer" in out


def test_a_file_that_was_not_whole_is_tried_again(
    files: dict[str, Path], models: dict[str, ServedModel], tmp_path: Path
) -> None:
    file = tmp_path / "promoted.json"
    name(file, "labels.onnx")
    tried: list[int] = []

    def load(path: Path) -> Any:
        tried.append(1)
        if not (tmp_path / "masks.onnx").is_file():
            raise BadInput("still copied")
        return models["masks"]

    async def check() -> None:
        service = Service(Limits())
        service.host.put("m", models["labels"])
        watch = Watch(service, "m", file, load, seen=stamp(file), seconds=0.005)
        task = asyncio.create_task(watch.run())
        name(file, "masks.onnx")
        await until(lambda: len(tried) >= 2)
        shutil.copy(files["masks"], tmp_path / "masks.onnx")
        await until(lambda: service.host.entries["m"].model is models["masks"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await service.close()

    asyncio.run(check())

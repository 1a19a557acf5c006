"""Jobs for SageMaker's built-in algorithms, run as the platform runs them, on small images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.cli import parse, read
from regrow.deploy.sagemaker.builtin import ALGORITHMS, IC, NAMES, OD, SS, Values
from regrow.deploy.sagemaker.options import TrainingCall
from regrow.deploy.sagemaker.translation import translate
from regrow.files import file_hash
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.pipelines import sagemaker
from regrow.pipelines.commands import TRAINING
from regrow.pipelines.train import NO_OPTIONS, run_training
from regrow.scripts import sagemaker_entry

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
# A fifth of the training images tests, so that there are some.
SMALL = {"epochs": "1", "mini_batch_size": "8", "num_classes": "2", "data.test_share": "0.2"}


@pytest.fixture
def run_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], int]:
    """Return a function that runs a job whose channels are there, and returns its exit code."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(sagemaker, "stop_with_parent", lambda: None)

    def run(hyperparameters: dict[str, str]) -> int:
        config, data = tmp_path / "input" / "config", tmp_path / "input" / "data"
        config.mkdir(parents=True)
        channels = {folder.name: {"TrainingInputMode": "File"} for folder in data.iterdir()}
        (config / "inputdataconfig.json").write_text(json.dumps(channels))
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        return sagemaker_entry.main([])

    return run


def scenes(base: Path, num_classes: int = 2) -> Sequence[tuple[str, str, int, np.ndarray]]:
    """Paint a square of the colour of its class into each image of both channels.

    Returns:
        Of each image its channel, its name, its class and where the square is, (32, 32).
    """
    found = []
    for channel in ("train", "validation"):
        for number in range(24):
            random = np.random.default_rng([number, *channel.encode()])
            pixels = random.integers(90, 130, (32, 32, 3), dtype=np.uint8)
            place = np.zeros((32, 32), bool)
            left, top = random.integers(0, 16, 2)
            place[top : top + 16, left : left + 16] = True
            pixels[place] = COLORS[number % num_classes]
            folder = base / "input" / "data" / channel
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            found.append((channel, f"{number}.png", number % num_classes, place))
    return found


def lists(base: Path, num_classes: int = 2) -> None:
    lines: dict[str, list[str]] = {}
    for channel, name, label, _ in scenes(base, num_classes=num_classes):
        own = lines.setdefault(channel, [])
        own.append(f"{len(own)}\t{label}\t{name}\n")
    for channel, own in lines.items():
        (base / "input" / "data" / f"{channel}_lst").mkdir()
        (base / "input" / "data" / f"{channel}_lst" / f"{channel}.lst").write_text("".join(own))


def annotations(base: Path) -> None:
    for channel, name, label, place in scenes(base):
        folder = base / "input" / "data" / f"{channel}_annotation"
        folder.mkdir(exist_ok=True)
        top, left = (int(place.any(axis).argmax()) for axis in (1, 0))
        box = {"class_id": label, "left": left, "top": top, "width": 16, "height": 16}
        content = {
            "file": name,
            "image_size": [{"width": 32, "height": 32, "depth": 3}],
            "annotations": [box],
            "categories": [{"class_id": 0, "name": "red"}, {"class_id": 1, "name": "green"}],
        }
        (folder / name).with_suffix(".json").write_text(json.dumps(content))


def masks(base: Path) -> None:
    data = base / "input" / "data"
    for channel, name, label, place in scenes(base):
        folder = data / f"{channel}_annotation"
        folder.mkdir(exist_ok=True)
        numbers = np.where(place, 10 * (1 + label), 0).astype(np.uint8)
        numbers[0] = 255
        Image.fromarray(numbers).save(folder / name)
    (data / "label_map").mkdir()
    for channel in ("train", "validation"):
        (data / "label_map" / f"{channel}_label_map.json").write_text('{"scale": "10"}')


JOBS: dict[str, tuple[Any, dict[str, str], list[str]]] = {
    IC: (
        lists,
        {"num_layers": "20", "image_shape": "3,32,32", "augmentation_type": "crop_color_transform"},
        ["0", "1"],
    ),
    OD: (annotations, {"image_shape": "64", "use_pretrained_model": "0"}, ["red", "green"]),
    SS: (
        masks,
        {"crop_size": "32", "use_pretrained_model": "False", "num_classes": "3"},
        ["0", "1", "2"],
    ),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_job_runs_as_it_stands(
    tmp_path: Path,
    run_job: Callable[[dict[str, str]], int],
    capsys: pytest.CaptureFixture[str],
    algorithm: str,
) -> None:
    lay_out, own, classes = JOBS[algorithm]
    lay_out(tmp_path)
    idle = {"base_size": "520"} if algorithm == SS else {"kv_store": "dist_sync"}
    given = SMALL | idle | own | {"replay": "0.5", "seed": "3"}
    if algorithm != IC:
        given["task.net"] = "small"  # the detectors and segmenters of torchvision take long
    assert run_job(given | {"num_training_samples": "24"}) == 0
    printed = capsys.readouterr().out
    assert "no effect" in printed
    assert "num_training_samples" not in printed
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    assert report["classes"] == classes
    assert report["onnx"]["is_equal"] is True
    assert report["seeds"] == [3]
    assert "on 24 validation images" in (tmp_path / "model" / "report.md").read_text()
    listed = json.loads((tmp_path / "model" / "memory" / "snapshot.json").read_text())
    assert 0 < listed["stands_for"] < 24
    assert all((tmp_path / "model" / "memory" / e["image"]).is_file() for e in listed["items"])
    task = load(tmp_path / "model" / "best.ckpt")
    assert (task.classes, task.optimization.optimizer) == (classes, "sgd")
    assert task.net_name == ("cifar_resnet20" if algorithm == IC else "small")


def test_a_job_grows_the_model_of_an_earlier_one(
    tmp_path: Path,
    run_job: Callable[[dict[str, str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists(tmp_path, num_classes=3)
    channel = tmp_path / "input" / "data" / "model"
    channel.mkdir()
    save(channel / "best.ckpt", Classification(["0", "1"], (32, 32), net="cifar_resnet20"))
    given = {"num_layers": "20", "image_shape": "3,32,32", "num_classes": "3"}
    assert run_job(SMALL | given) == 0
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    assert report["classes"] == ["0", "1", "2"]
    assert report["parent"] == file_hash(channel / "best.ckpt")
    line = "hyperparameter num_layers: no effect, the network is the model channel's"
    assert line in capsys.readouterr().out


def test_an_unknown_hyperparameter_ends_with_2(
    tmp_path: Path, run_job: Callable[[dict[str, str]], int]
) -> None:
    lists(tmp_path)
    assert run_job(SMALL | {"num_layer": "20"}) == 2
    line = "hyperparameter num_layer: image-classification has none of this name; did you mean num"
    assert (tmp_path / "output" / "failure").read_text().startswith(line)


def test_no_option_of_training_is_called_like_their_hyperparameters() -> None:
    options = set(sagemaker.OPTIONS)
    assert {"replay", "seed", "gate", "allow_forgetting"} <= options
    assert not options & (NAMES.keys() | {*NO_OPTIONS})


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        (IC, {"augmentation_type": "crop_color_transform", "lr_scheduler_step": "10,20"}),
        (IC, {"optimizer": "adam", "early_stopping": "True", "precision_dtype": "float16"}),
        (IC, {"optimizer": "rmsprop", "use_pretrained_model": 1}),
        (OD, {"optimizer": "nag", "early_stopping": True}),
        (SS, {"syncbn": "True", "early_stopping": "True", "lr_scheduler": "cosine"}),
        (SS, {"optimizer": "rmsprop"}),
    ],
)
def test_what_a_job_becomes_is_a_command_line_of_training(
    algorithm: str, given: dict[str, Any]
) -> None:
    source = {"data.source": "regrow.data.sagemaker.SageMakerList"}
    call = TrainingCall(translate(Values(algorithm, given)) | source, {"task.net": "small"})
    values, settings = read(run_training, call.options, base=call.base, **TRAINING)
    assert values["fit"].epochs == (10 if algorithm == SS else 30)
    assert values["data"].batch_size == (16 if algorithm == SS else 32)
    assert settings["task"]["class_path"].endswith(algorithm.rpartition("-")[2].capitalize())
    # The line that is logged, typed by a person.
    assert parse(run_training, call.words(), description="", **TRAINING)[1] == settings

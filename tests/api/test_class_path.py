"""What is written into files names a class by one path, whichever room it was had from."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import regrow
from regrow import data, models
from regrow.class_path import class_path, with_stable_paths
from regrow.cli import parse
from regrow.data.config import DATA_CHOICES, write_data_file
from regrow.data.formats import Coco, ImageFolder, Yolo
from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.pipelines.train import NO_OPTIONS, run_training
from regrow.prune.criteria import Taylor
from regrow.prune.dropout import SpatialDropout
from regrow.reporting.tensorboard import flat
from regrow.training.resume import refuse_changes

STABLE = {
    "regrow.data.formats.ImageFolder": ImageFolder,
    "regrow.data.formats.Coco": Coco,
    "regrow.data.module.GrowingData": GrowingData,
    "regrow.data.sample.Digits": Digits,
    "regrow.models.classification.Classification": Classification,
    "regrow.prune.criteria.Taylor": Taylor,
    "regrow.prune.dropout.SpatialDropout": SpatialDropout,
}


@pytest.mark.parametrize("path", STABLE)
def test_a_class_goes_by_the_path_that_stays(path: str) -> None:
    assert class_path(STABLE[path]) == path


def test_other_paths_of_a_class_become_the_one_that_stays() -> None:
    assert data.ImageFolder is ImageFolder
    assert models.Classification is regrow.Classification
    given: dict[str, Any] = {
        "task": {"class_path": "regrow.Classification", "init_args": {"net": "small"}},
        "data": [{"class_path": "regrow.data.ImageFolder"}, ("regrow.data.ImageFolder", 3)],
        "transform": {"class_path": "torchvision.transforms.v2.Normalize"},
    }
    assert with_stable_paths(given) == {
        "task": {
            "class_path": "regrow.models.classification.Classification",
            "init_args": {"net": "small"},
        },
        "data": [
            {"class_path": "regrow.data.formats.ImageFolder"},
            ["regrow.data.ImageFolder", 3],
        ],
        "transform": {"class_path": "torchvision.transforms.v2.Normalize"},
    }


def settings(task: str, source: str) -> dict[str, Any]:
    """Return the plain settings of a command line that names its classes by some path."""
    words = [f"--task={task}", f"--data.source={source}", "--data.root=images"]
    given: dict[str, Any] = {"skip": NO_OPTIONS, "choices": DATA_CHOICES}
    return parse(run_training, words, description="", **given)[1]


LONG = ("regrow.models.classification.Classification", "regrow.data.formats.ImageFolder")


@pytest.mark.parametrize(
    ("task", "source"),
    [
        ("regrow.Classification", "regrow.ImageFolder"),
        ("regrow.models.Classification", "regrow.data.ImageFolder"),
        (LONG[0], "regrow.data.formats.image_folder.ImageFolder"),
    ],
)
def test_settings_are_the_same_by_whatever_path(task: str, source: str, tmp_path: Path) -> None:
    written = settings(*LONG)
    assert settings(task, source) == written
    write_data_file(tmp_path, settings(task, source))
    found = yaml.safe_load((tmp_path / "data.yaml").read_text())["data"]
    assert found["class_path"] == "regrow.data.module.GrowingData"
    assert found["init_args"]["source"]["class_path"] == LONG[1]


def test_a_run_goes_on_by_another_path_of_its_class_and_not_with_another_class() -> None:
    old = flat(settings(*LONG))
    refuse_changes(old, flat(settings("regrow.Classification", "regrow.data.ImageFolder")))
    with pytest.raises(BadInput, match="cannot change task.class_path from .* to regrow.models.d"):
        refuse_changes(old, flat(settings("regrow.Detection", LONG[1])))


def test_a_class_in_a_room_within_a_room_is_named_by_the_outer_one() -> None:
    assert Yolo.__module__ == "regrow.data.formats.tools.yolo"
    assert class_path(Yolo) == "regrow.data.formats.Yolo"
    written = {"source": [{"class_path": "regrow.data.formats.tools.yolo.Yolo", "init_args": {}}]}
    wanted = {"source": [{"class_path": "regrow.data.formats.Yolo", "init_args": {}}]}
    assert with_stable_paths(written) == wanted

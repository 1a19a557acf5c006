"""What the platform says of a job is read, and refused where it says something else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.sagemaker.contract import Container, base_folder
from regrow.errors import BadInput

Job = Callable[..., Container]


def test_the_base_is_the_platforms_unless_the_environment_says_so() -> None:
    assert base_folder({}) == Path("/opt/ml")
    assert base_folder({"SAGEMAKER_BASE_DIR": "/tmp/ml"}) == Path("/tmp/ml")


def test_a_container_without_files_knows_the_folders(tmp_path: Path) -> None:
    made = Container.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path / "ml")})
    assert (made.hyperparameters, made.channels, made.hosts) == ({}, {}, ("algo-1",))
    assert made.checkpoints == tmp_path / "ml" / "checkpoints"


def test_without_a_list_of_channels_each_folder_of_data_is_one(job: Job, base: Path) -> None:
    job({}, "train")
    (base / "input" / "config" / "inputdataconfig.json").unlink()
    (base / "input" / "data" / "test").mkdir()
    (base / "input" / "data" / "note.txt").write_text("no folder")
    data = base / "input" / "data"
    made = Container.from_environment({"SAGEMAKER_BASE_DIR": str(base)})
    assert made.channels == {"test": data / "test", "train": data / "train"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"hyperparameters": "{"}, r"hyperparameters\.json: not JSON"),
        ({"resourceconfig": "[]"}, r"resourceconfig\.json: holds a list; expected a JSON object"),
        ({"inputdataconfig": {"train": {"TrainingInputMode": "Pipe"}}}, "channel train: in Pipe"),
        ({"inputdataconfig": {"train": {}}}, "channel train: .*train is not there"),
    ],
)
def test_files_that_cannot_be_used_are_named(job: Job, files: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        job(**files)


def write(base: Path, name: str, content: Any) -> None:
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("hosts", ["algo-1", 3, {"a": 1}, [1], [None], [["algo-1"]]])
def test_hosts_that_are_no_names_are_refused(base: Path, hosts: Any) -> None:
    write(base, "resourceconfig", {"hosts": hosts})
    with pytest.raises(BadInput, match=r"resourceconfig\.json: hosts is"):
        Container.from_environment()


@pytest.mark.parametrize("place", [3, ["a"], "\x00", {"a": "b"}, True])
def test_a_folder_of_checkpoints_that_is_no_path_is_refused(base: Path, place: Any) -> None:
    write(base, "checkpointconfig", {"LocalPath": place})
    with pytest.raises(BadInput, match=r"checkpointconfig\.json: LocalPath is"):
        Container.from_environment()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc", "", "a b", "\x00", "x" * 65])
def test_channels_lie_below_the_folder_of_inputs(base: Path, name: str) -> None:
    write(base, "inputdataconfig", {name: {"TrainingInputMode": "File"}})
    with pytest.raises(BadInput, match="channel .*SageMaker's names"):
        Container.from_environment()


def test_an_empty_base_is_none() -> None:
    assert base_folder({"SAGEMAKER_BASE_DIR": ""}) == Path("/opt/ml")

"""A folder in one command: what is printed is what runs, and what is given wins."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from regrow.errors import BadInput
from regrow.models.checkpoint import load
from regrow.pipelines import commands
from regrow.pipelines.recipes.command_line import with_recipe

Folder = Callable[..., Path]
Printed = Callable[[], dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return a maker of folders of noisy colours, one folder a class and no splits."""

    def make(count: int = 30, names: tuple[str, ...] = ("green", "red"), root: str = "own") -> Path:
        random = np.random.default_rng(0)
        for place, name in enumerate(names):
            (tmp_path / root / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = random.integers(0, 60, (16, 16, 3)) + np.eye(3)[place % 3] * 150
                file = tmp_path / root / name / f"{number}.png"
                if not file.exists():
                    Image.fromarray(noise.astype(np.uint8)).save(file)
        return tmp_path / root

    return make


@pytest.fixture
def words(tmp_path: Path) -> Callable[..., list[str]]:
    def make(root: Path, *more: str, run: str = "run") -> list[str]:
        own = ["--task", "classification", f"--data.root={root}", "--fit.epochs", "2"]
        return [*own, "--fit.images=0", f"--run={tmp_path / run}", *more]

    return make


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return what reads the config that a command has printed."""

    def config() -> dict[str, Any]:
        lines = capsys.readouterr().out.splitlines()
        kept = [line for line in lines if line.startswith(("#", " ", "-")) or line[:4] in STARTS]
        return yaml.safe_load("\n".join(kept))

    return config


STARTS = ("task", "data", "fit:", "run:", "warm", "seed")


def settings(words: list[str]) -> dict[str, Any]:
    with with_recipe(words, commands.read_training) as found:
        return commands.read_training(found)[1]


def test_what_is_printed_and_left_is_what_runs(
    folder: Folder, words: Callable[..., list[str]], printed: Printed, tmp_path: Path
) -> None:
    given = words(folder(), "--task.optimization.lr", "0.01", "--data.batch_size=4")
    wanted = settings(given)
    short = printed()
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    assert settings([f"--config={tmp_path / 'short.yaml'}"]) == wanted
    assert short["fit"] == {"epochs": 2, "images": 0}
    assert short["data"]["source"]["class_path"] == "regrow.data.formats.ImageFolder"
    assert short["data"]["batch_size"] == 4
    assert short["task"]["init_args"]["optimization"]["lr"] == 0.01
    assert "seed" not in short
    report = commands.train(given)
    assert report.figures["score"]["value"] > 0.8
    assert settings([f"--config={tmp_path / 'run' / 'config.yaml'}"]) == wanted
    ran = load(tmp_path / "run" / "last.ckpt").provenance.settings
    assert (ran["data.size"], ran["data.batch_size"]) == ([16, 16], 4)


def test_a_stopped_run_goes_on_with_its_own_recipe(
    folder: Folder, words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = words(folder(), "--resume", "auto")
    commands.train(given)
    before = load(tmp_path / "run" / "last.ckpt").provenance.settings
    # Another machine would choose otherwise.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(64))
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    commands.train(given)
    assert load(tmp_path / "run" / "last.ckpt").provenance.settings == before
    with pytest.raises(BadInput, match="cannot change fit.epochs from 2 to 3"):
        commands.train([*given, "--fit.epochs", "3"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"source": {"class_path": "subprocess.Popen"}}}, "names 'subprocess.Popen'"),
        ({"task": {"class_path": "subprocess.Popen", "init_args": {}}}, "no config of a training"),
        ({"task": {"net": "os.system"}}, "names the network 'os.system'"),
        ({"task": {"penalties": [{"class_path": "subprocess.Popen"}]}}, "more than a recipe has"),
        ({"fit": {"trainer": {"profiler": "x"}}}, "more than a recipe has"),
        ({"fit": 3}, "no config of a training run"),
    ],
)
def test_a_strangers_config_in_the_folder_names_nothing(
    folder: Folder,
    words: Callable[..., list[str]],
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
) -> None:
    given = words(folder(), "--resume=auto")
    config = settings([word for word in given if "resume" not in word])
    for part, values in change.items():
        if not isinstance(values, dict) or "class_path" in values:
            config[part] = values
        else:
            inner = config[part]["init_args"] if "init_args" in config[part] else config[part]
            inner |= values
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(BadInput, match=said):
        settings(given)


def test_a_warm_start_needs_no_task_and_keeps_network_and_size(
    folder: Folder, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    commands.train(words(folder(12), "--task.net_args={width: 8}", "--data.size=[24, 24]"))
    parent = tmp_path / "run" / "best.ckpt"
    root = folder(24, ("blue", "green", "red"))
    given = words(root, "--warm-start", str(parent), run="warm")
    report = commands.train([word for word in given if word not in ("--task", "classification")])
    assert report.figures["data"]["diff"]["new_classes"] == ["blue"]
    net = load(tmp_path / "warm" / "best.ckpt")
    assert (net.size, net.net_args) == ((24, 24), {"width": 8})
    with pytest.raises(BadInput, match="is a network for classification; name that task, or none"):
        settings(["--task=detection", f"--data.root={root}", f"--warm-start={parent}"])


def test_stratified_splits_stay_over_a_warm_start_and_its_resumption(
    folder: Folder, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    def splits(file: Path) -> dict[bytes, int]:
        manifest = load(file).provenance.manifest
        assert manifest is not None
        pairs = zip(manifest["hashes"].numpy(), manifest["splits"].tolist(), strict=True)
        return {key.tobytes(): split for key, split in pairs}

    commands.train(words(folder(12), "--data.stratify=true"))
    parent = tmp_path / "run" / "best.ckpt"
    given = words(folder(30), f"--warm-start={parent}", "--data.stratify=true", run="warm")
    commands.train(given)
    old, new = splits(parent), splits(tmp_path / "warm" / "last.ckpt")
    assert old.items() <= new.items()
    assert len(new) == 60
    commands.train([*given, "--resume=auto"])


def test_a_short_name_stands_for_the_class_beside_a_config(folder: Folder) -> None:
    config = Path(__file__).parents[3] / "configs" / "classification.yaml"
    own = [f"--config={config}", "--fit.epochs=1"]
    wanted = settings(own)
    for more in (["--task=classification"], ["--task", "Classification"]):
        assert settings([*own, *more]) == wanted
    found = settings([*own, "--task", "classification", "--task.net=cifar_resnet20"])
    assert found["task"]["init_args"]["net"] == "cifar_resnet20"


@pytest.mark.parametrize("name", ["Classification", "regrow.models.classification.Classification"])
def test_a_class_path_needs_no_config_and_gets_no_recipe(
    folder: Folder, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [f"--data.root={folder()}", "--data.source=regrow.data.formats.ImageFolder"]
    found = settings([f"--task={name}", "--task.net=small", *own])
    assert found["data"]["init_args"]["size"] == [32, 32]
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the task and the folder of images, --task classification|detection|segm"),
        (["--data.root=x"], "name the task and the folder"),
        (["--task=detction"], "--task is 'detction', did you mean detection.; give classification"),
        (["--task=boxes", "--data.root=x"], "--task is 'boxes'; give classification, detection or"),
        (["--task=detection"], "--task detection needs a folder .*add --data.root FOLDER"),
        (["--task", "segmentation", "--fit.epochs=3"], "--task segmentation needs a folder"),
    ],
)
def test_a_command_without_a_folder_or_a_config_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        settings(words)


def test_folders_without_use_are_refused(folder: Folder, tmp_path: Path) -> None:
    root = folder()
    with pytest.raises(BadInput, match="pictures .* without labels of a known format|needs boxes"):
        settings(["--task=detection", f"--data.root={root}"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no pictures in it"):
        settings(["--task=classification", f"--data.root={tmp_path / 'empty'}"])
    (root / "list.csv").write_text("image,label\ngreen/0.png,green\n")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "0.xml").write_text("<annotation/>")
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text("{}")
    with pytest.raises(BadInput, match="labels in 2 formats|holds"):
        settings(["--task=detection", f"--data.root={root}"])
    own = "--data.source=regrow.data.formats.ImageFolder"
    found = settings(["--task=classification", f"--data.root={root}", own])
    assert found["data"]["init_args"]["source"]["class_path"].endswith("ImageFolder")


def test_a_source_of_another_task_that_is_named_is_refused(folder: Folder) -> None:
    own = "--data.source=regrow.data.formats.ImageFolder"
    with pytest.raises(BadInput, match="holds labels, for --task classification; detection needs"):
        settings(["--task=detection", f"--data.root={folder()}", own])


def test_only_the_first_of_several_processes_prints(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
    settings(["--task=classification", f"--data.root={folder()}"])
    assert not capsys.readouterr().out


def test_a_config_without_a_format_lies_over_the_recipe(
    folder: Folder, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("fit: {epochs: 5, patience: 2}\ndata: {batch_size: 4}\n")
    given = [word for word in words(folder()) if word not in ("--fit.epochs", "2")]
    found = settings([*given, f"--config={own}"])
    assert found["data"]["init_args"]["source"]["class_path"] == "regrow.data.formats.ImageFolder"
    assert (found["fit"]["epochs"], found["fit"]["patience"]) == (5, 2)
    assert found["data"]["init_args"]["batch_size"] == 4
    assert found["task"]["init_args"]["net"] == settings(given)["task"]["init_args"]["net"]
    own.write_text("data: {source: regrow.data.formats.Coco}\n")
    # One that names a format is a whole config, without a recipe.
    found = settings(["--task=detection", "--task.net=small", f"--config={own}"])
    assert found["data"]["init_args"]["source"]["class_path"] == "regrow.data.formats.Coco"
    assert found["data"]["init_args"]["size"] == [32, 32]

"""Words become one call of a pipeline, and its end is told as a command tells it."""

import inspect
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from regrow.data.config import build_data
from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.pipelines import commands
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.train import NO_OPTIONS, run_training
from regrow.training.fit import Fit

ROOT = Path(__file__).parents[2]
Words = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path) -> Words:
    """Return a maker of the words of a training on 16 digits, whose weights stay as they are."""
    short = ["--data.max_images=16", "--data.batch_size=8", "--fit.epochs=1", "--fit.images=0"]
    short += ["--task.net=small", '--task.net_args={"width": 4}', "--task.optimization.lr=0"]
    config = f"--config={ROOT / 'configs' / 'classification.yaml'}"
    return lambda run="run", *more: [config, *short, f"--run={tmp_path / run}", *more]


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """Write a network of digits, and the data beside it."""
    save(tmp_path / "net.ckpt", Classification(GrowingData(Digits()).classes, (32, 32)))
    source = {"class_path": "regrow.data.sample.Digits"}
    options = {"source": source, "max_images": 16, "batch_size": 8}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": options}))
    return tmp_path / "net.ckpt"


def test_the_options_of_a_training_are_its_arguments(words: Words, tmp_path: Path) -> None:
    values, settings = commands.read_training(words("run", "--seed=7", "--warm-start=old.ckpt"))
    assert values.keys() == inspect.signature(run_training).parameters.keys() - {*NO_OPTIONS}
    assert (values["run"], values["seed"]) == (tmp_path / "run", 7)
    assert values["warm_start"] == Path("old.ckpt")
    assert isinstance(values["data"].source, Digits)
    task = values["task"](["a", "b"], (32, 32))
    assert (task.net_args, task.optimization.lr) == ({"width": 4}, 0)
    # The same as plain data, which a YAML file can hold.
    assert settings == yaml.safe_load(yaml.safe_dump(settings))
    assert (settings["seed"], settings["fit"]["epochs"]) == (7, 1)
    assert isinstance(build_data(settings["data"]).source, Digits)


@pytest.mark.parametrize(
    ("option", "named"),
    [("--sede=7", "sede"), ("--fit.epochs=many", "fit.epochs"), ("--settings={}", "settings")],
)
def test_what_is_no_option_is_named(words: Words, option: str, named: str) -> None:
    with pytest.raises(BadInput, match=named) as refused:
        commands.read_training(words("run", option))
    assert "\n" not in str(refused.value)


def test_a_shut_gate_fails_when_all_files_are_there(words: Words, tmp_path: Path) -> None:
    served, file = tmp_path / "served.ckpt", tmp_path / "promoted.json"
    save(served, Classification(GrowingData(Digits()).classes, (32, 32)))
    content = {"checkpoint": "served.ckpt", "sha256": file_hash(served), "refused": None}
    file.write_text(json.dumps(content))
    values, settings = commands.read_training(words("run", "--gate.floor=1"))
    with pytest.raises(CheckFailed, match="^not to be served: ") as failed:
        commands.train_as_read(values | {"promoted": file}, settings, "the command")
    run = tmp_path / "run"
    figures = json.loads((run / "report.json").read_text())
    assert str(failed.value) == (
        f"not to be served: {'; '.join(figures['gate']['reasons'])}; {served} stays"
    )
    assert figures["command"] == load(run / "best.ckpt").provenance.command == "the command"


class Stopped(Classification):
    """A network whose training is ended by an exit after some batches."""

    left = 0

    def training_step(self, *args: Any) -> Any:
        if not self.left:
            raise SystemExit(128 + signal.SIGTERM)
        self.left -= 1
        return super().training_step(*args)


@pytest.mark.parametrize(
    ("num_batches", "note"),
    [
        (1, "nothing was saved yet: give the same command again"),
        (2, "{} goes on by the same command with --resume auto"),  # in its second epoch
    ],
)
def test_a_stopped_training_tells_how_to_go_on(
    words: Words, tmp_path: Path, num_batches: int, note: str
) -> None:
    def task(classes: list[str], size: tuple[int, int]) -> Stopped:
        made = Stopped(classes, size, net_args={"width": 4})
        made.left = num_batches
        return made

    values, settings = commands.read_training(words("run", "--fit.epochs=2"))
    with pytest.raises(SystemExit) as ended:
        commands.train_as_read(values | {"task": task}, settings, "the command")
    assert ended.value.__notes__ == [note.format(tmp_path / "run")]


def test_pruning_takes_another_fine_tuning(dense: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, Path]] = []

    def train(task: Any, data: GrowingData, fit: Fit, run: Path, **_: Any) -> None:
        calls.append((fit.epochs, run))

    options = [
        "--search=null",
        "--clock.runtime=torch",
        "--clock.rounds=1",
        "--num_steps=1",
        "--budget.max_drop=1",
    ]
    options += ["--recovery.epochs=3", f"--run={tmp_path / 'run'}"]
    report = commands.prune([f"--checkpoint={dense}", *options], train=train)
    assert calls == [(3, tmp_path / "run")]
    assert report.figures["parent"] == file_hash(dense)
    assert report.figures["command"].startswith("python scripts/prune.py --checkpoint=")
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(BadInput, match=r"data\.yaml: not there, so name the data with --config"):
        commands.prune([f"--checkpoint={dense}", *options[:-1], f"--run={tmp_path / 'other'}"])
    assert not (tmp_path / "other").exists()


def test_pruning_offers_no_option_that_python_alone_can_give(dense: Path) -> None:
    given = inspect.signature(run_pruning).parameters
    for name in ("settings", "command_line", "train", "begin"):
        assert name in given
        with pytest.raises(BadInput, match=name):
            commands.prune([f"--checkpoint={dense}", f"--{name}=x"])


def test_an_export_takes_its_checkpoint_by_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/export.py", str(tmp_path / "no.ckpt")])
    for args in (None, [str(tmp_path / "no.ckpt")]):
        with pytest.raises(BadInput, match=r"no\.ckpt: no such checkpoint; give the path of a"):
            commands.export(args)

"""A pruning run, called from Python."""

import doctest
import json
from pathlib import Path

import pytest
import torch
import yaml
from clocks import THOUSANDS, weighing
from torch.nn import Conv2d

from regrow.cli import parse
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.logs import log
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.models.onnx.command_clock import ClockFailed
from regrow.models.optimization import Optimization
from regrow.models.task import Task
from regrow.pipelines import commands
from regrow.pipelines.prune import run_pruning
from regrow.prune.masking import Weights
from regrow.prune.search.settings import Search
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.fit import Fit

QUICK = {"clock": Clock(runtime="torch", rounds=1), "num_steps": 1, "budget": Budget(1.0)}
QUICK |= {"search": None}


def checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 8})
    save(folder / "dense.ckpt", task)
    return folder / "dense.ckpt"


def test_the_example_of_its_docstring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(__file__).parents[2] / "configs" / "classification.yaml"
    short = ["--data.max_images=24", "--data.batch_size=8", "--fit.epochs=1"]
    monkeypatch.chdir(tmp_path)
    commands.train([f"--config={config}", *short, "--run=runs/train"])
    capsys.readouterr()
    monkeypatch.setattr(log, "handlers", [])
    (test,) = doctest.DocTestFinder(recurse=False).find(run_pruning, "run_pruning", globs={})
    for example in test.examples:
        example.options.clear()  # they are skipped where there is no checkpoint
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.attempted == len(test.examples) == 7
    assert result.failed == 0, "".join(said)
    assert (tmp_path / "runs" / "prune" / "pruned.ckpt").is_file()
    # From Python nothing is printed unasked.
    assert capsys.readouterr().out == ""


def test_a_criterion_is_written_by_the_path_that_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A shorter one is offered by the room, and may move."""
    for name in ("Taylor", "regrow.prune.Taylor", "regrow.prune.criteria.Taylor"):
        with pytest.raises(SystemExit):
            commands.prune(["--checkpoint=x", f"--criterion={name}", "--print_config"])
        assert "class_path: regrow.prune.criteria.Taylor\n" in capsys.readouterr().out


def test_fine_tuning_is_an_argument(tmp_path: Path, data: GrowingData) -> None:
    calls: list[dict] = []

    def train(task: Task, given: GrowingData, fit: Fit, run: Path, **options: object) -> None:
        assert given is data
        calls.append({"epochs": fit.epochs, "run": run, **options})

    run, file = tmp_path / "run", checkpoint(tmp_path)
    report = run_pruning(
        file, data, run=run, train=train, recovery=Fit(epochs=3, devices=1), final_epochs=2,
        seed=7, **QUICK,
    )  # fmt: skip
    told = [(call["epochs"], call["run"], call["seed"], call["round_"]) for call in calls]
    assert told == [(3, run, 7, 1), (2, run, 7, 2)]
    assert [call["state"] for call in calls] == [run / "recovery" / "1", run / "recovery" / "2"]
    assert [step["is_final"] for step in report.figures["steps"]] == [False, True]
    assert json.loads((run / "report.json").read_text()) == report.figures
    assert report.figures["seeds"] == [7]


def test_masked_weights_take_no_target(
    tmp_path: Path, data: GrowingData, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", checkpoint(tmp_path)
    options = QUICK | {"recovery": Fit(epochs=0, devices=1)}
    run_pruning(file, data, weights=Weights(share=0.5), run=run, **options)
    said = capsys.readouterr().out
    assert "target, selection and search have no say: weights are masked, no channel goes" in said
    pruned, dense = load(run / "pruned.ckpt"), load(file)
    assert [p.shape for p in pruned.net.parameters()] == [p.shape for p in dense.net.parameters()]


def test_layers_that_are_named_stay_and_are_told(tmp_path: Path, data: GrowingData) -> None:
    run, file = tmp_path / "run", checkpoint(tmp_path)
    words = ["--selection.keep", "stage1", "*.shortcut", "--selection.limit={'stage2.*': 0.5}"]
    words += [f"--checkpoint={file}", "--selection.round_to=1"]
    values, plain = parse(run_pruning, words, description="", skip=["data", "settings", "train"])
    assert plain["selection"]["limit"] == {"stage2.*": 0.5}
    assert values["selection"].keep == ["stage1", "*.shortcut"]
    options = QUICK | {"recovery": Fit(epochs=0, devices=1), "target": Target(macs=0.9)}
    names = [name for name, part in load(file).net.named_modules() if isinstance(part, Conv2d)]
    keep, limit = [names[0]], {names[1]: 0.25}
    selection = Selection(round_to=1, keep=keep, limit=limit)
    run_pruning(file, data, run=run, selection=selection, **options)
    page = (run / "report.md").read_text()
    assert "selection.keep names it" in page.partition("## Left whole")[2]
    dense, pruned = load(file).net, load(run / "pruned.ckpt").net
    old, new = (dict(net.named_modules()) for net in (dense, pruned))
    assert new[names[0]].out_channels == old[names[0]].out_channels
    assert new[names[1]].out_channels >= 0.75 * old[names[1]].out_channels
    with pytest.raises(BadInput, match=r"selection\.keep has no say where single weights"):
        run_pruning(file, data, run=run, selection=selection, weights=Weights(0.5), **options)


def test_a_command_of_the_users_is_the_clock(tmp_path: Path, data: GrowingData) -> None:
    """One that counts bytes: the smaller file is met as the target, and told in the report."""
    run, file, log = tmp_path / "run", checkpoint(tmp_path), tmp_path / "log"
    clock = Clock(command=weighing(log), runs=2)
    options = QUICK | {"clock": clock, "recovery": Fit(epochs=0, devices=1)}
    target = Target(latency=0.9)
    report = run_pruning(
        file, data, run=run, target=target, selection=Selection(round_to=1), **options
    )
    before, after = report.figures["before"], report.figures["after"]
    assert 0.8 < after["latency_ms"] / before["latency_ms"] <= 0.9
    times = {"before": [before["latency_ms"]] * 2, "after": [after["latency_ms"]] * 2}
    assert report.figures["clock"] == {"command": clock.command, "times": times}
    page = (run / "report.md").read_text()
    assert "run 2 times on each network, in turns. No run of one network is within" in page
    assert "| after | " in page.partition("## Clock")[2]
    assert "| 0.0 % |" in page


def test_a_clock_that_fails_on_the_way_loses_nothing(tmp_path: Path, data: GrowingData) -> None:
    run, file, log = tmp_path / "run", checkpoint(tmp_path), tmp_path / "log"
    # It fails from the fifth run: the try, and two networks at step 0, are four.
    fail = f"; sys.exit(len(open({str(log)!r}).read().split()) in (6, 7))"
    clock = Clock(command=weighing(log, THOUSANDS + fail), runs=1)
    options = QUICK | {"clock": clock, "recovery": Fit(epochs=0, devices=1), "num_steps": 2}
    with pytest.raises(ClockFailed, match="ended with exit code 1"):
        run_pruning(file, data, run=run, **options)
    assert (run / "progress.ckpt").is_file()
    log.write_text(". " * 20)
    resumed = run_pruning(file, data, run=run, resume=True, **options)
    log.write_text(". " * 20)
    whole = run_pruning(file, data, run=tmp_path / "whole", **options)
    assert resumed.figures["steps"] == whole.figures["steps"]


def test_a_command_runs_for_no_file_that_the_user_has_not_named(
    tmp_path: Path, data: GrowingData
) -> None:
    """Neither what lies beside a checkpoint nor a stopped run's own settings bring one in."""
    run, file, log = tmp_path / "run", checkpoint(tmp_path), tmp_path / "log"
    evil = {"clock": {"command": weighing(log)}}
    options = QUICK | {"recovery": Fit(epochs=0, devices=1)}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stopped = options | {"recovery": Fit(epochs=1, devices=1), "train": stop}
    with pytest.raises(KeyboardInterrupt):
        run_pruning(file, data, run=run, settings={"seed": 0, **evil}, **stopped)
    for name in ("config.yaml", "data.yaml"):
        (run / name).write_text(yaml.safe_dump(evil))
    with pytest.raises(BadInput, match=r"--resume cannot change clock\.command from .* to None"):
        run_pruning(file, data, run=run, settings={"seed": 0}, resume=True, **options)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(evil))
    with pytest.raises(BadInput):
        run_pruning(file, run=tmp_path / "other", **options)
    assert not log.exists()


def test_a_searched_and_compensated_network_is_written(
    tmp_path: Path, data: GrowingData, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", checkpoint(tmp_path)
    search = Search(candidates=4, num_images=8, num_batches=1)
    options = QUICK | {"recovery": Fit(epochs=0, devices=1), "search": search}
    report = run_pruning(
        file, data, compensate=True, selection=Selection(round_to=1), run=run,
        **options,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "search: the best of " in said
    assert "fitted by least squares" in said
    assert report.figures["after"]["macs"] <= 0.5 * report.figures["before"]["macs"]
    assert load(run / "pruned.ckpt").net_name == load(file).net_name


def test_trials_of_a_search_train_with_the_optimizer_of_the_run(
    tmp_path: Path, data: GrowingData, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search(candidates=3, num_images=8, num_batches=1, trials=2, trial_steps=3)
    options = QUICK | {"recovery": Fit(epochs=0, devices=1), "search": search}
    wild = Optimization("sgd", lr=1e30)
    run_pruning(
        checkpoint(tmp_path), data, optimization=wild,
        selection=Selection(round_to=1), run=tmp_path / "run", **options,
    )  # fmt: skip
    assert "search: 2 candidates tried after 3 steps of training" in (
        said := capsys.readouterr().out
    )
    assert "-> inf" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_steps": 0}, "num_steps is 0, it must be at least 1, and final_epochs 0"),
        ({"final_epochs": -1}, "and final_epochs -1, it must be 0 or more"),
        ({"recovery": Fit(devices=2)}, r"recovery\.devices: pruning runs in one process"),
        (
            {"weights": Weights(share=0.5), "selection": Selection(branches=True)},
            r"selection\.branches has no say where single weights are masked",
        ),
        (
            {"weights": Weights(share=0.5), "compensate": True},
            "compensate has no say where single weights are masked; give it or weights",
        ),
        ({"resume": True}, "has no pruning run that was stopped; start it without --resume"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_folder_is_made(
    tmp_path: Path, data: GrowingData, options: dict, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        run_pruning(checkpoint(tmp_path), data, run=tmp_path / "run", **QUICK | options)
    assert not (tmp_path / "run").exists()

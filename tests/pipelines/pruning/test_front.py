"""A front: each target from the last, beside the unpruned network, stopped and resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.data.images.decoding import decode
from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.pipelines import commands
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.pruning.front import draws_front, run_front
from regrow.prune.masking import Weights
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.reporting.charts import PLOT
from regrow.reporting.pictures import color
from regrow.reporting.report import Report
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

QUICK: dict[str, Any] = {
    "search": None,
    "clock": Clock(runtime="torch", rounds=1),
    "num_steps": 1,
    "budget": Budget(1.0),
    "selection": Selection(round_to=1),
    "recovery": Fit(epochs=1, devices=1),
}


def checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    save(folder / "dense.ckpt", Classification(["a", "b"], (16, 16), net_args={"width": 8}))
    return folder / "dense.ckpt"


def weights(file: Path) -> dict[str, Tensor]:
    return load(file).net.state_dict()


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_each_target_goes_on_from_the_last_and_is_compared_with_the_first(
    tmp_path: Path, data: GrowingData
) -> None:
    run, file = tmp_path / "run", checkpoint(tmp_path)
    report = run_pruning(file, data, targets=[0.8, 0.5], export=True, run=run, **QUICK)
    run_pruning(file, data, target=Target(macs=0.8), run=tmp_path / "one", **QUICK)
    assert same(run / "0.8" / "pruned.ckpt", tmp_path / "one" / "pruned.ckpt")
    last = tmp_path / "one" / "pruned.ckpt"
    run_pruning(last, data, reference=file, target=Target(macs=0.5), run=tmp_path / "two", **QUICK)
    assert same(run / "0.5" / "pruned.ckpt", tmp_path / "two" / "pruned.ckpt")
    points, before = report.figures["points"], report.figures["before"]
    assert [point["folder"] for point in points] == ["0.8", "0.5"]
    for point in points:
        assert 0.9 * point["target"] < point["macs"] / before["macs"] <= point["target"]
        own = json.loads((run / point["folder"] / "report.json").read_text())
        assert (own["before"]["macs"], own["before"]["score"]) == (before["macs"], before["score"])
        assert own["after"]["score"] == point["score"]
        assert own["onnx"]["is_equal"]
        assert (run / point["folder"] / "model.onnx").is_file()
    page = (run / "report.md").read_text()
    assert "2 of 2 targets were reached" in page
    assert page.count("| 0.8 |") == page.count("| unpruned |") == 1
    assert all(decode(run / f"{name}.png").shape == (620, 1100, 3) for name in ("macs", "latency"))
    assert not (run / "front.json").exists()
    assert json.loads((run / "report.json").read_text()) == report.figures


@pytest.mark.parametrize("calls", [1, 2])
def test_a_front_that_is_stopped_goes_on_to_the_same_end(
    tmp_path: Path, data: GrowingData, calls: int
) -> None:
    run, file, left = tmp_path / "run", checkpoint(tmp_path), [calls]

    def stopping(*args: Any, **options: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        fine_tune_(*args, **options)

    options = QUICK | {"targets": [0.8, 0.5]}
    with pytest.raises(KeyboardInterrupt):
        run_pruning(file, data, run=run, train=stopping, **options)
    with pytest.raises(BadInput, match="--resume cannot change targets from"):
        run_pruning(file, data, run=run, resume=True, **options | {"targets": [0.8, 0.4]})
    run_pruning(file, data, run=run, resume=True, **options)
    run_pruning(file, data, run=tmp_path / "whole", **options)
    for name in ("0.8", "0.5"):
        assert same(run / name / "pruned.ckpt", tmp_path / "whole" / name / "pruned.ckpt")
    assert not list(run.glob("*-1"))
    with pytest.raises(BadInput, match="has no run with targets that was stopped"):
        run_pruning(file, data, run=run, resume=True, **options)


def test_a_point_may_be_undecided(tmp_path: Path, data: GrowingData) -> None:
    """Of 8 images a loss of 31 points need not show on any, by 1 - 0.05 ** (1 / 8)."""
    options = QUICK | {"recovery": Fit(epochs=0, devices=1), "budget": Budget(0.1)}
    file = checkpoint(tmp_path)
    report = run_pruning(file, data, targets=[0.97, 0.95], run=tmp_path / "run", **options)
    assert [point["is_met"] for point in report.figures["points"]] == ["undecided"] * 2
    assert (tmp_path / "run" / "report.md").read_text().count("| undecided |") == 2


def test_layers_keep_their_share_of_the_unpruned_width(tmp_path: Path, data: GrowingData) -> None:
    """Not of what the target before has left, of which a share of a share would go."""
    run, file = tmp_path / "run", checkpoint(tmp_path)
    options = QUICK | {"selection": Selection(round_to=1, max_share=0.5)}
    options |= {"recovery": Fit(epochs=0, devices=1)}
    run_pruning(file, data, targets=[0.6, 0.4], run=run, **options)
    dense, small = load(file).net.state_dict(), load(run / "0.4" / "pruned.ckpt").net.state_dict()
    assert any(small[name].shape != dense[name].shape for name in dense)
    for name, tensor in dense.items():
        assert all(2 * n >= m for n, m in zip(small[name].shape, tensor.shape, strict=True)), name


def test_a_target_out_of_reach_is_refused_before_the_first_is_worked_for(
    tmp_path: Path, data: GrowingData
) -> None:
    run, file = tmp_path / "run", checkpoint(tmp_path)
    (run / "0.8").mkdir(parents=True)
    (run / "regrow.txt").write_text("an earlier run")
    with pytest.raises(BadInput, match=r"target\.macs 1e-06 is out of reach"):
        run_pruning(file, data, targets=[0.8, 1e-6], run=run, **QUICK)
    assert (run / "regrow.txt").read_text() == "an earlier run", "it was not moved"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": [0.5, 0.75]}, r"targets are \[0\.5, 0\.75\]; each continues from the last"),
        ({"targets": [0.5, 0.5]}, "so each must be smaller than it"),
        ({"targets": [0.5]}, "give at least two, or one as target.macs"),
        ({"targets": []}, "give at least two"),
        ({"targets": [1.5, 0.5]}, r"each is a share to keep, and must lie in \(0, 1\]"),
        ({"targets": [0.5, 0.0]}, "each is a share to keep"),
        ({"targets": [0.5, float("nan")]}, "each is a share to keep"),
        ({"targets": [0.50000001, 0.5]}, "two are the same to six digits"),
        ({"targets": [0.7, 0.5], "target": Target(macs=0.5)}, "target has no say beside targets"),
        ({"targets": [0.7, 0.5], "weights": Weights(0.5)}, "weights masks single weights; give"),
    ],
)
def test_targets_that_cannot_be_are_refused_before_a_folder_is_made(
    tmp_path: Path, options: dict, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        run_pruning(tmp_path / "x.ckpt", run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_targets_are_given_by_words(tmp_path: Path) -> None:
    for words in (["--targets", "0.5", "0.75"], ["--targets=[0.5,0.75]"]):
        with pytest.raises(BadInput, match=r"targets are \[0\.5, 0\.75\]; each continues"):
            commands.prune([f"--checkpoint={tmp_path / 'x'}", *words])


def told(**endings: dict[str, Any]) -> tuple[Callable[..., Report], list[dict[str, Any]]]:
    """Return a pruning that only writes its report, and its calls."""
    calls: list[dict[str, Any]] = []

    def prune(**options: Any) -> Report:
        calls.append(options)
        if options["begin"] is not None:
            options["begin"]()
        folder, share = options["run"], options["target"].shares()["latency"]
        folder.mkdir()
        (folder / "pruned.ckpt").touch()
        report = Report(folder, title="", command="", task="classification", classes=["a"])
        report.set_score("accuracy", share)
        cost = {"macs": 1000, "params": 100, "latency_ms": 2.0}
        report.set(
            runtime="PyTorch", stopped="target", before={"score": 1.0, **cost},
            after={"score": share, **{name: share * value for name, value in cost.items()}},
            budget={"is_met": True, "interval": [share - 1.1, share - 0.9]},
        )  # fmt: skip
        report.set(**endings.get(folder.name, {}))
        report.write()
        if report.figures["stopped"] != "target":
            raise CheckFailed("not reached")
        return report

    return prune, calls


def options(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return all arguments of a pruning by name, as the front is given them."""
    found: list[dict[str, Any]] = []

    def keep(prune: Any, arguments: dict[str, Any]) -> Any:
        found.append(dict(arguments))

    given = {"checkpoint": checkpoint(tmp_path), "data": object(), "targets": [0.8, 0.5, 0.2]}
    given |= {"targets_of": "latency", "run": tmp_path / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regrow.pipelines.pruning.front.run_front", keep)
        draws_front(run_pruning.__wrapped__.__wrapped__)(**given | changes)
    return found[0]


def test_the_front_stops_where_a_target_is_not_reached(tmp_path: Path) -> None:
    prune, calls = told(**{"0.5": {"stopped": "budget"}})
    given = options(tmp_path)
    with pytest.raises(CheckFailed, match=r"of the targets, 0\.5: the target was not reached; see"):
        run_front(prune, given)
    run = tmp_path / "run"
    assert [call["target"] for call in calls] == [Target(latency=0.8), Target(latency=0.5)]
    starts = [given["checkpoint"], run / "0.8" / "pruned.ckpt"]
    assert [call["checkpoint"] for call in calls] == starts
    assert [call["reference"] for call in calls] == [given["checkpoint"]] * 2
    page = (run / "report.md").read_text()
    assert "Not tried, since the one before was not reached: 0.2." in page
    assert "| 0.5 (not reached) |" in page


def test_a_front_of_before_an_option_goes_on_with_its_default(tmp_path: Path) -> None:
    prune, calls = told()
    settings = {"int8": False, "calibration_images": 256, "selection": {"branches": False}}
    given = options(tmp_path, settings=settings)
    with pytest.raises(KeyboardInterrupt):
        run_front(stopped_by(prune), given)
    file = tmp_path / "run" / "front.json"
    began = json.loads(file.read_text())
    for name in ("int8", "calibration_images", "selection.branches"):
        del began[name]
    file.write_text(json.dumps(began))
    with pytest.raises(BadInput, match="--resume cannot change calibration_images from 256 to 9"):
        run_front(prune, given | {"resume": True, "settings": settings | {"calibration_images": 9}})
    run_front(prune, given | {"resume": True})
    assert [call["target"].latency for call in calls] == [0.8, 0.5, 0.2]


def stopped_by(prune: Callable[..., Report]) -> Callable[..., Report]:
    """Return a pruning that is stopped when its first target is done."""

    def stopping(**options: Any) -> Report:
        prune(**options)
        raise KeyboardInterrupt

    return stopping


def test_a_broken_budget_is_told_and_the_next_target_is_tried(tmp_path: Path) -> None:
    broken = {"is_met": False, "interval": [-0.4, -0.1]}
    prune, calls = told(**{"0.8": {"budget": broken}, "0.2": {"onnx": {"is_equal": False}}})
    said = r"0\.8: the budget is broken; 0\.2: the ONNX file does not agree; see"
    with pytest.raises(CheckFailed, match=said):
        run_front(prune, options(tmp_path))
    assert len(calls) == 3
    page = (tmp_path / "run" / "report.md").read_text().replace("\\", "")
    assert "[-40.00, -10.00] | broken |" in page


def test_the_charts_draw_scores_against_what_the_unpruned_network_takes(tmp_path: Path) -> None:
    prune, _ = told()
    run_front(prune, options(tmp_path))
    picture = decode(tmp_path / "run" / "latency.png")
    left, top, right, bottom = PLOT
    # Marks at 0 to 2 ms across, and from 0 to 1 up: the intervals end at 0.1 and 0.9.
    for index, (across, up) in enumerate([(2.0, 1.0), (1.6, 0.8), (1.0, 0.5), (0.4, 0.2)]):
        x = left + across / 2 * (right - left)
        y = bottom - up * (bottom - top)
        assert tuple(picture[round(y), round(x)].tolist()) == color(index), index
    bar = bottom - 0.58 * (bottom - top)
    assert tuple(picture[round(bar), round((left + right) / 2)].tolist()) == color(2)

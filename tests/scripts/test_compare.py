"""Comparing as the command does it, on digits: what the report says, and going on after a stop."""

import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from scipy.stats import ttest_rel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.data.config import data_beside
from regrow.data.images.decoding import decode
from regrow.errors import BadInput
from regrow.metrics.differences import MeanEvidence
from regrow.metrics.intervals import paired_interval
from regrow.models.checkpoint import load
from regrow.models.cost import count_macs, count_params, file_size, peak_memory
from regrow.pipelines.experiments import commands as comparisons
from regrow.pipelines.experiments.equal_compute import unaugmented
from regrow.scripts import compare
from regrow.training.evaluation import evaluate

ROOT = Path(__file__).parents[2]
NAMES = ["dense", "dropout-0.5", "pruned-magnitude", "targeted-0.5-pruned", "pruned-random"]
NAMES += ["scratch"]


def words(run: Path, *more: str) -> list[str]:
    return [
        f"--config={ROOT / 'configs' / 'compare.yaml'}",
        "--data.source=regrow.data.sample.Digits",
        "--data.augment=[]",
        "--data.max_images=64",
        "--data.batch_size=16",
        "--task.net=small",
        "--task.net_args.width=8",
        "--task.optimization.lr=0.05",
        '--dropouts=[{"class_path": "HeadDropout"}]',
        '--criteria=[{"class_path": "Magnitude"}]',
        "--selection.round_to=1",
        "--num_steps=1",
        "--num_seeds=2",
        "--fit.epochs=4",
        "--fit.accelerator=cpu",
        f"--run={run}",
        *more,
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("compare") / "run"
    assert compare.main(words(run)) == 0
    return run


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """Return the same folder, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "run"))


def figures_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    """Return what is a function of the settings."""
    figures = {n: v for n, v in figures.items() if n not in ("seconds", "command")}
    for one in figures["contestants"].values():
        one["cost"] = {n: v for n, v in one["cost"].items() if not n.endswith("ms")}
    return figures


def test_the_report_says_what_the_kept_networks_do(done: Path) -> None:
    figures = figures_of(done)
    assert list(figures["contestants"]) == NAMES
    assert figures["seeds"] == [0, 1]
    data = data_beside(done / "results" / "dense_0.ckpt")
    data.order_classes(data.classes)
    scores: dict[str, dict[str, list[float]]] = {}
    evidence = {}
    for name in NAMES:
        tasks = [load(done / "results" / f"{name}_{seed}.ckpt") for seed in (0, 1)]
        tests = [evaluate(task, data.test_dataloader()) for task in tasks]
        evidence[name] = MeanEvidence([test.evidence for test in tests])
        train = [evaluate(task, unaugmented(data)).value for task in tasks]
        val = [evaluate(task, data.val_dataloader()).value for task in tasks]
        gap = [one - other for one, other in zip(train, val, strict=True)]
        test = [one.value for one in tests]
        scores[name] = {"train": train, "val": val, "gap": gap, "test": test}
        shown = figures["contestants"][name]
        for kind, values in scores[name].items():
            assert shown[kind] == pytest.approx(fmean(values))
        cost = shown["cost"]
        assert cost["params"] == count_params(tasks[0].net)
        assert cost["macs"] == count_macs(tasks[0])
        assert cost["bytes"] == file_size(tasks[0].net)
        assert cost["memory_bytes"] == peak_memory(tasks[0], tasks[0].example_images(16))
        assert cost["latency_ms"] > 0
        assert cost["batch_ms"] > 0
    assert figures["score"] == {
        "name": "accuracy",
        "value": pytest.approx(fmean(scores["dense"]["test"])),
    }
    for title, base, names in (
        ("against_dense", "dense", NAMES[1:]),
        ("against_scratch", "scratch", NAMES[2:5]),
    ):
        assert list(figures[title]) == names
        for name in names:
            for kind in ("val", "gap", "test"):
                one, mine, others = figures[title][name][kind], scores[name], scores[base]
                assert one["mean"] == pytest.approx(fmean(mine[kind]) - fmean(others[kind]))
                if one["by_seed"] is None:
                    spread = [a - b for a, b in zip(mine[kind], others[kind], strict=True)]
                    assert spread[0] == pytest.approx(spread[1])
                else:
                    interval = ttest_rel(mine[kind], others[kind]).confidence_interval(0.95)
                    assert one["by_seed"] == pytest.approx([interval.low, interval.high])
            by_image = figures[title][name]["test"]["by_image"]
            ends = paired_interval(evidence[base], evidence[name], 0.975)  # 95 % of both together
            assert by_image == pytest.approx(ends)


def test_networks_of_one_architecture_cost_the_same(done: Path) -> None:
    found = {name: one["cost"] for name, one in figures_of(done)["contestants"].items()}
    assert found["dropout-0.5"] == found["dense"]
    assert found["scratch"] == found["pruned-magnitude"]
    assert found["scratch"]["macs"] <= 0.5 * found["dense"]["macs"]


def test_compute_is_equal_within_an_epoch(done: Path) -> None:
    for one in figures_of(done)["contestants"].values():
        seeds = one["by_seed"]
        for compute, budget in zip(seeds["compute"], seeds["budget"], strict=True):
            # Four epochs, and one to measure norms.
            assert abs(compute - budget) <= budget / 5
    assert "equal within one epoch" in (done / "report.md").read_text()


def test_the_page_has_words_tables_and_a_picture(done: Path) -> None:
    page, figures = (done / "report.md").read_text(), figures_of(done)
    dense = figures["contestants"]["dense"]
    assert "6 contestants, 2 seeds, 64 test images." in page
    assert f"reaches a test accuracy of {dense['test']:.4f}" in page
    assert "2 seeds leave 1 degree of freedom: an interval reaches 12.7 standard errors" in page
    assert "Of dropout-0.5, validation images choose dropout-0.5." in page
    ratio = figures["contestants"]["scratch"]["cost"]["macs"] / dense["cost"]["macs"]
    assert f"scratch has {100 * ratio:.1f} % of the MACs" in page
    assert "pruned-magnitude against pruned-random: " in page
    for heading in ("Scores", "Against the dense network", "Costs", "Compute"):
        assert f"## {heading}\n" in page
    # Scores, costs and compute, and four figures against either network.
    assert page.count("\n| targeted-0.5-pruned |") == 3 + 2 * 4
    picture = decode(done / "score_against_latency.png")
    assert picture.shape == (620, 1100, 3)
    assert "(<score_against_latency.png>)" in page


def test_tensorboard_shows_every_score(done: Path) -> None:
    events = EventAccumulator(str(done / "tensorboard")).Reload()
    for name, one in figures_of(done)["contestants"].items():
        for kind in ("train", "val", "test"):
            shown = [event.value for event in events.Scalars(f"compare_{kind}/{name}")]
            assert shown == pytest.approx(one["by_seed"][kind])
    assert events.Tags()["images"] == ["compare/score_against_latency"]


def test_a_stopped_comparison_goes_on_to_the_same_report(copy: Path, done: Path) -> None:
    (copy / "report.json").unlink()
    for name in ("pruned-magnitude_0.json", "scratch_0.ckpt", "dense_1.json"):
        (copy / "results" / name).unlink()
    kept = copy / "results" / "targeted-0.5-pruned_1.ckpt"
    before = kept.stat().st_mtime_ns
    assert compare.main(words(copy, "--resume=true")) == 0
    assert kept.stat().st_mtime_ns == before
    assert without_times(figures_of(copy)) == without_times(figures_of(done))


def test_a_resumed_comparison_may_have_more_seeds(copy: Path) -> None:
    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in (copy / "results").glob("*_?.*")}

    before = written()
    report = comparisons.compare(words(copy, "--num_seeds=3", "--resume=true"))
    after = written()
    assert before.items() <= after.items()
    added = {f"{name}_2.{kind}" for name in NAMES for kind in ("json", "ckpt")}
    assert after.keys() - before.keys() == added
    assert report.figures["seeds"] == [0, 1, 2]


def test_a_comparison_that_an_earlier_version_began_goes_on(copy: Path, done: Path) -> None:
    (copy / "report.json").unlink()
    for file in (copy / "results").glob("*_?.json"):
        values = json.loads(file.read_text())
        values["contestant"] = values.pop("candidate")
        file.write_text(json.dumps(values))
    kept = {file: file.read_bytes() for file in (copy / "results").glob("*_?.json")}
    assert compare.main(words(copy, "--resume=true")) == 0
    assert without_times(figures_of(copy)) == without_times(figures_of(done))
    assert {file: file.read_bytes() for file in kept} == kept


def test_a_resumed_comparison_may_change_nothing_else(done: Path, tmp_path: Path) -> None:
    for option, said in (
        ("--fit.epochs=5", r"--resume cannot change fit\.epochs from 4 to 5"),
        ("--data.max_images=60", r"--resume cannot change data\.max_images from 64 to 60"),
    ):
        with pytest.raises(BadInput, match=said):
            comparisons.compare(words(done, option, "--resume=true"))
    with pytest.raises(BadInput, match="has no comparison to resume"):
        comparisons.compare(words(tmp_path / "none", "--resume=true"))
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_compared_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for option, said in (
        ("--num_seeds=0", "num_seeds is 0"),
        ("--fit.devices=2", "a comparison runs in one process"),
        ("--target.macs=0.0001", r"target\.macs 0\.0001 is out of reach"),
        ("--fit.epochs=1", r"fit\.epochs is 1"),
        ("--criteria=[]", "criteria is empty"),
    ):
        with pytest.raises(BadInput, match=said):
            comparisons.compare(words(run, option))
    scenes = ["--data.source=DigitScenes", "--data.source.kind=masks"]
    with pytest.raises(BadInput, match="Classification needs labels, the data has masks"):
        comparisons.compare(words(run, *scenes))
    assert not run.exists()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        comparisons.compare(words(tmp_path / "file"))


@pytest.mark.gpu
def test_a_comparison_runs_on_a_gpu(tmp_path: Path) -> None:
    report = comparisons.compare(words(tmp_path / "run", "--fit.accelerator=gpu"))
    assert "CPU" not in report.figures["device"]
    costs = [one["cost"] for one in report.figures["contestants"].values()]
    assert all(cost["batch_ms"] > 0 and cost["memory_bytes"] > cost["params"] for cost in costs)

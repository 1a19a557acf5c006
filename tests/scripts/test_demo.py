"""The demo leaves what others rely on."""

import json
from pathlib import Path

import pytest
import yaml

from regrow.models.checkpoint import load
from regrow.pipelines import demo as run_whole
from regrow.scripts import demo

COSTS = {"score", "params", "macs", "latency_ms", "bytes"}


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the demo read configs that train two batches an epoch; give the folder for its runs."""
    configs = tmp_path / "configs"
    configs.mkdir()
    for path in run_whole.CONFIGS.glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        short = {"epochs": 1, "trainer": {"limit_train_batches": 2}}
        if "fit" in content:
            content["fit"] = short
        if "recovery" in content:
            content |= {"recovery": short, "num_steps": 1, "budget": {"max_drop": 1.0}}
            content |= {"clock": {"runtime": "torch"}}
        source = content.get("data", {}).get("source", {})
        if source.get("class_path", "").endswith("DigitScenes"):
            source["init_args"] |= {"num_train": 32, "num_val": 16, "num_test": 16}
        (configs / path.name).write_text(yaml.safe_dump(content))
    monkeypatch.setattr(run_whole, "CONFIGS", configs)
    return tmp_path / "runs"


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_loop_leaves_what_others_rely_on(
    quick: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--task", task, "--runs", str(quick)]) == 0
    folder = quick / f"demo-{task}"
    figures = json.loads((folder / "report.json").read_text())
    assert figures["command"] == f"python scripts/demo.py --task {task} --runs {quick}"
    assert figures["task"] == task
    assert figures["score"].keys() == {"name", "value", "images", "num_images"}
    assert figures["data"]["hash"]
    assert figures["data"]["diff"]["new_classes"] == ["8", "9"]
    assert figures["parent"]
    assert figures["before"].keys() == figures["after"].keys() == COSTS
    assert None not in {*figures["before"].values(), *figures["after"].values()}
    assert figures["budget"].keys() >= {"max_drop", "is_met", "interval", "num_images"}
    assert figures["onnx"].keys() >= {"max_abs_diff", "score"}
    assert (folder / "report.md").is_file()
    assert (folder / "model.onnx").is_file()
    assert list(folder.rglob("events.*"))
    dense, pruned = load(folder / "best.ckpt"), load(folder / "pruned.ckpt")
    assert dense.classes == pruned.classes == figures["classes"]
    assert dense.provenance.parent == figures["parent"]
    printed = capsys.readouterr().out
    assert f"tensorboard --logdir {folder}" in printed.replace("\n", "")
    assert "+2 classes" in printed

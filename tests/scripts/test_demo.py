"""The demo leaves what others rely on."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from children import Child

from regrow.models.checkpoint import load
from regrow.pipelines import demo as run_whole
from regrow.pipelines.demonstration import service
from regrow.scripts import demo

ROOT = Path(__file__).parents[2]
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
            source["init_args"] |= {"num_train": 32, "num_val": 16, "num_test": 20}
        (configs / path.name).write_text(yaml.safe_dump(content))
    monkeypatch.setattr(run_whole, "CONFIGS", configs)
    monkeypatch.setattr(service, "served", quickly_served)
    monkeypatch.setattr(service, "MOST", 24)
    return tmp_path / "runs"


@contextmanager
def quickly_served(words: Sequence[str], log_file: Path) -> Iterator[str]:
    """Serve as the demo does, in a process that has imported everything already."""
    child = Child(ROOT / "scripts" / "serve.py", words, ROOT, os.environ)
    try:
        while not (ready := re.search(r"serving regrow at (\S+)\n", child.printed)):
            assert child.poll() is None
            time.sleep(0.05)
        yield ready[1]
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate()
        assert (child.returncode, err) == (0, "")
    finally:
        child.end()


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
    told = figures["service"]
    assert told["requests"] == told["answers"] == told["captured"] >= 32
    assert [hour["alarms"] for hour in told["hours"]][0] == []
    page = folder / "monitor" / "report.html"
    assert page.is_file()
    assert f"monitor:     {page}" in printed
    assert "(monitor/report.html)" in (folder / "report.md").read_text()

"""Every YAML under configs/ is accepted, and trains or prunes a few batches."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from clocks import MacsLatency

import regrow.configs
from regrow.data.source import locate
from regrow.errors import BadInput
from regrow.models.checkpoint import load
from regrow.models.latency import Clock
from regrow.models.onnx.graph import build_graph
from regrow.models.onnx.quantization import quantized
from regrow.models.task import Task
from regrow.pipelines import commands
from regrow.pipelines.experiments import commands as comparisons

CONFIGS = sorted(Path(regrow.configs.__file__).parent.rglob("*.yaml"))
CONTENTS: dict[Path, Any] = {path: yaml.safe_load(path.read_text()) for path in CONFIGS}
COMPARING = [path for path in CONFIGS if "dropouts" in CONTENTS[path]]
RETRAINING = [path for path in CONFIGS if "before" in CONTENTS[path]]
TRAINING = [
    path
    for path in CONFIGS
    if "task" in CONTENTS[path] and path not in COMPARING and path not in RETRAINING
]
PRUNING = [path for path in CONFIGS if "criterion" in CONTENTS[path]]
# What is laid over another config: its data alone.
YOUNG = [path for path in CONFIGS if list(CONTENTS[path]) == ["data"]]
SCENES = [f"--data.source.num_{split}=8" for split in ("train", "val", "test")]
# A fifth of the pixels: time is not asked for here.
SMALL = {"bccd": "[96, 128]"}
BATCHES = '{"limit_train_batches": 1}'
SHORT = ["--fit.epochs=1", f"--fit.trainer={BATCHES}"]


def short_training(path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Return the words of a run of one batch; skip where the data is absent."""
    data = CONTENTS[path]["data"]
    if "root" in data:
        root = [f"--data.root={root_of(path, request)}", "--data.max_images=16"]
        return [f"--config={path}", *SHORT, *root, *small(data)]
    is_scenes = data["source"]["class_path"].endswith("DigitScenes")
    return [f"--config={path}", *SHORT, *(SCENES if is_scenes else [])]


def small(data: dict[str, Any]) -> list[str]:
    """Return the option of images that are smaller than those of a config, if they are large."""
    return [f"--data.size={SMALL[data['root']]}"] if data["root"] in SMALL else []


def root_of(path: Path, request: pytest.FixtureRequest) -> Path:
    """Return the folder of a config's data; skip where it is absent."""
    root = CONTENTS[path]["data"]["root"]
    if root == "cifar10":
        return request.getfixturevalue("cifar10_root")
    try:
        return locate(Path(root))
    except BadInput as error:
        pytest.skip(f"{path.name}: {error}")


def test_every_config_is_run_here() -> None:
    assert len(TRAINING) >= 7
    assert len(YOUNG) == 3
    assert len(PRUNING) == 5
    assert len(COMPARING) == 1
    assert len(RETRAINING) == 2
    assert set(CONFIGS) == {*TRAINING, *PRUNING, *YOUNG, *COMPARING, *RETRAINING}


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_config_trains(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    report = commands.train([*short_training(path, request), f"--run={tmp_path / 'run'}"])
    task = load(tmp_path / "run" / "best.ckpt")
    assert task.classes == report.figures["classes"]
    # Lightning's loop and ours have scored the same images.
    in_training = task.provenance.scores[f"val/{task.score}"]
    validated = report.figures["scores"]["val"]["value"]
    assert validated == pytest.approx(in_training, abs=1e-4)
    quantise(task)


def quantise(task: Task) -> None:
    """Quantise a network on two images, and run it: all its layers are INT8, its answers finite."""
    images = task.example_images(2).numpy()
    made = quantized(build_graph(task), [images])
    assert made.num_quantized == made.num_layers > 0
    session = onnxruntime.InferenceSession(made.model.SerializeToString())
    outputs = session.run(None, {"images": images})
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("path", PRUNING, ids=lambda path: path.stem)
def test_config_prunes_what_its_task_s_config_trained(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "beside", lambda clock, reference: MacsLatency(reference, clock))
    task = path.stem.removesuffix("_prune")
    young = [f"--config={y}" for y in YOUNG if y.stem == f"{task}_young"]
    words = short_training(path.with_name(f"{task}.yaml"), request)
    trained = commands.train([*words, *young, f"--run={tmp_path / 'dense'}"])
    short = [f"--recovery.trainer={BATCHES}", "--recovery.epochs=1", "--num_steps=1"]
    short += ["--final_epochs=0", "--search.candidates=4", "--search.num_images=8"]
    if "data" in CONTENTS[path]:
        short.append("--data.max_images=16")
    checkpoint = f"--checkpoint={tmp_path / 'dense' / 'best.ckpt'}"
    # A network that has seen one batch may lose any score.
    budget = "--budget.max_drop=1"
    report = commands.prune(
        [f"--config={path}", checkpoint, budget, *short, f"--run={tmp_path / 'prune'}"]
    )
    assert report.figures["classes"] == trained.figures["classes"]
    before, after = report.figures["before"], report.figures["after"]
    kept = {"macs": after["macs"] / before["macs"]}
    kept["latency"] = after["latency_ms"] / before["latency_ms"]
    targets = CONTENTS[path]["target"]
    assert all(0.4 * share < kept[name] <= share for name, share in targets.items() if share)


@pytest.mark.parametrize("path", COMPARING, ids=lambda path: path.stem)
def test_config_compares(path: Path, tmp_path: Path, cifar10_root: Path) -> None:
    short = ["--data.max_images=16", "--data.batch_size=8", "--data.val_share=0.4"]
    short += [f"--data.root={cifar10_root}", "--fit.epochs=2", "--num_steps=1", "--num_seeds=1"]
    report = comparisons.compare([f"--config={path}", *short, f"--run={tmp_path / 'run'}"])
    names = list(report.figures["contestants"])
    assert len(names) == len(CONTENTS[path]["dropouts"]) + len(CONTENTS[path]["criteria"]) + 4
    dense, small = (report.figures["contestants"][name]["cost"] for name in (names[0], "scratch"))
    assert small["macs"] <= CONTENTS[path]["target"]["macs"] * dense["macs"]


@pytest.mark.parametrize("path", RETRAINING, ids=lambda path: path.stem)
def test_config_compares_ways_to_retrain(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root, words = root_of(path, request), [f"--config={path}", "--fit.epochs=1", "--num_seeds=1"]
    count, size = (120, 32) if CONTENTS[path]["data"]["root"] == "cifar10" else (60, 64)
    words += ["--share=1", "--memory=10"]
    for side in ("data", "before"):
        words += [f"--{side}.root={root}", f"--{side}.batch_size=8", f"--{side}.val_share=0.4"]
        words += [f"--{side}.source.init_args.max_images={count}", f"--{side}.size=[{size},{size}]"]
    figures = comparisons.compare([*words, f"--run={tmp_path / 'run'}"]).figures
    assert list(figures["strategies"]) == ["parent", "scratch", "warm", "replay", "new-only"]
    late = CONTENTS[path]["data"]["source"]["init_args"].get("late_classes", [])
    assert set(late) < set(figures["classes"])
    assert figures["num_images"]["early"] > 0

"""What the README tells people to type exists."""

import re
import shlex
import subprocess
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from PIL import Image

from regrow.data.formats import Coco, ManifestFile, Masks
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerMasks
from regrow.data.sample import NAMES, DigitScenes, compose
from regrow.incremental.gating.gate import Gate
from regrow.incremental.growth import Growth
from regrow.incremental.mixing import Mixing
from regrow.metrics.budget import Budget
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.optimization import Optimization
from regrow.models.segmentation import Segmentation
from regrow.pipelines.demo import run_demo
from regrow.pipelines.experiments.compare_dropout import run_comparison
from regrow.pipelines.export import run_export
from regrow.pipelines.lineage_table import run_lineage
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.train import run_training
from regrow.prune.criteria import Magnitude, Taylor
from regrow.prune.dropout import DropBlock, HeadDropout, SpatialDropout
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.fit import Fit

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINES = [line.strip() for line in README.splitlines()]
MAKE = [line.partition("#")[0].strip() for line in LINES if line.startswith("make ")]
PYTHON = [line for line in LINES if line.startswith("python scripts/")]


@pytest.mark.parametrize("line", MAKE)
def test_make_line_is_a_target(line: str) -> None:
    words = shlex.split(line)
    subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def test_there_are_lines_to_check() -> None:
    assert len(MAKE) >= 3
    assert len(PYTHON) >= 5


@pytest.mark.parametrize("line", PYTHON)
def test_script_and_config_of_a_line_exist(line: str) -> None:
    for word in shlex.split(line, comments=True):
        if word.startswith(("scripts/", "configs/")):
            assert (ROOT / word).is_file(), line


def make_folder(folder: Path) -> None:
    """Write scenes with boxes as someone may have them: in YOLO's layout, without splits."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nnames: {list(NAMES)}\n")
    for number in range(40):
        image, boxes, _ = compose("train", number, False, size=64, seed=0)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        rows = ""
        for name, (x1, y1, x2, y2) in zip(boxes.classes, boxes.xyxy / 64, strict=True):
            rows += f"{NAMES.index(name)} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
        (folder / "labels" / f"{number}.txt").write_text(rows)


def test_the_lines_of_use_work_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    make_folder(tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    batch = '.trainer={"limit_train_batches": 1}'
    short = {
        "train": ["--fit.epochs=1", f"--fit{batch}"],
        # A network that has seen one batch may lose any score.
        "prune": [
            "--num_steps=1",
            "--recovery.epochs=1",
            f"--recovery{batch}",
            "--budget.max_drop=1",
            "--clock.runtime=torch",
        ],
        "export": ["--max_images=8", "--max_score_change=1"],
        "lineage": [],
        "compare": [
            "--data.source=regrow.data.sample.Digits",
            "--data.augment=[]",
            "--data.max_images=16",
            "--data.batch_size=8",
            "--task.net=small",
            "--fit.epochs=2",
            "--num_steps=1",
            "--num_seeds=1",
        ],
    }
    small = ["--task.net=fcos", "--task.net_args={}", "--data.size=[64, 64]"]
    for line in PYTHON:
        _, script, *words = shlex.split(line, comments=True)
        name = Path(script).stem
        if name == "serve":  # it ends by a signal alone: test_serve.py starts it
            continue
        words += [*short[name], *(small if "FOLDER" in words else [])]
        assert import_module(f"regrow.scripts.{name}").main(words) == 0, line


def test_the_python_is_the_quickstart() -> None:
    """`test_examples_folder.py` runs the file."""
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    quickstart = (ROOT / "examples" / "quickstart.py").read_text()
    assert quickstart.partition("\n\n")[2] == block


KNOBS = {
    "train": (
        run_training,
        [Classification, Detection, Segmentation, Fit, Optimization, Growth, Mixing, Gate],
    ),
    "prune": (run_pruning, [Taylor, Magnitude, Target, Budget, Selection, Fit]),
    "export": (run_export, [GrowingData]),
    "compare": (
        run_comparison,
        [Classification, Fit, Target, Selection, HeadDropout, SpatialDropout, DropBlock],
    ),
    "demo": (run_demo, []),
    "lineage": (run_lineage, []),
}
WITHOUT_DATA = {"demo", "lineage"}
# What the data gives, a command itself, or a caller from Python.
NO_OPTIONS = {"classes", "size", "settings", "command_line", "train", "begin", "kwargs", "self"}


@pytest.mark.parametrize("script", KNOBS)
def test_help_explains_every_knob(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        import_module(f"regrow.scripts.{script}").main(["--help", "all"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    function, classes = KNOBS[script]
    if script not in WITHOUT_DATA:
        classes = [*classes, GrowingData, Coco, Masks, ManifestFile, SageMakerMasks]
        classes.append(DigitScenes)
    for owner in (function, *classes):
        for name in signature(owner).parameters.keys() - NO_OPTIONS:
            # The option, its value, and a sentence about it.
            option = rf"^  (--[\w.]*\b)?{name.removesuffix('_')}\b[^\n]*(\n {{10,}}| {{2,}})\S"
            assert re.search(option, text, re.MULTILINE), (owner, name)

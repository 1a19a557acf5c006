"""Ways to retrain, called from Python: refused before anything is made, or compared."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from given import data as made_data
from given import picture
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.segmentation import Segmentation
from regrow.pipelines.experiments.compare_retraining import run_retraining
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

SMALL = partial(Classification, net_args={"width": 4})
OLD, NEW = 12, 6  # training images


def grown(count: int, num_tests: int = 4) -> GrowingData:
    """Return data with the first so many of the same training images, and a few of each other."""
    splits = {"train": count, "val": 4, "test": num_tests}
    items = [
        Item(f"{split}{n}", picture(100 * place + n, (16, 16)), "ab"[n % 2], split)
        for place, (split, number) in enumerate(splits.items())
        for n in range(number)
    ]
    return made_data(items, size=(16, 16), batch_size=4)


def compare(run: Path, **changed: Any) -> dict[str, Any]:
    given = {"task": SMALL, "before": grown(OLD), "data": grown(OLD + NEW, 6), "run": run}
    given |= {"fit": Fit(epochs=2, devices=1, accelerator="cpu", images=0), "num_seeds": 1}
    given |= {"share": 0.5, "memory": 4, "strategies": ["warm"]}
    return run_retraining(**given | changed).figures


def test_the_report_is_of_the_networks_that_are_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    figures = compare(run, command_line="the command", strategies=["warm", "warm"])
    assert json.loads((run / "report.json").read_text()) == figures
    ways = figures["strategies"]
    assert list(ways) == ["parent", "scratch", "warm"]
    assert figures["num_images"] == {"early": 4, "late": 2, "all": 6}
    # Half of two epochs is one.
    assert ways["scratch"]["compute"] == 1
    assert ways["warm"]["compute"] == pytest.approx(0.5)
    files = {file.parent.name: file for file in (run / "runs").glob("*/best.ckpt")}
    (parent,) = (name for name in files if name.startswith("parent"))
    (warm,) = (name for name in files if name.startswith("warm"))
    assert load(files[warm]).provenance.parent == file_hash(files[parent])
    data = grown(OLD + NEW, 6)
    data.order_classes(["a", "b"])
    for name, file in files.items():
        shown = ways[name.partition("_")[0]]["scores"]["all"][0]
        assert shown == pytest.approx(evaluate(load(file), data.test_dataloader()).value), name
    page = (run / "report.md").read_text()
    assert f"From {OLD} to {OLD + NEW} training images" in page


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_seeds": 0}, "^num_seeds is 0, it must be at least 1"),
        ({"task": Segmentation}, "^Segmentation needs masks, the data has labels"),
        ({"share": 0.0}, r"^share is 0\.0, it must lie in \(0, 1\]$"),
        ({"memory": OLD + 1}, f"^replay is 13, more than the {OLD} training images; lower it"),
        ({"memory": 0}, r"^replay is 0, it must be a share in \(0, 1\], or a number of images$"),
        ({"data": grown(OLD + NEW, 0)}, "^Given: no test images in it; raise data"),
        ({"resume": True}, "has no comparison to resume; start it without --resume"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_folder_is_made(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        compare(tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(BadInput, match="holds files that are no run of regrow's"):
        compare(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]

"""Dropout against pruning, called from Python: refused before anything is made, or compared."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from given import data as made_data
from given import labelled, picture
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.errors import BadInput
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.segmentation import Segmentation
from regrow.pipelines.experiments.compare_dropout import run_comparison
from regrow.prune.criteria import Magnitude
from regrow.prune.dropout import HeadDropout
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

SMALL = partial(Classification, net_args={"width": 4})
FIT = Fit(epochs=2, devices=1, accelerator="cpu", images=0)
TERMS: dict[str, Any] = {"num_steps": 1, "num_seeds": 1, "selection": Selection(round_to=1)}


def compare(run: Path, data: GrowingData, **changed: Any) -> dict[str, Any]:
    given = {"task": SMALL, "dropouts": [], "criteria": [Magnitude()], "fit": FIT, **TERMS}
    return run_comparison(data=data, run=run, **given | changed).figures


def test_the_report_is_of_the_networks_that_are_kept(tmp_path: Path, data: GrowingData) -> None:
    run = tmp_path / "run"
    figures = compare(run, data, settings={"data": {"batch_size": 8}}, command_line="the command")
    assert json.loads((run / "report.json").read_text()) == figures
    names = ["dense", "pruned-magnitude", "targeted-0.5-pruned", "pruned-random", "scratch"]
    assert list(figures["contestants"]) == names
    kept = {name: load(run / "results" / f"{name}_0.ckpt") for name in names}
    for name, task in kept.items():
        shown = figures["contestants"][name]
        assert shown["test"] == pytest.approx(evaluate(task, data.test_dataloader()).value)
        assert shown["cost"]["macs"] == count_macs(task)
    dense = count_macs(kept["dense"])
    assert all(count_macs(kept[name]) <= 0.5 * dense for name in names[1:])
    # Beside the networks lies what makes their data, so that they can be pruned on.
    assert (run / "results" / "data.yaml").read_text() == "data:\n  batch_size: 8\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_seeds": 0}, "^num_seeds is 0, it must be at least 1"),
        ({"criteria": []}, "^criteria is empty"),
        ({"dropouts": [HeadDropout(0.5)] * 2}, "^two contestants are called dropout-0.5; leave"),
        ({"task": Segmentation}, "^Segmentation needs masks, the data has labels"),
        ({"fit": Fit(devices=2, accelerator="cpu")}, r"^fit\.devices: a comparison runs in one"),
        ({"fit": Fit(epochs=1, devices=1)}, "^fit.epochs is 1: 1 before pruning leave fewer than"),
        ({"dense_share": 1.0}, r"^dense_share is 1\.0, it must lie in \(0, 1\)"),
        ({"num_steps": 0}, "^num_steps is 0, it must be at least 1"),
        ({"target": Target(macs=0.0001)}, r"^target\.macs 0\.0001 is out of reach"),
        ({"resume": True}, "has no comparison to resume; start it without --resume"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_folder_is_made(
    tmp_path: Path, data: GrowingData, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        compare(tmp_path / "run", data, **changed)
    assert not (tmp_path / "run").exists()


def test_data_without_test_images_is_refused(tmp_path: Path) -> None:
    val = [Item(f"val{n}", picture(n + 90, (16, 16)), "ab"[n % 2], "val") for n in range(4)]
    trained = made_data(labelled() + val, size=(16, 16))
    with pytest.raises(BadInput, match="^Given: no test images in it; raise data.test_share"):
        compare(tmp_path / "run", trained)
    assert not (tmp_path / "run").exists()

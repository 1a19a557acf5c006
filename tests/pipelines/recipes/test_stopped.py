"""The recipe in a run's folder may be a stranger's: plain options, known names, no code."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from regrow.errors import BadInput
from regrow.pipelines.recipes.stopped import stopped_recipe

RECIPE: dict[str, Any] = {
    "task": {
        "class_path": "regrow.models.classification.Classification",
        "init_args": {"net": "small", "net_args": {"width": 8}, "optimization": {"lr": 0.1}},
    },
    "data": {"class_path": "regrow.data.module.GrowingData"},
    "fit": {"epochs": 2},
}
RECIPE["data"]["init_args"] = {
    "source": {"class_path": "regrow.data.formats.ImageFolder"},
    "root": "images",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_a_recipe_is_read_back(file: Path) -> None:
    usual = copy.deepcopy(RECIPE)
    usual["fit"]["trainer"], usual["task"]["init_args"]["penalties"] = {}, []
    file.write_text(yaml.safe_dump(usual))
    assert stopped_recipe(file) == RECIPE


def test_a_program_in_it_is_not_even_read(file: Path) -> None:
    """Only a user's own options name a program that is run, such as the clock of a pruning."""
    file.write_text(yaml.safe_dump(RECIPE | {"clock": {"command": "touch evil {onnx}"}}))
    assert stopped_recipe(file) == RECIPE


EVIL = {"class_path": "logging.FileHandler", "init_args": {"filename": "written"}}
CHANGES: dict[str, Any] = {
    "class of fit": lambda r: r.update(fit=EVIL),
    "inner class of fit": lambda r: r["fit"].update(clip=EVIL),
    "trainer": lambda r: r["fit"].update(trainer={"callbacks": [EVIL]}),
    "trainer by a dot": lambda r: r["fit"].update({"trainer.callbacks": [EVIL]}),
    "appended": lambda r: r["task"]["init_args"].update({"penalties+": [EVIL]}),
    "beside the class": lambda r: r["task"].update({"init_args.penalties": [EVIL]}),
    "further arguments": lambda r: r["task"].update(dict_kwargs={"a": 1}),
    "in the net": lambda r: r["task"]["init_args"].update(net_args={"width": 8, "x": EVIL}),
    "deep in the net": lambda r: r["task"]["init_args"].update(net_args={"x": [{"y": [EVIL]}]}),
    "optimizer by its path": lambda r: r["task"]["init_args"].update(optimization="evil.X"),
    "patience by its path": lambda r: r["fit"].update(patience="evil.X"),
    "optimizer": lambda r: r["task"]["init_args"].update(optimization=EVIL),
    "part of the optimizer": lambda r: r["task"]["init_args"].update(optimization={"lr": EVIL}),
    "source": lambda r: r["data"]["init_args"].update(source=EVIL),
    "part of a source": lambda r: r["data"]["init_args"]["source"].update(
        init_args={"group": EVIL}
    ),
    "data by a dot": lambda r: r["data"]["init_args"].update({"source.init_args": EVIL}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_nothing_in_it_is_built(file: Path, change: Any) -> None:
    hostile = copy.deepcopy(RECIPE)
    change(hostile)
    file.write_text(yaml.safe_dump(hostile))
    with pytest.raises(BadInput, match=r"config\.yaml: .*; name it, if you trust it") as refused:
        stopped_recipe(file)
    assert "\n" not in str(refused.value)

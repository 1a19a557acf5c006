"""The hyperparameters of SageMaker's built-in algorithms: read, listed, and told apart."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.sagemaker.builtin import ALGORITHMS, IC, OD, SS, TABLE, Values, recognise
from regrow.deploy.sagemaker.translation import translate
from regrow.errors import BadInput

ROOT = Path(__file__).parents[3]
Channel = Callable[..., dict[str, Path]]


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        (IC, {"multi_label": "0", "early_stopping_tolerance": "0.00"}),
        (OD, {"overlap_threshold": 0.50, "freeze_layer_pattern": ""}),
    ],
)
def test_the_values_that_regrow_has_are_accepted(algorithm: str, given: dict[str, Any]) -> None:
    assert Values(algorithm, given).lines() == []


def test_what_has_no_effect_is_said() -> None:
    values = Values(
        IC, {"kv_store": "dist_sync", "momentum": 0.9, "optimizer": "adam", "epochs": 1}
    )
    translate(values)
    assert values.lines() == [
        "hyperparameter kv_store: no effect: a job has one machine",
        "hyperparameter momentum: no effect beside the others of the job",
    ]
    values = Values(IC, {"num_layers": 18, "epochs": 1})
    translate(values)
    assert values.lines() == []
    assert values.lines(is_warm_start=True) == [
        "hyperparameter num_layers: no effect, the network is the model channel's"
    ]


def test_the_docs_have_the_table() -> None:
    """Name by name: the algorithms that have it, and what becomes of it."""
    lines = (ROOT / "docs" / "sagemaker.md").read_text().splitlines()
    start = lines.index("| hyperparameter | of | becomes |") + 2
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    shown: dict[str, tuple[str, str]] = {}
    for line in lines[start:end]:
        names, of, becomes = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names):
            assert name not in shown
            shown[name] = (of, becomes)
    short = {IC: "IC", OD: "OD", SS: "SS"}
    assert shown == {
        entry.name: (", ".join(short[a] for a in ALGORITHMS if a in entry.defaults), entry.becomes)
        for entry in TABLE
    }


# Which algorithm a job is for.


@pytest.mark.parametrize(
    ("names", "algorithm"),
    [
        (["epochs", "num_layers"], IC),
        (["augmentation_type", "top_k"], IC),
        (["base_network", "momentum"], OD),
        (["nms_threshold"], OD),
        (["backbone", "algorithm"], SS),
        (["crop_size"], SS),
        ([], None),
        (["fit"], None),
    ],
)
def test_names_tell_the_algorithm(names: list[str], algorithm: str | None) -> None:
    assert recognise(names, {}, None) == algorithm


@pytest.mark.parametrize(
    ("name", "file", "algorithm"),
    [
        ("train_lst", "train.lst", IC),
        ("label_map", "train_label_map.json", SS),
        ("train_annotation", "a/0000.png", SS),
        ("train_annotation", "sample_image1.json", OD),
    ],
)
def test_channels_tell_the_algorithm(
    tmp_path: Path, channel: Channel, name: str, file: str, algorithm: str
) -> None:
    assert recognise(["epochs"], channel(tmp_path, name, file), None) == algorithm


def test_a_label_map_beside_masks_is_no_annotation_of_boxes(
    tmp_path: Path, channel: Channel
) -> None:
    channels = channel(tmp_path, "train_annotation", "label_map.json", "a.png")
    assert recognise([], channels, None) == SS


def test_what_cannot_be_told_is_asked() -> None:
    assert recognise(["epochs"], {}, OD) == OD
    with pytest.raises(BadInput, match="all have epochs,momentum.*set hyperparameter builtin to"):
        recognise(["epochs", "momentum"], {}, None)
    with pytest.raises(BadInput, match="backbone is of semantic-.*; num_layers is of image-"):
        recognise(["num_layers", "backbone"], {}, None)
    with pytest.raises(BadInput, match="builtin is 'xgboost'; set hyperparameter builtin to one"):
        recognise(["epochs"], {}, "xgboost")

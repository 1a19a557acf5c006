"""Hyperparameters of any kind end in a training or in one line that names them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import regrow.configs
from regrow.cli import read
from regrow.deploy.sagemaker.builtin import IC, NAMES, OD, SS, Values
from regrow.deploy.sagemaker.hyperparameters import check_hyperparameter, parsed
from regrow.deploy.sagemaker.options import TrainingCall
from regrow.deploy.sagemaker.training_job import run_container
from regrow.deploy.sagemaker.translation import translate
from regrow.errors import BadInput
from regrow.pipelines.commands import TRAINING
from regrow.pipelines.train import run_training

CONFIGS = Path(regrow.configs.__file__).parent
OPTIONS = ("replay", "fit", "data", "task", "growth", "renamed")


def refusal(call: Callable[[Any], Any], value: Any) -> str | None:
    """What is said where a value is refused; any other error goes on."""
    try:
        call(value)
    except BadInput as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("null", None),
        ("None", None),
        (None, None),
        ("1", 1),
        (1.5, 1.5),
        ("(32, 32)", [32, 32]),
        ("[32, 32]", [32, 32]),
        ("{'lr': 0.1, 'nesterov': True, 'x': None}", {"lr": 0.1, "nesterov": True, "x": None}),
        ('{"lr": 0.1}', {"lr": 0.1}),
        ('"sgd"', "sgd"),
        ('"\\"sgd\\""', "sgd"),
        ("sgd", "sgd"),
        ("a b", "a b"),
        ("(left", "(left"),
        ("3,32,32", "3,32,32"),
        ("(1)", "(1)"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_values_mean_what_their_writers_meant(written: Any, meant: Any) -> None:
    assert parsed(written) == meant


@pytest.mark.parametrize(
    "name",
    ["run=elsewhere", "--run", "-x", "", " ", "a b", "1", "a\nb", "\ud800", "a.\x00", "a" * 300],
)
def test_names_that_are_no_options_are_refused_in_ascii(name: str) -> None:
    with pytest.raises(BadInput, match="no name of an option") as caught:
        check_hyperparameter(name, 1)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["\ud800", "a\x00", "\x1b[2J", ["\udcff"], {"a": "\u202e"}])
def test_values_that_cannot_be_printed_are_refused_in_ascii(value: Any) -> None:
    with pytest.raises(BadInput, match="hyperparameter fit.x is .* cannot be printed") as caught:
        check_hyperparameter("fit.x", value)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["fit.epochs", "warm-start", "renamed.white cell", "_x", "a.b-c"])
def test_names_of_options_are_taken(name: str) -> None:
    check_hyperparameter(name, "any\ntext")


# Values of the built-in algorithms.


@pytest.mark.parametrize(
    ("value", "meant"), [("3", 3), (3, 3), ("3.0", 3), (3.0, 3), ("+3", 3), ("007", 7)]
)
def test_a_whole_number_may_have_a_point(value: Any, meant: int) -> None:
    assert Values(IC, {"epochs": value}).whole("epochs") == meant


@pytest.mark.parametrize(
    "value", ["0", "-1", "1.5", "1e3", "9" * 4000, "x", True, "\u0663", [1, 2]]
)
def test_anything_else_is_no_whole_number(value: Any) -> None:
    with pytest.raises(BadInput, match="hyperparameter epochs is .*whole number") as caught:
        Values(IC, {"epochs": value}).whole("epochs")
    assert len(str(caught.value)) < 200


def test_whole_numbers_may_be_a_list_or_a_tuple() -> None:
    for value in ("3,32,32", [3, 32, 32], (3, 32, 32), parsed("(3, 32, 32)"), "3, 32.0, 32"):
        assert Values(IC, {"image_shape": value}).wholes("image_shape") == [3, 32, 32]


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999", "x", [], {}])
def test_a_number_is_finite(value: Any) -> None:
    with pytest.raises(BadInput, match="hyperparameter learning_rate is"):
        Values(IC, {"learning_rate": value}).number("learning_rate")


@pytest.mark.parametrize("algorithm", [IC, OD, SS])
def test_odd_values_of_each_hyperparameter_are_taken_or_named(
    algorithm: str, mutated_plain: Callable[[Any, int], Any]
) -> None:
    for name, entry in NAMES.items():
        if algorithm in entry.defaults:
            for seed in range(40):
                value = mutated_plain(entry.defaults[algorithm], seed)
                refused = refusal(lambda given: translate(Values(algorithm, given)), {name: value})
                assert refused is None or name in refused


# Everything at once.


def write(base: Path, name: str, content: Any) -> None:
    (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


FILES: dict[str, Any] = {
    "hyperparameters": {
        "config": "classification",
        "fit.epochs": "2",
        "data.size": "(32, 32)",
        "task.optimization.lr": "1e-3",
        "task.net": '"small"',
        "removed": "None",
        "replay": "0.01",
        "renamed.old name": "new",
        "fit.trainer": {"min_epochs": 1},
    },
    "inputdataconfig": {"train": {"TrainingInputMode": "File"}},
    "resourceconfig": {"hosts": ["algo-1"], "current_host": "algo-1"},
    "checkpointconfig": {"LocalPath": "checkpoints"},
}
BUILT_IN = {
    "num_layers": "18",
    "image_shape": "3,32,32",
    "num_classes": "2",
    "num_training_samples": 4,
    "epochs": "1.0",
    "learning_rate": "0.01",
    "optimizer": "sgd",
    "mini_batch_size": 2,
    "lr_scheduler_step": "1,2",
    "augmentation_type": "crop",
    "fit.clip": "1.0",
    "data.seed": 3,
}


@pytest.mark.slow
def test_500_mutated_jobs_parse_or_say_why_in_a_line(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutated_plain: Callable[[Any, int], Any],
    mutated_bytes: Callable[[bytes, int], bytes],
) -> None:
    for number in range(4):
        folder = base / "input" / "data" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)

    def train(call: TrainingCall) -> None:
        read(run_training, call.options, base=call.base, **TRAINING)

    ends = {"parsed": 0, "refused": 0}
    for seed in range(500):
        draw, contents = random.Random(seed), dict(FILES)
        if seed % 2:
            contents["hyperparameters"] = BUILT_IN
        name = draw.choice(["hyperparameters"] * 5 + list(FILES))
        for other, content in contents.items():
            write(base, other, content)
        file = base / "input" / "config" / f"{name}.json"
        if seed % 5:
            write(base, name, mutated_plain(contents[name], seed))
        else:
            file.write_bytes(mutated_bytes(file.read_bytes(), seed))
        refused = refusal(lambda train: run_container(train, print, CONFIGS, OPTIONS), train)
        ends["parsed" if refused is None else "refused"] += 1
        assert refused is None or refused.split()
    assert min(ends.values()) > 50

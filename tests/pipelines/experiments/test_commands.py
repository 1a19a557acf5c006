"""One command compares either way: with old data named it retrains, without it prunes."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.pipelines.experiments import commands
from regrow.pipelines.experiments.compare_dropout import run_comparison
from regrow.pipelines.experiments.compare_retraining import run_retraining

CONFIGS = Path(__file__).parents[3] / "configs"
DROPOUT = f"--config={CONFIGS / 'compare.yaml'}"
RETRAIN = f"--config={CONFIGS / 'compare_retraining.yaml'}"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Return what each comparison is called with, in place of its work."""
    called: dict[str, dict[str, Any]] = {}
    for function in (run_comparison, run_retraining):

        def record(name: str = function.__name__, **options: Any) -> None:
            called[name] = options

        record.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        record.__annotations__, record.__doc__ = function.__annotations__, function.__doc__
        record.__module__ = function.__module__
        monkeypatch.setattr(commands, function.__name__, record)
    return called


def test_old_data_asks_for_ways_to_retrain(calls: dict[str, dict[str, Any]]) -> None:
    commands.compare([RETRAIN, "--num_seeds=2", "--share=0.25"])
    ((name, given),) = calls.items()
    assert name == "run_retraining"
    assert given.keys() == inspect.signature(run_retraining).parameters.keys()
    assert (given["num_seeds"], given["share"]) == (2, 0.25)
    assert (given["before"].source.stage, given["data"].source.stage) == ("before", "after")
    assert given["settings"]["share"] == 0.25
    assert given["command_line"].endswith(f"{RETRAIN} --num_seeds=2 --share=0.25")


def test_without_old_data_dropout_is_compared_with_pruning(
    calls: dict[str, dict[str, Any]],
) -> None:
    dropout = '--dropouts=[{"class_path": "SpatialDropout", "init_args": {"rate": 0.25}}]'
    commands.compare([DROPOUT, dropout, "--data.source=regrow.data.sample.Digits"])
    ((name, given),) = calls.items()
    assert name == "run_comparison"
    assert given.keys() == inspect.signature(run_comparison).parameters.keys()
    (one,) = given["dropouts"]
    assert (type(one).__name__, one.rate) == ("SpatialDropout", 0.25)
    assert isinstance(given["data"].source, Digits)
    assert given["command_line"].startswith("python scripts/compare.py --config=")


def test_an_option_of_the_other_comparison_is_refused() -> None:
    with pytest.raises(BadInput, match="dropouts"):
        commands.compare([RETRAIN, "--dropouts=[]"])
    with pytest.raises(BadInput, match="^--memory: no such option"):
        commands.compare([DROPOUT, "--memory=4"])

"""The examples in the docstrings of what the rooms offer are run."""

import doctest
import importlib
import inspect
from types import ModuleType
from typing import Any

import pytest

ROOMS = (
    "data", "metrics", "models", "reporting", "training", "incremental", "prune", "deploy",
    "pipelines",
)  # fmt: skip
# What users call first: each has an example.
CALLED = {
    "metrics": {"Budget", "paired_interval"},
    "models": {
        "Classification", "Detection", "Optimization", "Segmentation", "build_net", "load",
        "measure",
    },
    "prune": {
        "Channels", "SingleWeights", "as_task", "cut_", "find_groups", "lowest", "mask_", "prune",
        "reestimate_batchnorm_", "score_groups", "widen_",
    },
    "reporting": {"Report"},
    "training": {"evaluate"},
}  # fmt: skip


def _examples(room: ModuleType) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    offered = {name: getattr(room, name) for name in room.__all__}
    own = {n: v for n, v in offered.items() if inspect.isclass(v) or inspect.isfunction(v)}
    found = [finder.find(value, name, globs={}) for name, value in own.items()]
    return [test for tests in found for test in tests if test.examples]


EXAMPLES = {
    f"{name}.{test.name}": test
    for name in ROOMS
    for test in _examples(importlib.import_module(f"regrow.{name}"))
}


@pytest.mark.parametrize("room", CALLED)
def test_what_users_call_has_an_example(room: str) -> None:
    assert set(EXAMPLES) >= {f"{room}.{name}" for name in CALLED[room]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name: str) -> None:
    said: list[Any] = []
    runner = doctest.DocTestRunner()
    result = runner.run(EXAMPLES[name], out=said.append)
    assert result.attempted > 1
    assert result.failed == 0, "".join(said)

"""The examples in the docstrings of what `regrow.prune` offers are run."""

import doctest
import inspect
from typing import Any

import pytest

import regrow.prune


def _examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    offered = {name: getattr(regrow.prune, name) for name in regrow.prune.__all__}
    own = {n: v for n, v in offered.items() if inspect.isclass(v) or inspect.isfunction(v)}
    found = [finder.find(value, name, globs={}) for name, value in own.items()]
    return [test for tests in found for test in tests if test.examples]


EXAMPLES = {test.name: test for test in _examples()}


def test_what_users_call_has_an_example() -> None:
    called = {
        "Channels", "SingleWeights", "as_task", "cut_", "find_groups", "lowest", "mask_", "prune",
        "reestimate_batchnorm_", "score_groups", "widen_",
    }  # fmt: skip
    assert set(EXAMPLES) >= called


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name: str) -> None:
    said: list[Any] = []
    runner = doctest.DocTestRunner()
    result = runner.run(EXAMPLES[name], out=said.append)
    assert result.attempted > 1
    assert result.failed == 0, "".join(said)

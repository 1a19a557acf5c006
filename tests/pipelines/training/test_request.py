"""What a training run is asked for is checked before any data is read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.growth import Growth
from regrow.incremental.history import History
from regrow.incremental.warm_start import WarmStart
from regrow.models.classification import Classification
from regrow.pipelines.training.request import Request
from regrow.training.fit import Fit

Ask = Callable[..., Request]


@pytest.fixture
def ask(data: GrowingData, tmp_path: Path) -> Ask:
    return lambda **options: Request(Classification, data, Fit(), tmp_path / "run", **options)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(ask: Ask, seed: int) -> None:
    with pytest.raises(BadInput, match=rf"seed is {seed}, it must lie in \[0, 2\*\*32\)"):
        ask(seed=seed)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"renamed": {"a": "b"}}, "--renamed"),
        ({"removed": ["a"]}, "--removed"),
        ({"sparsity": "dense"}, "--sparsity"),
        ({"allow_forgetting": True}, "--allow-forgetting"),
    ],
)
def test_what_a_warm_start_does_needs_one(ask: Ask, options: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is for a warm start; add --warm-start CKPT"):
        ask(**options).refuse_alone()
    ask(**options, warm_start=Path("old.ckpt")).refuse_alone()


def test_growth_without_a_warm_start_is_named(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    ask().refuse_alone()
    assert capsys.readouterr().out == ""
    ask(growth=Growth(perturb=0.2)).refuse_alone()
    assert "growth has no effect" in capsys.readouterr().out


def test_options_that_exclude_each_other_are_refused(ask: Ask) -> None:
    once = replace(ask(sparsity="regrow"), fit=Fit(epochs=1))
    with pytest.raises(BadInput, match="sparsity regrow needs fit.epochs of 2 or more"):
        once.refuse_contradictions()
    averaged = replace(ask(growth=Growth(anchor=0.2)), fit=Fit(ema=0.9))
    with pytest.raises(BadInput, match="growth.anchor and fit.ema both say"):
        averaged.refuse_contradictions()
    ask(sparsity="regrow").refuse_contradictions()


def test_auto_finds_no_run_where_there_is_none(ask: Ask, tmp_path: Path) -> None:
    assert not ask().finds_a_run()
    assert not ask(resume="auto").finds_a_run()
    assert ask(resume=f"{tmp_path}/run/last.ckpt").finds_a_run(), "it is looked for later"


def test_the_request_that_a_run_began_with_is_put_together_again(ask: Ask) -> None:
    history = History(0, 8, [True] * 24)
    start = WarmStart("/old.ckpt", "ab", {"x": "a"}, ["y"], {"a": "x"}, None, 0.5, 0, history)
    again = ask(resume="auto", sparsity="regrow").from_start(start)
    assert (again.parent.path, again.sparsity) == (Path("/old.ckpt"), "regrow")
    assert (again.parent.renamed, again.parent.removed) == ({"x": "a"}, ["y"])
    assert again.allow_forgetting


def test_without_a_warm_start_there_is_no_parent(ask: Ask) -> None:
    with pytest.raises(ValueError, match="no warm start is asked for"):
        ask().parent  # noqa: B018

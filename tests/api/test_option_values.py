"""Options mean the same however another program has written them."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from regrow.cli import parse
from regrow.errors import BadInput
from regrow.option_values import as_option, as_options, check_numbers, with_whole_number


class Inner:
    """A class with options of its own."""

    def __init__(self, size: tuple[int, int] = (1, 2), name: str = "x", rate: float = 0.1) -> None:
        self.size, self.name, self.rate = size, name, rate


def function(
    inner: Inner,
    epochs: int = 1,
    patience: int | None = 3,
    run: Path = Path("run"),
    weights: str | None = "DEFAULT",
    renamed: dict[str, str] | None = None,
    removed: list[str] | None = None,
    flag: bool = False,
) -> None:
    """Do nothing."""


CHOSEN = "--inner=tests_written.Inner"


@pytest.fixture(autouse=True)
def inner_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tests_written", sys.modules[__name__])


def values(*words: str) -> dict[str, Any]:
    return parse(function, [CHOSEN, *words], description="")[0]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("None", "null"),
        ("(1, 2)", "[1, 2]"),
        ("(1,)", "[1]"),
        ("['a', None, True]", '["a", null, true]'),
        ("{'a': (1, 2)}", '{"a": [1, 2]}'),
        ('"x"', "x"),
        ('"\\"x\\""', "x"),
        ('"x', '"x'),
        ("x", "x"),
        ("(1)", "(1)"),
        ("(a, b)", "(a, b)"),
        ("[a, b]", "[a, b]"),
        ("{1, 2}", "{1, 2}"),
        ("[1e999]", "[1e999]"),
        ("", ""),
        ("(" * 20000, "(" * 20000),
        ("(" * 5000, "(" * 5000),
    ],
)
def test_a_value_is_what_it_can_only_mean(text: str, meant: str) -> None:
    assert as_option(text) == meant


def test_values_stand_behind_the_option_or_in_the_next_word() -> None:
    words = ["None", "--a=None", "--b", "(1, 2)", "--renamed.None=None", "--renamed.x", "None", "y"]
    assert as_options(words, {"renamed"}) == [
        *("None", "--a=null", "--b", "[1, 2]", "--renamed.None=None", "--renamed.x", "None", "y")
    ]


def test_python_and_step_functions_values_reach_the_function() -> None:
    found = values("--patience", "None", "--epochs=2.0", "--inner.size", "(32, 32.0)")
    assert (found["patience"], found["epochs"], found["inner"].size) == (None, 2, (32, 32))
    assert values("--weights=None", "--flag", "True", '--epochs="7"')["weights"] is None
    assert values("--removed", "('a', 'b')")["removed"] == ["a", "b"]
    assert values("--inner.init_args.size=[3.0, 4.0]")["inner"].size == (3, 4)


@pytest.mark.parametrize(("word", "rate"), [("1e-3", 0.001), ("1E-3", 0.001), ("1", 1.0)])
def test_numbers_of_yaml_1_1_are_numbers(word: str, rate: float) -> None:
    assert values(f"--inner.rate={word}")["inner"].rate == rate


def test_names_that_look_like_such_values_stay() -> None:
    found = values("--run", "1.0", "--renamed.None", "1.0", "--inner.name=2.0", "--epochs=1.0")
    assert (found["run"], found["renamed"], found["inner"].name) == (
        *(Path("1.0"), {"None": "1.0"}, "2.0"),
    )
    assert found["epochs"] == 1


@pytest.mark.parametrize("word", ["--epochs=1.5", "--inner.size=(32, 32.5)", "--epochs=1.0.0"])
def test_a_fraction_is_no_whole_number(word: str) -> None:
    with pytest.raises(BadInput, match="Expected"):
        values(word)


def test_only_the_option_that_was_refused_is_changed() -> None:
    words = ["--a.b=1.0", "--a.c=1.0", "--d", "1.0", "--a.c={x: 11.0, y: 1.0}"]
    said = '"a": Problem with given class_path: "c": Expected a <class \'int\'>. Got value: 1.0; x'
    changed = ["--a.b=1.0", "--a.c=1", "--d", "1.0", "--a.c={x: 11.0, y: 1}"]
    assert with_whole_number(words, said) == changed
    assert with_whole_number(["--d=1.0"], said) is None
    assert with_whole_number(words, "anything else") is None


@pytest.mark.parametrize("word", ["--epochs=" + "9" * 4000, "--epochs=9223372036854775808"])
def test_numbers_beyond_63_bits_are_refused(word: str) -> None:
    with pytest.raises(BadInput, match="epochs is a number beyond 63 bits") as caught:
        values(word)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(value: float) -> None:
    with pytest.raises(BadInput, match=r"a\.b is (nan|inf|-inf); give a finite number"):
        check_numbers({"a": {"init_args": {"b": [1.0, value]}}})


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_of_yaml_that_are_not_finite_are_refused(value: str) -> None:
    with pytest.raises(BadInput, match=r"inner\.rate is .*finite"):
        values(f"--inner.rate={value}")

"""Options mean the same however another program has written them."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regrow.cli import parse
from regrow.errors import BadInput
from regrow.option_values import (
    as_option,
    as_options,
    check_nulls,
    check_numbers,
    nested,
    with_lists,
    with_whole,
    with_whole_number,
)
from regrow.training.fit import Fit


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


def with_fit(
    inner: Inner,
    own: Any = 1,
    many: list[Inner] | tuple[()] = (),
    fit: Fit = Fit(),
    epochs: int = 1,
    patience: int | None = 3,
    run: Path = Path("run"),
    flag: bool = False,
) -> None:
    """Do nothing, with options of every kind."""


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


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"epochs": None}, "epochs"),
        ({"run": None}, "run"),
        ({"flag": None}, "flag"),
        ({"fit": None}, "fit"),
        ({"fit": {"accelerator": None}}, "fit.accelerator"),
        ({"fit": {"trainer": None}}, "fit.trainer"),
        (
            {"inner": {"class_path": "tests_written.Inner", "init_args": {"rate": None}}},
            "inner.rate",
        ),
        (
            {"many": [{"class_path": "tests_written.Inner", "init_args": {"name": None}}]},
            "many.name",
        ),
    ],
)
def test_null_is_refused_by_name_where_a_value_is_needed(content: dict, name: str) -> None:
    with pytest.raises(BadInput, match=rf"^--{name}: null is no value for it; give one, or leave"):
        check_nulls(with_fit, content)


def test_null_that_means_something_is_taken() -> None:
    check_nulls(with_fit, {"patience": None, "fit": {"ema": None, "patience": None}, "own": None})
    read = {"inner": {"class_path": "builtins.dict", "init_args": {"tzinfo": None}}}
    check_nulls(with_fit, read)  # a class that says nothing of its arguments
    assert values("--patience=null")["patience"] is None


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_of_yaml_that_are_not_finite_are_refused(value: str) -> None:
    with pytest.raises(BadInput, match=r"inner\.rate is .*finite"):
        values(f"--inner.rate={value}")


def test_options_by_name_are_nested_as_in_a_config() -> None:
    given = {
        "task.net": "n",
        "task": "T",
        "task.optimization.lr": "1",
        "data.source": "S",
        "data.source.k": 3,
        "data.source.init_args.z": 1,
        "data.root": "/x",
        "renamed.a.b c": "q",
        "fit": {"trainer": {"a": 1}},
        "fit.epochs": 2,
    }
    assert nested(given, ["task", "data", "data.source"], ["renamed"]) == {
        "task": {"class_path": "T", "init_args": {"net": "n", "optimization": {"lr": "1"}}},
        "data": {
            "init_args": {
                "root": "/x",
                "source": {"class_path": "S", "init_args": {"k": 3, "z": 1}},
            }
        },
        "renamed": {"a.b c": "q"},
        "fit": {"trainer": {"a": 1}, "epochs": 2},
    }
    assert given["fit"] == {"trainer": {"a": 1}}


def test_an_option_is_given_whole_or_in_parts() -> None:
    with pytest.raises(BadInput, match="fit.epochs is part of fit, which is given as 3; give one"):
        nested({"fit": 3, "fit.epochs": 2}, [], [])


def test_the_number_that_was_refused_becomes_whole_where_it_stands() -> None:
    said = "\"data.size\": Expected a <class 'int'>. Got value: 32.0"
    given = {"data": {"init_args": {"size": [32.0, "32.0"], "rate": 32.0}}, "size": 32.0}
    made = with_whole(given, said)
    assert made == {"data": {"init_args": {"size": ["32", "32"], "rate": 32.0}}, "size": 32.0}
    assert with_whole(made, said) is None
    assert with_whole(given, "something else") is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--names a b --x 1", '--names=["a", "b"] --x 1'),
        ("--names *.conv --flag", '--names=["*.conv"] --flag'),
        ("--names=a", '--names=["a"]'),
        ("--names=a b", '--names=["a", "b"]'),
        ("--names [a,b]", "--names [a,b]"),
        ("--names=[a,b]", "--names=[a,b]"),
        ("--names null", "--names=null"),
        ("--names=None", "--names=null"),
        ("--names --x 1", "--names --x 1"),
        ("--shares 0.75 0.5 .25", "--shares=[0.75, 0.5, .25]"),
        ("--shares 1 -1", "--shares=[1, -1]"),
        ("--other a b", "--other a b"),
        ("--names.x a b", "--names.x a b"),
        ("a b", "a b"),
    ],
)
def test_words_behind_an_option_that_is_a_list_are_one_list(words: str, expected: str) -> None:
    found = with_lists(words.split(" "), {"names": True, "shares": False})
    assert " ".join(found) == expected


def with_function(
    make: Callable[[list[str]], Inner] | None = None, names: list[str] | None = None
) -> None:
    """Take a function of a list, and a list."""


def test_a_function_of_a_list_is_no_list() -> None:
    path = f"{__name__}.Inner"
    values, plain = parse(with_function, [f"--make={path}", "--names", "a"], description="")
    assert plain["make"]["class_path"] == path
    assert values["names"] == ["a"]


def several(
    names: list[str] | None = None, shares: list[float] | None = None, one: int = 0
) -> None:
    """Take lists."""


def test_lists_are_given_by_words_or_as_one() -> None:
    for words in (
        ["--names", "*.a", "no", "--shares", "0.75", "1", "--one=2"],
        ["--names=['*.a', 'no']", "--shares=[0.75,1]", "--one", "2"],
    ):
        values, _ = parse(several, words, description="")
        assert values == {"names": ["*.a", "no"], "shares": [0.75, 1.0], "one": 2}
    with pytest.raises(BadInput, match="shares"):
        parse(several, ["--shares", "a", "b"], description="")

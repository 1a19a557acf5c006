"""JSON and YAML of strangers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from regrow.errors import BadInput
from regrow.plain import MISSHAPEN, parse_json, parse_yaml

READINGS: list[Callable[[], Any]] = [
    lambda: parse_json("{}", "x")["a"],
    lambda: parse_json("[]", "x")[0],
    lambda: parse_json("3", "x")["a"],
    lambda: parse_json('"a"', "x").items(),
    lambda: float(parse_json("[]", "x")),
    lambda: int(parse_json('"a"', "x")),
    lambda: int(parse_json("1e999", "x")),
    lambda: float(parse_json("1" + "0" * 400, "x")),
    lambda: "a".encode(parse_json('"b"', "x")),
]


@pytest.mark.parametrize("read", READINGS)
def test_reading_a_value_of_another_shape_raises_what_is_known(read: Callable[[], Any]) -> None:
    with pytest.raises(MISSHAPEN):
        read()


def _nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_a_hundred_levels_are_read_and_more_are_refused(parse: Callable[[str, str], Any]) -> None:
    value = parse(_nested(100, "7"), "x")
    for _ in range(100):
        (value,) = value
    assert value == 7
    for depth in (101, 990, 3000, 100_000):
        with pytest.raises(BadInput, match="^here: nested more than 100 deep"):
            parse(_nested(depth), "here")


def test_brackets_within_texts_are_no_depth() -> None:
    value = {"a": "[" * 1000, "b": ["{" * 1000]}
    assert parse_json(json.dumps(value), "x") == value
    assert parse_yaml(json.dumps(value), "x") == value


def test_mappings_count_as_depth_too() -> None:
    text = '{"a":' * 101 + "1" + "}" * 101
    for parse in (parse_json, parse_yaml):
        with pytest.raises(BadInput, match="nested more than 100 deep"):
            parse(text, "x")


def test_aliases_may_repeat_parts_but_not_without_bound() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}", "x") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]},
    }
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(BadInput, match="^x: more than 200,000 values"):
        parse_yaml(f"a0: &a0 [1]\n{levels}", "x")
    merges = "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    with pytest.raises(BadInput, match="more than 200,000 values"):
        parse_yaml(f"a0: &a0 {{x: 1}}\n{merges}", "x")
    with pytest.raises(BadInput, match="contains itself"):
        parse_yaml("a: &a [*a]", "x")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "a: !!int x",
        "a: !!int ''",
        "a: !!timestamp x",
        "a: !!binary x",
        "a: 2020-99-99",
        "? [a]\n: b",
        f"a: {'9' * 5000}",
        "a: \x00",
        "*a",
        "a: !!float ''",
        "a: !!bool x",
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="^here: not YAML") as told:
        parse_yaml(text, "here")
    assert str(told.value).isprintable()


@pytest.mark.parametrize("text", ["", "{", "[1,]", "9" * 5000, '"\x1b[2J'])
def test_what_is_no_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="^here: not JSON") as told:
        parse_json(text, "here")
    assert str(told.value).isprintable()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parse", "dump"), [(parse_json, json.dumps), (parse_yaml, yaml.safe_dump)]
)
def test_damaged_text_is_refused_or_read(
    parse: Callable[[str, str], Any],
    dump: Callable[[Any], str],
    mutated_bytes: Callable[[bytes, int], bytes],
) -> None:
    value = {
        "a": [1, 2.5, None, True, "text \u00e9 \\ud800"],
        "b": {"c": [{"d": []}] * 3, "<<": {}},
    }
    refused = 0
    for seed in range(1000):
        text = mutated_bytes(dump(value).encode(), seed).decode("utf-8", "surrogateescape")
        said = "none"
        try:
            parse(text, "x")
        except BadInput as error:
            refused, said = refused + 1, str(error)
        assert said.isprintable()
        assert len(said) < 2500
    assert 0 < refused < 1000

"""Values of options, as Python, Step Functions, tuners and shells write them.

They arrive as `None` for null, `(32, 32)` for a list, `1.0` for a whole number, or in quotes once
too often. What they can only mean is taken; the rest is left to the parser of the options.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter, signature
from pydoc import locate
from typing import Any

from regrow.errors import BadInput

MAX_LITERAL = 10_000  # characters of a value that are looked at as Python's
MAX_NUMBER = 2**63  # beyond what a counter, a size or a seed can be
BRACKETS, PLURAL = "([{", (list, tuple, dict)
# What the parser says of a number that must be whole, with the option's path in quotes before.
NOT_WHOLE = re.compile(r"Expected a <class 'int'>\. Got value: (-?\d+\.0+)(?![\d.])")
CLASS_KEYS = ("class_path", "init_args")  # of a class in YAML
KEYS = re.compile(r'"([\w.]+)": ')


def as_option(text: str) -> str:
    """Return the value of an option as the parser reads it, from what was written.

    Args:
        text: The value. Text in a pair of quotes is what stands between them, Python's None is
            null, and its lists, tuples and mappings are JSON's.
    """
    text = unquoted(text)
    if text.strip() == "None":
        return "null"
    if text.strip() and text.strip()[0] in BRACKETS and len(text) <= MAX_LITERAL:
        try:
            value = ast.literal_eval(text.strip())
            return json.dumps(value, allow_nan=False) if isinstance(value, PLURAL) else text
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text  # not Python's: YAML's, or for the parser to refuse
    return text


def unquoted(text: str) -> str:
    """Return what stands between the quotes of a JSON text, however often it was quoted."""
    while len(text) > 1 and text[0] == text[-1] == '"':
        try:
            inner = json.loads(text)
        except ValueError:
            return text
        text = inner
    return text


def as_options(words: Sequence[str], mappings: Collection[str] = ()) -> list[str]:
    """Return a command line in which all values are as the parser reads them.

    Args:
        words: The words: options with their values behind `=` or as the next word.
        mappings: Options whose keys and values are a user's own names, which stay.
    """
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            is_given = bool(equals) and _is_ours(name, mappings)
            found.append(f"{name}={as_option(value)}" if is_given else word)
        elif before.startswith("--") and "=" not in before and _is_ours(before, mappings):
            found.append(as_option(word))
        else:
            found.append(word)
    return found


def with_lists(words: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """Return a command line in which the words behind an option that is a list are one list.

    Args:
        words: The words: `--names a b` or `--names=a` becomes `--names=["a", "b"]`; a value that is
            a list already, or null, stays.
        lists: Options that are lists, and whether what they hold is text.
    """
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name.removeprefix("--") not in lists:
            found.append(word)
            continue
        values = [value] if equals else []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if not values or (len(values) == 1 and values[0].strip()[:1] in (*'[("', "")):
            found += [word, *values] if not equals else [word]
        elif values in (["null"], ["None"]):
            found.append(f"{name}=null")
        else:
            is_text = lists[name.removeprefix("--")]
            inner = json.dumps(values) if is_text else f"[{', '.join(values)}]"
            found.append(f"{name}={inner}")
    return found


def _is_ours(option: str, mappings: Collection[str]) -> bool:
    return option.removeprefix("--").partition(".")[0] not in mappings


def with_whole_number(words: Sequence[str], message: str) -> list[str] | None:
    """Return a command line without the fraction `.0` that the parser has refused.

    Args:
        words: The words.
        message: What the parser has said, in one line.

    Returns:
        The words; None where it has refused something else, or no word gave that value.
    """
    refused = _refused(message)
    if refused is None:
        return None
    path, number, whole = refused
    changed = list(words)
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        option = _plain_path(name.removeprefix("--"))
        if not word.startswith("--") or not f"{path}.".startswith(f"{option}."):
            continue
        if equals:
            changed[place] = name + equals + number.sub(whole, word.removeprefix(name + equals))
        elif place + 1 < len(words):
            changed[place + 1] = number.sub(whole, words[place + 1])
    return changed if changed != list(words) else None


def with_whole(options: Any, message: str) -> Any:
    """Return nested options without the fraction `.0` that the parser has refused.

    Args:
        options: The options, as `nested` returns them.
        message: What the parser has said, in one line.

    Returns:
        The options; None where it has refused something else, or none has that value.
    """
    refused = _refused(message)
    if refused is None:
        return None
    path, number, whole = refused

    def changed(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {
                key: changed(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [changed(inner, name) for inner in value]
        text = value if isinstance(value, str) else repr(value)
        is_it = _plain_path(name) == path and number.search(text)
        return number.sub(whole, text) if is_it else value

    made = changed(options, "")
    return made if made != options else None


def _refused(message: str) -> tuple[str, re.Pattern[str], str] | None:
    """Return the path of a number that must be whole, what finds it in a text, and it as whole."""
    found = NOT_WHOLE.search(message)
    if found is None:
        return None
    path = _plain_path(".".join(KEYS.findall(message[: found.start()])))
    number = re.compile(rf"(?<![\w.]){re.escape(found[1])}(?![\w.])")
    return path, number, found[1].partition(".")[0]


def nested(
    options: Mapping[str, Any], classes: Collection[str], mappings: Collection[str]
) -> dict[str, Any]:
    """Return options by their names with dots as nested mappings, as a YAML file has them.

    Args:
        options: The values by the name of their option.
        classes: Options that name a class, whose arguments then lie in its `init_args`.
        mappings: Options whose keys are a user's own names, with dots and all.

    Raises:
        BadInput: If one option is given both a value and parts of one.
    """
    made: dict[str, Any] = {}
    for name in sorted(options, key=len):  # a class before its arguments
        is_own = name.partition(".")[0] in mappings
        *groups, last = name.split(".", 1) if is_own else name.split(".")
        node = made
        for place, group in enumerate(groups):
            path = ".".join(groups[: place + 1])
            is_class = group not in CLASS_KEYS and _plain_path(path) in classes
            inner = node.get(group, {})
            if is_class and isinstance(inner, str):
                inner = {"class_path": inner}
            if not isinstance(inner, Mapping):
                raise BadInput(f"{name} is part of {path}, which is given as {inner!r}; give one")
            node[group] = node = dict(inner)
            if is_class and [*groups, last][place + 1] not in CLASS_KEYS:
                node["init_args"] = node = dict(node.get("init_args") or {})
        node[last] = options[name]
    return made


def _plain_path(path: str) -> str:
    return ".".join(part for part in path.split(".") if part != "init_args")


def check_numbers(values: Any, name: str = "") -> None:
    """Refuse numbers that nothing can count with, wherever they stand in nested values.

    Raises:
        BadInput: Naming the option, if a number is not finite or beyond 63 bits.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_numbers(value, name if key == "init_args" else f"{name}.{key}".lstrip("."))
    elif isinstance(values, list | tuple):
        for value in values:
            check_numbers(value, name)
    elif isinstance(values, int) and abs(values) >= MAX_NUMBER:
        raise BadInput(f"{name} is a number beyond 63 bits; give a smaller one")
    elif isinstance(values, float) and not math.isfinite(values):
        raise BadInput(f"{name} is {values}; give a finite number")


def check_nulls(function: Callable[..., Any], values: Mapping[str, Any], name: str = "") -> None:
    """Refuse null for an argument that takes none, as where nothing stands behind a colon in YAML.

    Args:
        function: The function or class whose arguments the values are.
        values: Values by name, as plain data; a class is its path with its arguments.
        name: What they belong to, for the error.

    Raises:
        BadInput: Naming the option.
    """
    try:
        arguments = signature(function).parameters
    except ValueError:  # of a class in C, which does not tell
        return
    for key in [key for key in values if key in arguments]:
        value, kind = values[key], arguments[key]
        path = f"{name}.{key}" if name else key
        if value is None and kind.default is not None and not _takes_none(kind):
            raise BadInput(f"--{path}: null is no value for it; give one, or leave the option out")
        for one in value if isinstance(value, list) else [value]:
            own = kind.annotation
            if isinstance(one, Mapping) and "class_path" in one:
                own, one = locate(str(one["class_path"])), one.get("init_args")
            if isinstance(own, type) and isinstance(one, Mapping):
                check_nulls(own, one, path)


def _takes_none(argument: Parameter) -> bool:
    kind = argument.annotation
    return kind in (Any, Parameter.empty) or "None" in str(kind)

"""Command lines: a function's signature is its options, its YAML and its help."""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regrow.class_path import with_stable_paths
from regrow.errors import BadInput
from regrow.files import read_yaml
from regrow.guard import help_topic
from regrow.logs import show_log
from regrow.option_values import (
    as_options,
    check_nulls,
    check_numbers,
    nested,
    with_lists,
    with_whole,
    with_whole_number,
)
from regrow.parser import Choices, Parser, without_noise
from regrow.plain import MISSHAPEN, refuse_unbounded

Call = tuple[dict[str, Any], dict[str, Any]]  # the arguments of a call, and the same as plain data


def parse(
    function: Callable[..., Any],
    args: Sequence[str] | None,
    *,
    description: str,
    skip: Sequence[str] = (),
    positional: Mapping[str, str] = MappingProxyType({}),
    choices: Choices = MappingProxyType({}),
) -> Call:
    """Read a command line for a function.

    Options are the function's arguments, `--config FILE` reads them from YAML, dashes may stand for
    underscores (`--warm-start`), a flag that stands alone is true (`--json`), an argument that ends
    in an underscore, such as `for_`, is the option without it (`--for`), and where no argument is
    given by place, several words behind an option are a list (`--targets 0.75 0.5`).

    Args:
        function: The function; its types, defaults and docstring make the options.
        args: The words after the command's name; None reads those of the process.
        description: What the help says first; of a docstring the first paragraph counts.
        skip: Arguments that are no options.
        positional: What the help says of arguments that are given by place, which are paths.
        choices: Classes that an option can name, whose arguments the help explains too.

    Returns:
        The arguments of the call, and the same as plain data.

    Raises:
        BadInput: If there is no such option, or a class refuses its value.
        SystemExit: With code 0 after `--help TOPIC` and `--print_config`.
    """
    show_log()
    parser = _parser(function, skip, positional, choices)
    parser.about = description.partition("\n\n")[0]
    words = list(sys.argv[1:] if args is None else args)
    topic = help_topic(words)
    if topic is not None:
        parser.show_help(topic)
    mappings = _mappings(function)
    reserved = _reserved(function)
    words = [_underscored(word, mappings, reserved) for word in words]
    flags = {f"--{n}" for n, p in signature(function).parameters.items() if p.annotation is bool}
    words = [_valued(word, words[place + 1 :], flags) for place, word in enumerate(words)]
    if not positional:
        words = with_lists(words, parser.lists())
    words = as_options(words, mappings)
    for word in words:
        refuse_unbounded(word.partition("=")[2] or word, word.partition("=")[0][:40])
    for file in configs_of(words):
        _refuse_deep_texts(_content_of(file), str(file))
    values, plain = _call(function, parser, _parsed(parser, words))
    return values | {name: Path(values[name]) for name in positional}, plain


def read(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    base: Path | Mapping[str, Any] = MappingProxyType({}),
    skip: Sequence[str] = (),
    choices: Choices = MappingProxyType({}),
) -> Call:
    """Read the options of a function from a mapping, as `parse` does from words.

    Args:
        function: The function; its types, defaults and docstring make the options.
        options: Values by the name of their option, such as `fit.epochs`. A text is read as on a
            command line, so that `3` may be a number or a name, as the option wants it.
        base: A YAML file or a mapping with further options, which those of the first one change.
        skip: Arguments that are no options.
        choices: Classes that an option can name, where its arguments stand behind dots.

    Returns:
        The arguments of the call, and the same as plain data.

    Raises:
        BadInput: If there is no such option, or a class refuses its value.
    """
    parser, mappings = _parser(function, skip, {}, choices), _mappings(function)
    reserved = _reserved(function)

    def content_of(given: Mapping[str, Any]) -> dict[str, Any]:
        named = {_underscored(f"--{n}", mappings, reserved)[2:]: v for n, v in given.items()}
        return nested(named, choices, mappings)

    below = _content_of(base) if isinstance(base, Path) else content_of(base)
    if not isinstance(below, dict):
        raise BadInput(f"{base}: holds a {type(below).__name__}; expected options by name")
    content = content_of(options)
    _refuse_deep_texts(below, str(base) if isinstance(base, Path) else "an option")
    _refuse_deep_texts(content, "an option")
    return _call(function, parser, _read(parser, content, below))


def _parser(
    function: Callable[..., Any],
    skip: Sequence[str],
    positional: Mapping[str, str],
    choices: Choices,
) -> Parser:
    parser = Parser(exit_on_error=True, allow_abbrev=False)
    parser.choices = choices
    parser.add_argument("--config", action="config", help="A YAML file with the options below.")
    for name, about in positional.items():
        parser.add_argument(name, type=str, help=about)
    parser.add_function_arguments(
        function, fail_untyped=True, skip={*skip, *positional}, sub_configs=False
    )
    return parser


def _mappings(function: Callable[..., Any]) -> set[str]:
    """Return the options whose keys are a user's own, such as names of classes with dashes."""
    return {n for n, p in signature(function).parameters.items() if "dict[" in str(p)}


def _reserved(function: Callable[..., Any]) -> set[str]:
    """Return the arguments that end in an underscore, since their names are words of Python."""
    return {name for name in signature(function).parameters if name.endswith("_")}


def _call(function: Callable[..., Any], parser: Parser, config: Any) -> Call:
    """Return the arguments of the call that was parsed, built, and the same as plain data."""
    check_numbers(config.as_dict())
    plain = {name: value for name, value in _plain(config).items() if name != "config"}
    check_nulls(function, plain)
    try:
        values = dict(parser.instantiate(config).items())
    except (TypeError, ValueError) as error:
        # What a class says of its arguments, ours or anyone's.
        line = without_noise(str(error))
        raise BadInput(f"an option has a value that cannot be used: {line}") from error
    values.pop("config", None)
    return {name: value for name, value in values.items() if "." not in name}, plain


def _parsed(parser: Parser, words: Sequence[str]) -> Any:
    """Return what a parser makes of words; a whole number may have been written as 1.0."""
    try:
        return parser.parse_args(words)
    except RecursionError as error:
        raise BadInput("an option is nested too deeply; no value that regrow takes is") from error
    except BadInput as error:
        whole = with_whole_number(words, str(error))
        if whole is None:
            raise
    return _parsed(parser, whole)


def _read(parser: Parser, content: dict[str, Any], base: dict[str, Any]) -> Any:
    """Return what a parser makes of options and of the config below them."""
    try:
        return parser.parse_nested(content, base)
    except RecursionError as error:
        raise BadInput("an option is nested too deeply; no value that regrow takes is") from error
    except BadInput as error:
        whole = with_whole(content, str(error))
        if whole is None:
            raise
    except MISSHAPEN as error:
        # Where a group of options is no mapping, or a name is none.
        line = without_noise(str(error))
        raise BadInput(f"an option has a value that cannot be used: {line}") from error
    return _read(parser, whole, base)


def names_option(args: Sequence[str] | None, name: str) -> bool:
    """Whether a command line, or a config that it names, gives an option.

    Args:
        args: The words after the command's name; None reads those of the process.
        name: The option, without dashes.
    """
    words = list(sys.argv[1:] if args is None else args)
    if any(re.match(rf"--{name}(\.|=|$)", word) for word in words):
        return True
    for file in configs_of(words):
        content = _content_of(file)
        if isinstance(content, dict) and name in content:
            return True
    return False


def configs_of(words: Sequence[str]) -> list[Path]:
    """Return the files that a command line names as configs."""
    after = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config"]
    joined = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    return [Path(name) for name in after + joined]


def _content_of(file: Path) -> Any:
    """Read a config within the limits of what a stranger may write, and name it in errors."""
    if not file.exists():
        raise BadInput(f"{file}: no such config; name a YAML file")
    return read_yaml(file)


def _refuse_deep_texts(content: Any, name: str) -> None:
    for text in _texts(content):
        refuse_unbounded(text, f"{name}: a text")


def _texts(content: Any) -> Iterator[str]:
    """Yield the texts in a config, which the parser takes for YAML again."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list | tuple | set):
        inner = content.items() if isinstance(content, Mapping) else content
        for part in inner:
            yield from _texts(part)


def _underscored(word: str, mappings: Collection[str], reserved: Collection[str]) -> str:
    name, equals, value = word.partition("=")
    option, dot, key = name.partition(".")
    if not option.startswith("--"):
        return word
    option = option[2:].replace("-", "_")
    if f"{option}_" in reserved:
        option += "_"
    key = key if option in mappings else key.replace("-", "_")
    return f"--{option}{dot}{key}{equals}{value}"


def _valued(word: str, following: Sequence[str], flags: Collection[str]) -> str:
    is_alone = word in flags and (not following or following[0].lower() not in ("true", "false"))
    return f"{word}=true" if is_alone else word


def _plain(config: Any) -> dict[str, Any]:
    values = json.loads(json.dumps(config.as_dict(), default=str))
    plain: dict[str, Any] = with_stable_paths(values)
    return plain

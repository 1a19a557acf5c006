"""A function's signature is its command line, its YAML and its help."""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import signature
from numbers import Number
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type

from regrow.class_path import class_path, with_stable_paths
from regrow.errors import BadInput
from regrow.files import read_yaml
from regrow.logs import show_log
from regrow.option_values import as_options, check_numbers, with_whole_number
from regrow.plain import refuse_unbounded
from regrow.suggestions import NO_WORD, suggestion


def _number(value: Any) -> int | float:
    """Read what a class wants any number for, such as torchvision's RandomAffine."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"Expected a number. Got value: {value}")
    return value


# Python's own type of all numbers, which the parser would take for one to be named by its path, and
# could not print.
register_type(Number, serializer=_number, deserializer=_number, fail_already_registered=False)
# What jsonargparse says of Python's types, which nobody wrote in a config.
PARSER_NOISE = re.compile(
    r"Type collections\S*?\[.*?\] expects a function or a callable class: "
    r"|Parser key |(Got|Given) value: (Namespace|NestedArg)\(.*\)$"
    r"|Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - "
    r"|- Expected a <class 'NoneType'> |Given value type: <class '[\w.]+'> "
)
NUMBER_FOR_TEXT = re.compile(r"Expected a <class 'str'>\. Got value: (-?[\d.]+)")
GIVEN = {"classes", "size"}  # a task has them from the data
Choices = Mapping[str, Sequence[type]]


class _Parser(ArgumentParser):
    """A parser whose errors are one line, and whose help explains the choosable classes too."""

    about: str = ""
    choices: Choices = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Name the option and the way out in one line."""
        if not self.exit_on_error:  # a parser within the parser
            super().error(message, ex)
        line = _without_noise(message)
        number = NUMBER_FOR_TEXT.search(line)
        if number is not None:
            line += f"; a name that looks like a number needs quotes, '\"{number[1]}\"'"
        hint = suggestion(line, self, self.choices)
        line = NO_WORD.sub(r"\1: no such option", line) + hint
        raise BadInput(f"{line}; --help explains every option") from ex

    def format_help(self) -> str:  # type: ignore[override]
        """Give the help, and that of the classes which an option can name."""
        usage, _, options = super().format_help().partition("\n\n")
        parts = [f"{usage}\n", f"{self.about.strip()}\n", options]
        for option, classes in self.choices.items():
            for choice in classes:
                inner = ArgumentParser(add_help=False)
                skip = GIVEN & _parameters(choice) if option == "task" else set()
                inner.add_class_arguments(choice, option, skip=skip)
                title = f"--{option} {class_path(choice)}"
                parts.append(f"{title}\n{inner.format_help().partition(chr(10) * 2)[2]}")
        return "\n".join(parts)


def _parameters(choice: type) -> set[str]:
    return set(signature(choice).parameters)


def parse(
    function: Callable[..., Any],
    args: Sequence[str] | None,
    *,
    description: str,
    skip: Sequence[str] = (),
    positional: Mapping[str, str] = MappingProxyType({}),
    choices: Choices = MappingProxyType({}),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a command line for a function.

    Options are the function's arguments, `--config FILE` reads them from YAML, dashes may stand for
    underscores (`--warm-start`), and a flag that stands alone is true (`--json`).

    Args:
        function: The function; its types, defaults and docstring make the options.
        args: The words after the command's name; None reads those of the process.
        description: What `--help` says first.
        skip: Arguments that are no options.
        positional: What `--help` says of arguments that are given by place.
        choices: Classes that an option can name, whose arguments `--help` explains too.

    Returns:
        The arguments of the call, and the same as plain data.

    Raises:
        BadInput: If there is no such option, or a class refuses its value.
    """
    show_log()
    parser = _Parser(exit_on_error=True, allow_abbrev=False)
    parser.about, parser.choices = description, choices
    parser.add_argument("--config", action="config", help="A YAML file with the options below.")
    for name, about in positional.items():
        parser.add_argument(name, type=str, help=about)
    parser.add_function_arguments(
        function, fail_untyped=True, skip={*skip, *positional}, sub_configs=False
    )
    words = sys.argv[1:] if args is None else args
    # The keys of a mapping, such as names of classes, may have dashes of their own.
    mappings = {n for n, p in signature(function).parameters.items() if "dict[" in str(p)}
    words = [_underscored(word, mappings) for word in words]
    flags = {f"--{n}" for n, p in signature(function).parameters.items() if p.annotation is bool}
    words = [_valued(word, words[place + 1 :], flags) for place, word in enumerate(words)]
    words = as_options(words, mappings)
    for word in words:
        refuse_unbounded(word.partition("=")[2] or word, word.partition("=")[0][:40])
    for file in _configs(words):
        for text in _texts(_content_of(file)):
            refuse_unbounded(text, f"{file}: a text")
    config = _parsed(parser, words)
    check_numbers(config.as_dict())
    plain = {name: value for name, value in _plain(config).items() if name != "config"}
    try:
        values = dict(parser.instantiate(config).items())
    except (TypeError, ValueError) as error:
        # What a class says of its arguments, ours or anyone's.
        line = _without_noise(str(error))
        raise BadInput(f"an option has a value that cannot be used: {line}") from error
    values.pop("config", None)
    return {name: value for name, value in values.items() if "." not in name}, plain


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """Give what a parser makes of words; a whole number may have been written as 1.0."""
    try:
        return parser.parse_args(words)
    except RecursionError as error:
        raise BadInput("an option is nested too deeply; no value that regrow takes is") from error
    except BadInput as error:
        whole = with_whole_number(words, str(error))
        if whole is None:
            raise
    return _parsed(parser, whole)


def _without_noise(message: str) -> str:
    """Give what a parser says in one line, without its own types."""
    return " ".join(PARSER_NOISE.sub("", " ".join(message.split())).split()).rstrip(".")


def names_option(args: Sequence[str] | None, name: str) -> bool:
    """Say whether a command line, or a config that it names, gives an option.

    Args:
        args: The words after the command's name; None reads those of the process.
        name: The option, without dashes.
    """
    words = list(sys.argv[1:] if args is None else args)
    if any(re.match(rf"--{name}(\.|=|$)", word) for word in words):
        return True
    for file in _configs(words):
        content = _content_of(file)
        if isinstance(content, dict) and name in content:
            return True
    return False


def _configs(words: Sequence[str]) -> list[Path]:
    after = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config"]
    joined = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    return [Path(name) for name in after + joined]


def _content_of(file: Path) -> Any:
    """Read a config within the limits of what a stranger may write, and name it in errors."""
    if not file.exists():
        raise BadInput(f"{file}: no such config; configs/ has some")
    return read_yaml(file)


def _texts(content: Any) -> Iterator[str]:
    """List the texts in a config, which the parser takes for YAML again."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list | tuple | set):
        inner = content.items() if isinstance(content, Mapping) else content
        for part in inner:
            yield from _texts(part)


def _underscored(word: str, mappings: Collection[str]) -> str:
    name, equals, value = word.partition("=")
    option, dot, key = name.partition(".")
    if not option.startswith("--"):
        return word
    option = option[2:].replace("-", "_")
    key = key if option in mappings else key.replace("-", "_")
    return f"--{option}{dot}{key}{equals}{value}"


def _valued(word: str, following: Sequence[str], flags: Collection[str]) -> str:
    is_alone = word in flags and (not following or following[0].lower() not in ("true", "false"))
    return f"{word}=true" if is_alone else word


def _plain(config: Any) -> dict[str, Any]:
    return with_stable_paths(json.loads(json.dumps(config.as_dict(), default=str)))

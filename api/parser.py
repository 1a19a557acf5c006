"""The parser of a command line: errors in one line, help by topic, configs with stable paths."""

import re
from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Number
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import SUPPRESS, ArgumentParser, Namespace
from jsonargparse.typing import register_type

from regrow.class_path import class_path, with_stable_paths
from regrow.errors import BadInput
from regrow.suggestions import NO_KEY, NO_WORD, closest, suggestion


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
# An argument that ends in an underscore, since its name is a word of Python.
RESERVED = re.compile(r"(--|\")(\w+)_(?![\w.])")
REQUIRED = re.compile(r"the following arguments are required: ([\w, ]+)")
UNIONS = (Union, UnionType)
GIVEN = {"classes", "size"}  # a task has them from the data
GENERAL, ALL = "general", "all"  # topics of the help besides the groups of options
Choices = Mapping[str, Sequence[type]]


class Parser(ArgumentParser):
    """A parser whose errors are one line, and whose help explains the choosable classes too.

    Attributes:
        about: What the help says first.
        choices: Classes that an option can name, whose arguments the help explains.
        topic: The topic that the help is about.
    """

    about: str = ""
    choices: Choices = {}
    topic: str = ALL

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error that names the option and the way out in one line."""
        if not self.exit_on_error:  # a parser within the parser
            super().error(message, ex)
        line = without_noise(message)
        number = NUMBER_FOR_TEXT.search(line)
        if number is not None:
            line += f"; a name that looks like a number needs quotes, '\"{number[1]}\"'"
        hint = suggestion(line, self, self.choices)
        line = NO_KEY.sub(_named, NO_WORD.sub(r"\1: no such option", line))
        line = REQUIRED.sub(self._required, line)
        line = RESERVED.sub(r"\1\2", f"{line}{hint}")
        raise BadInput(f"{line}; --help all explains every option") from ex

    def _required(self, found: re.Match[str]) -> str:
        """Return the line for arguments that are missing, options with their dashes."""
        by_place = {action.dest for action in self._actions if not action.option_strings}
        names = (name.strip() for name in found[1].split(","))
        return ", ".join(n if n in by_place else f"--{n}" for n in names) + ": required, not given"

    def dump(self, *args: Any, **options: Any) -> str:
        """Return settings as YAML, in which classes go by the paths that stay."""
        content = yaml.safe_load(super().dump(*args, **options))
        return yaml.safe_dump(with_stable_paths(content), sort_keys=False)

    def group_names(self) -> list[str]:
        """Return the names of the groups of options, such as `growth` and `growth.mixing`."""
        names = [action.dest for action in self._actions]
        parts = [name.split(".") for name in names if not name.endswith(".help")]
        found = [".".join(p[:count]) for p in parts for count in range(1, len(p))]
        return list(dict.fromkeys(found))

    def lists(self) -> dict[str, bool]:
        """Return the options that are lists of text or of numbers, and whether they hold text."""
        kinds = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
        found: dict[str, bool] = {}
        for name, kind in kinds.items():
            # Also a list that may be null, but no function that takes one.
            for choice in (kind, *(get_args(kind) if get_origin(kind) in UNIONS else ())):
                held = get_args(choice) if get_origin(choice) is list else ()
                if held and held[0] in (str, int, float):
                    found[name] = held[0] is str
        return found

    def topics(self) -> list[str]:
        """Return the topics of the help: groups of options, what is in none of them, and all."""
        names = [name.partition(".")[0] for name in [*self.group_names(), *self.choices]]
        return [*([GENERAL] if names else []), *dict.fromkeys(names), ALL]

    def parse_nested(self, options: Mapping[str, Any], base: Mapping[str, Any]) -> Namespace:
        """Return the settings that nested options mean, above those of a config.

        Raises:
            BadInput: If an option is none, or its value is not what it takes.
        """
        for name, value in [*self._by_group(base).items(), *self._by_group(options).items()]:
            if name in self.group_names() and not isinstance(value, str | Mapping):
                self.error(f"{name} is {value!r}, and it must hold options by their names")
        below = Namespace(self._by_group(base))  # type: ignore[no-untyped-call]
        found: Namespace = self.parse_object(dict(options), below)
        return found

    def _by_group(self, options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Return options by their full names, so that a part of a group leaves its other parts."""
        found: dict[str, Any] = {}
        for key, value in options.items():
            name = f"{prefix}{key}"
            is_group = isinstance(value, Mapping) and name in self.group_names()
            found |= self._by_group(value, f"{name}.") if is_group else {name: value}
        return found

    def show_help(self, topic: str) -> NoReturn:
        """Print the help on a topic, or on everything if it is empty, and exit.

        Raises:
            BadInput: If there is no such topic.
        """
        self.topic, topics = topic or ALL, self.topics()
        if self.topic not in topics:
            near = closest(topic, topics)
            hint = f"; did you mean --help {near[0]}?" if near else ""
            raise BadInput(f"--help {topic}: the topics are {', '.join(topics)}{hint}")
        print(self.format_help())
        raise SystemExit(0)

    def format_help(self) -> str:  # type: ignore[override]
        """Return the help on the topic, with that of the classes which its options can name."""
        for action in self._actions:
            if not self._is_shown(action.dest):
                action.help = SUPPRESS
            if action.dest == "print_config":
                action.metavar = "[=flags]"  # the parser's own begins with a backspace
        usage, _, options = super().format_help().partition("\n\n")
        parts = [f"{usage}\n"] if self.topic == ALL else []
        parts += [f"{self.about.strip()}\n", options]
        for option, classes in self.choices.items():
            if self._is_shown(option):
                parts += [_help_of(option, choice) for choice in classes]
        return RESERVED.sub(r"\1\2", "\n".join(parts))

    def _is_shown(self, name: str) -> bool:
        group, topics = name.partition(".")[0], self.topics()
        return self.topic in (ALL, group if group in topics else GENERAL)


def _help_of(option: str, choice: type) -> str:
    """Return the help on the arguments of a class that an option can name."""
    inner = ArgumentParser(add_help=False)
    skip = GIVEN & set(signature(choice).parameters) if option == "task" else set()
    inner.add_class_arguments(choice, option, skip=skip)
    return f"--{option} {class_path(choice)}\n{inner.format_help().partition(chr(10) * 2)[2]}"


def _named(key: re.Match[str]) -> str:
    return f"{key[1] or f'{key[2]}.{key[3]}'}: no such option"


def without_noise(message: str) -> str:
    """Return what a parser says in one line, without its own types."""
    return " ".join(PARSER_NOISE.sub("", " ".join(message.split())).split()).rstrip(".")

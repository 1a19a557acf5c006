"""Suggestions for a mistyped option, class or choice: the name that is closest to it."""

import difflib
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from inspect import isclass, signature
from typing import Any

from jsonargparse import ArgumentParser

from regrow.class_path import class_path
from regrow.option_values import KEYS, NOT_WHOLE, as_option

CLOSE = 0.6  # the least likeness of two words, from 0 to 1; difflib's own default
# How the parser says that there is no such option: a word, a key of a class, a key of a group.
NO_WORD = re.compile(r"unrecognized arguments: (--[\w.-]+)\S*( (?!--)\S+)?")
NO_KEY = re.compile(r"(?:Option '([\w.]+)' is not accepted|Group '([\w.]+)' does not accept option "
                    r"'([\w.]+)')")  # fmt: skip
OF_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")
# How it says that there is no such class.
NO_CLASS = re.compile(
    r"module '([\w.]+)' has no attribute '(\w+)'|Expected a dot import path string: (\w+)"
    r"|object has no attribute 'returns'\. Got value: ([\w.]+)"
)
NO_CHOICE = re.compile(r"Expected a typing\.Literal\[([^]]*)\]\. Got value: (\S+)")
# Python's words in a config, where they are YAML's text.
PYTHON_NONE = re.compile(r"Given value: None$")
PYTHON_TUPLE = re.compile(r"Expected a <class '(?:tuple|list)'>\.? (?:Got|Given) value: (\(.*\))")
TRUTH_FOR_TEXT = re.compile(r"Expected a <class 'str'>\. Got value: (True|False)")


def suggestion(line: str, parser: ArgumentParser, choices: Mapping[str, Sequence[type]]) -> str:
    """Return what to write instead, as the end of a sentence; empty where nothing is close.

    Args:
        line: What the parser has said, in one line.
        parser: The parser.
        choices: Classes that an option can name.
    """
    refused = NO_CHOICE.search(line)
    if refused is not None:
        return _meant(refused[2], re.findall(r"'([^']*)'", refused[1]))
    whole = NOT_WHOLE.search(line)
    if whole is not None:
        return f"; write {whole[1].partition('.')[0]}"
    if PYTHON_NONE.search(line):
        return "; write null"
    plural = PYTHON_TUPLE.search(line)
    if plural is not None:
        return f"; write {as_option(plural[1])}"
    if TRUTH_FOR_TEXT.search(line):
        return "; a name that YAML takes for true or false, such as no, needs quotes"
    missing = NO_CLASS.search(line)
    if missing is not None:
        return _meant_class(missing, choices)
    word, key = NO_WORD.search(line), NO_KEY.search(line)
    if word is not None:
        path = _path(line[: word.start()], word[1].removeprefix("--").replace("-", "_"))
        return _meant(path, option_names(parser, choices), "--")
    if key is not None:
        of_class = OF_CLASS.findall(line[: key.start()])
        path = _path(line[: key.start()], key[1] or f"{key[2]}.{key[3]}")
        own = _arguments(of_class[-1]) if of_class else []
        return _meant(key[1] or path, own) or _meant(path, option_names(parser, choices))
    return ""


def option_names(parser: ArgumentParser, choices: Mapping[str, Sequence[type]]) -> list[str]:
    """Return the names of all options, also of those of the classes that an option can name."""
    names = _names_of(parser)
    for option, classes in choices.items():
        for choice in classes:
            inner = ArgumentParser(add_help=False)
            inner.add_class_arguments(choice, option)
            names += _names_of(inner)
    return list(dict.fromkeys(names))


def _names_of(parser: ArgumentParser) -> list[str]:
    names = [action.dest for action in parser._actions]
    return [n for n in names if n != "print_config" and n.rpartition(".")[2] != "help"]


def _path(before: str, name: str) -> str:
    """Return the full name of an option, whose path stands in quotes before it."""
    return ".".join([*KEYS.findall(before), name])


def _arguments(path: str) -> list[str]:
    """Return the arguments of a class that the parser has imported, and of those it is made of."""
    module, _, name = path.rpartition(".")
    found: Any = getattr(sys.modules.get(module), name, None)
    parts = found.__mro__ if isclass(found) else []
    names: list[str] = []
    for part in parts:
        if "__init__" in vars(part):
            names += [n for n in signature(vars(part)["__init__"]).parameters if n != "self"]
    return [name for name in names if name not in ("args", "kwargs")]


def _meant_class(missing: re.Match[str], choices: Mapping[str, Sequence[type]]) -> str:
    classes = [choice for some in choices.values() for choice in some]
    paths = [class_path(choice) for choice in classes]
    module, name, short, path = missing.groups()
    if short is not None:
        return _meant(short, [choice.__name__ for choice in classes])
    if module is not None:
        own = [n for n, value in vars(sys.modules.get(module, sys)).items() if isclass(value)]
        near = difflib.get_close_matches(name, own, 1, CLOSE)
        return f"; did you mean {module}.{near[0]}?" if near else _meant(f"{module}.{name}", paths)
    return _meant(path, paths)


def _meant(word: str, known: Iterable[str], before: str = "") -> str:
    """Return the question whether a close name was meant, or one that ends in the word."""
    known = list(known)
    ends = [name for name in known if name.endswith(f".{word}")]
    begun = [name for name in known if len(word) > 2 and name.startswith(word)]
    near = ends[:1] or closest(word, known) or begun[:1]
    return f"; did you mean {before}{near[0]}?" if near else ""


def closest(word: str, known: Collection[str]) -> list[str]:
    """Return the closest name in a list, one in the same group before others; or an empty list."""
    group, _, last = word.rpartition(".")
    # By the last part alone: long groups in common would make any two names alike.
    beside = {n.rpartition(".")[2]: n for n in known if n.rpartition(".")[0] == group}
    near = difflib.get_close_matches(last, beside, 1, CLOSE)
    if near or beside:
        return [beside[name] for name in near]
    return difflib.get_close_matches(word, known, 1, CLOSE)

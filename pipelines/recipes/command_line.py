"""A folder of images named on the command line, where a config would stand: its recipe."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import yaml

from regrow.class_path import class_path
from regrow.cli import configs_of
from regrow.data.config import CONFIG_FILE
from regrow.data.detect import TASKS as TASK_NAMES
from regrow.data.detect import detect
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.files import read_yaml
from regrow.guard import help_topic
from regrow.logs import log
from regrow.models.checkpoint import load
from regrow.models.task import Task
from regrow.pipelines.recipes.recipe import Given, choose, remarks_on
from regrow.pipelines.recipes.stopped import TASKS, stopped_recipe
from regrow.pipelines.recipes.survey import Machine, survey

Read = Callable[[Sequence[str]], tuple[dict[str, Any], dict[str, Any]]]
KINDS: Mapping[str, Kind] = {name: kind for kind, name in TASK_NAMES.items()}
PRINT = "--print_config"
NAMES = "classification, detection or segmentation"


@contextmanager
def with_recipe(words: Sequence[str], read: Read) -> Iterator[list[str]]:
    """Yield a command line that names a config, whether the given one does or names a folder.

    `--task detection` stands for the class of the task. Without a config that names a source of
    data it asks for a recipe, below what other configs say: the
    format of `--data.root` is found out, and network, size, augmentation and epochs are chosen for
    the images and the machine. The recipe is printed, as a config; options beside it win. A run
    that is resumed goes on with the recipe in its folder.

    Args:
        words: The command line.
        read: Reads a command line: the arguments of the call, and the same as plain data.

    Raises:
        BadInput: If neither a config nor a task and a folder are named, or the folder has no
            images with labels for the task.
    """
    name = _option(words, "task")
    kind = KINDS.get(name or "")
    if name is not None and kind is None and name.islower() and "." not in name:
        raise BadInput(f"--task is {name!r}{_nearest(name)}; give {NAMES}")
    rest = _without(words, "task") if kind is not None else list(words)
    root, parent = _option(words, "data.root"), _option(words, "warm_start")
    if help_topic(words) is not None or (
        _names_config(words) and (root is None or _has_source(words))
    ):
        yield rest if kind is None else _with_task(rest, class_path(TASKS[kind]))
        return
    if kind is None and _has_option(words, "task"):  # a class path, with all that it needs
        yield rest
        return
    if root is None or (kind is None and parent is None):
        _refuse_incomplete(rest, read, _refusal(name, root))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        left = Path(_option(rest, "run") or "runs/train") / CONFIG_FILE
        if _option(rest, "resume") is not None and left.is_file():
            _write(file, stopped_recipe(left, _allowed(rest)))
            yield [f"--config={file}", *rest]
            return
        recipe, lines = _new_recipe(kind, Path(root), parent, rest, read, file)
        _write(file, recipe)
        found = [f"--config={file}", *rest]
        if not any(word.startswith(PRINT) for word in rest) and _is_first():
            config = _as_given(recipe, read([f"--config={file}"])[1], read(found)[1])
            comments = "".join(f"# {line}\n" for line in lines)
            log.info(f"{comments}{_dumped(config)}".rstrip())
        yield found


def _refusal(name: str | None, root: str | None) -> str:
    if root is None and name in KINDS:
        return f"--task {name} needs a folder of images and labels: add --data.root FOLDER"
    task = f"--task {NAMES.replace(', ', '|').replace(' or ', '|')}"
    return (
        f"name the task and the folder of images, {task} --data.root FOLDER, or a config, "
        "--config FILE; --help explains every option"
    )


def _refuse_incomplete(words: Sequence[str], read: Read, line: str) -> NoReturn:
    """Refuse a command line without task or folder; an option that does not exist is named."""
    try:
        read(words)
    except BadInput as error:
        if "required, not given" not in str(error):
            raise
    raise BadInput(line)


def _new_recipe(
    kind: Kind | None,
    root: Path,
    parent: str | None,
    words: Sequence[str],
    read: Read,
    file: Path,
) -> tuple[dict[str, Any], list[str]]:
    """Return the recipe for a folder, and what to know of it, a line each."""
    old = load(Path(parent), allow=_allowed(words)) if parent is not None else None
    kinds = [own for own in (kind, old.kind if old is not None else None) if own is not None]
    if len(set(kinds)) > 1:
        raise BadInput(
            f"{parent} is a network for {TASK_NAMES[kinds[1]]}; name that task, or none, with "
            "--warm-start"
        )
    kind = kinds[0]
    begun: dict[str, Any] = {"task": {"class_path": class_path(TASKS[kind])}, "data": {}}
    if not re.search(r"(^|\s)--data\.source(\.class_path)?(=|\s|$)", " ".join(words)):
        begun["data"]["source"] = detect(root, kind)
    begun["data"]["root"] = str(root)
    _write(file, begun)
    plain = [word for word in words if not word.startswith(PRINT)]
    values, settings = read([f"--config={file}", *plain])
    if "source" not in begun["data"]:
        begun["data"] = {"source": settings["data"]["init_args"]["source"], **begun["data"]}
    seen, machine = survey(values["data"]), Machine.at_hand()
    if seen.kind != kind:
        raise BadInput(
            f"{root}: holds {seen.kind}, for --task {TASK_NAMES[seen.kind]}; {TASK_NAMES[kind]} "
            f"needs {kind}"
        )
    given = _given(words, values["data"].size, settings["task"]["init_args"], old)
    recipe = choose(seen, machine, given)
    recipe["data"] = {**begun["data"], **recipe["data"]}
    return recipe, [str(seen), *remarks_on(recipe, machine, given)]


def _given(
    words: Sequence[str], size: tuple[int, int], task: Mapping[str, Any], old: Task | None
) -> Given:
    """Return what the user, or the parent of a warm start, has settled.

    Args:
        words: The command line.
        size: The size of the resized images, if the user gave one.
        task: The arguments of the task, those of the user among them.
        old: The network of the parent.
    """
    has_weights = task.get("weights") is not None
    if old is not None:
        return Given(old.size, old.net_name, old.net_args, has_weights, is_warm=True)
    return Given(
        size if _has_option(words, "data.size") else None,
        task["net"] if _has_option(words, "task.net") else None,
        has_weights=has_weights,
    )


def _as_given(
    recipe: Mapping[str, Any], plain: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a recipe with the options that were given beside it, and no other defaults.

    Args:
        recipe: The recipe.
        plain: All settings that it makes by itself.
        given: All settings with what was given beside it.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        own, before = recipe.get(name), plain.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if _is_usual_class(own, before, value):
                before, value = before["init_args"], value["init_args"]
            inner = _as_given(own if isinstance(own, Mapping) else {}, before, value)
            if inner:
                found[name] = inner
        elif name in recipe or value != before:
            found[name] = value
    return found


def _is_usual_class(own: Any, before: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether settings name a class that need not be named, as that of the data."""
    is_named = isinstance(own, Mapping) and "class_path" in own
    usual = before.get("class_path")
    return not is_named and usual is not None and usual == given.get("class_path")


def _write(file: Path, config: Mapping[str, Any]) -> None:
    file.write_text(_dumped(config), encoding="utf-8")


def _dumped(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(
        dict(config), sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )


def _allowed(words: Sequence[str]) -> tuple[str, ...]:
    given = yaml.safe_load(_option(words, "allow") or "[]")
    return tuple(map(str, given)) if isinstance(given, list) else ()


def _is_first() -> bool:
    """Whether this is the first of several processes, which start with the same command."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def _names_config(words: Sequence[str]) -> bool:
    return any(word == "--config" or word.startswith("--config=") for word in words)


def _with_task(words: Sequence[str], path: str) -> list[str]:
    """Return a command line that names the class of the task, before any argument of it."""
    places = [place for place, word in enumerate(words) if _plain(word).startswith("--task.")]
    first = min(places, default=len(words))
    return [*words[:first], f"--task={path}", *words[first:]]


def _has_source(words: Sequence[str]) -> bool:
    """Whether a config names the format of the data, or cannot be read."""
    for file in configs_of(words):
        try:
            content = read_yaml(file)
        except BadInput:
            return True
        data = content.get("data") if isinstance(content, Mapping) else None
        if isinstance(data, Mapping) and {"source", "class_path", "init_args"} & data.keys():
            return True
    return False


def _nearest(name: str) -> str:
    near = get_close_matches(name, KINDS, 1)
    return f", did you mean {near[0]}?" if near else ""


def _has_option(words: Sequence[str], name: str) -> bool:
    """Whether an option or a part of it is given."""
    return any(re.match(rf"--{re.escape(name)}([.=]|$)", _plain(word)) for word in words)


def _option(words: Sequence[str], name: str) -> str | None:
    """Return the last value that is given to an option; None where there is none."""
    value = None
    for place, word in enumerate(words):
        option, equals, joined = word.partition("=")
        if _plain(option) == f"--{name}":
            following = words[place + 1] if place + 1 < len(words) else None
            value = joined if equals else following
    return value


def _without(words: Sequence[str], name: str) -> list[str]:
    """Return a command line without an option and its value."""
    left, is_value = [], False
    for word in words:
        option, equals, _ = word.partition("=")
        is_named = _plain(option) == f"--{name}"
        if not is_named and not is_value:
            left.append(word)
        is_value = is_named and not equals
    return left


def _plain(option: str) -> str:
    return option.replace("-", "_").replace("__", "--", 1) if option.startswith("--") else option

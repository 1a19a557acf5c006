"""The recipe that a stopped run left in its folder, read as a stranger's file."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from regrow.class_path import class_path
from regrow.data.described import build_data
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.files import read_yaml
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.nets.allowed import check_name
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.plain import MISSHAPEN
from regrow.training.fit import Fit

TASKS: Mapping[Kind, type[Task]] = {
    own.kind: own for own in (Classification, Detection, Segmentation)
}


def stopped_recipe(file: Path, allow: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the recipe that a run left in its folder, for one that goes on.

    The file was not named by the user, so it may be a stranger's: it names nothing but regrow's own
    tasks, the networks that a checkpoint may name, and known data, and all else in it is plain.

    Args:
        file: The settings of the run.
        allow: Other people's packages that its network may come from.

    Raises:
        BadInput: Naming the file and what is more than a recipe has.
    """
    content = read_yaml(file)
    wayout = f"name it, if you trust it: --config {file}"
    try:
        task, data = content["task"], content["data"]
        arguments, fit = dict(task["init_args"]), dict(content["fit"])
        build_data(data)
        own = next(made for made in TASKS.values() if class_path(made) == task["class_path"])
        if arguments.pop("penalties", None) not in (None, []):
            raise BadInput("has penalties, more than a recipe has")
        if fit.pop("trainer", None) not in (None, {}):
            raise BadInput("has trainer, more than a recipe has")
        _refuse_others(task, {"class_path", "init_args"}, "task")
        _refuse_more_than_plain(arguments, _arguments(own), "task")
        _refuse_more_than_plain(fit, _arguments(Fit), "fit")
        check_name(own.kind, arguments["net"], arguments.get("net_args") or {}, allow)
    except BadInput as error:
        raise BadInput(f"{file}: {error}; {wayout}") from error
    except (StopIteration, *MISSHAPEN) as error:
        raise BadInput(f"{file}: no config of a training run ({error}); {wayout}") from error
    recipe = {"class_path": class_path(own), "init_args": arguments}
    return {"task": recipe, "data": data, "fit": fit}


def _refuse_others(values: Mapping[Any, Any], names: Set[str], group: str) -> None:
    for name in values.keys() - names:
        raise BadInput(f"has {group}.{name}, more than a recipe has")


def _refuse_more_than_plain(
    values: Mapping[Any, Any], hints: Mapping[str, Any], group: str
) -> None:
    """Refuse options of other names, and values that a parser would import or build classes of.

    Args:
        values: The options.
        hints: The arguments that there are, with their types.
        group: What the options are of.

    Raises:
        BadInput: Naming the option.
    """
    _refuse_others(values, hints.keys(), group)
    for name, value in values.items():
        # Text for an argument that is a class would be the path of one.
        if _names_a_class(value) or (isinstance(value, str) and not _takes_text(hints[name])):
            raise BadInput(f"names a class in {group}.{name}, more than a recipe has")


def _names_a_class(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool({"class_path", "init_args", "dict_kwargs"} & value.keys()) or any(
            map(_names_a_class, value.values())
        )
    return isinstance(value, list | tuple) and any(map(_names_a_class, value))


def _takes_text(hint: Any) -> bool:
    return (
        hint in (str, Path) or get_origin(hint) is Literal or any(map(_takes_text, get_args(hint)))
    )


def _arguments(own: type) -> dict[str, Any]:
    """Return the arguments of a class and of its bases, with their types."""
    made = [vars(base)["__init__"] for base in own.__mro__ if "__init__" in vars(base)]
    hints = [get_type_hints(init) for init in made if init is not object.__init__]
    found = {name: hint for own_hints in hints for name, hint in own_hints.items()}
    return {name: hint for name, hint in found.items() if name not in ("return", "kwargs")}

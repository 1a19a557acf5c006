"""A function's signature is its command line, its YAML and its help."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from regrow.data.errors import BadInput
from regrow.data.module import GrowingData
from regrow.models.checkpoint import write_atomic

DATA_FILE = "data.yaml"


def parse(
    function: Callable[..., Any],
    args: Sequence[str] | None,
    *,
    description: str,
    skip: Sequence[str] = (),
    positional: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a command line for a function.

    Options are the function's arguments, `--config FILE` reads them from YAML, and dashes may
    stand for underscores (`--warm-start`). A wrong option ends the process with code 2.

    Args:
        function: The function; its types, defaults and docstring make the options.
        args: The words after the command's name; None reads those of the process.
        description: What `--help` says first.
        skip: Arguments that are no options.
        positional: Arguments that are given by place.

    Returns:
        The arguments of the call, and the same as plain data.

    Raises:
        BadInput: If a class refuses its arguments.
    """
    parser = ArgumentParser(description=description, exit_on_error=True)
    parser.add_argument("--config", action="config", help="A YAML file with the options below.")
    for name in positional:
        parser.add_argument(name, type=str)
    parser.add_function_arguments(
        function, fail_untyped=True, skip={*skip, *positional}, sub_configs=False
    )
    words = sys.argv[1:] if args is None else args
    config = parser.parse_args([_underscored(word) for word in words])
    plain = {name: value for name, value in _plain(config).items() if name != "config"}
    try:
        values = dict(parser.instantiate(config).items())
    except (TypeError, ValueError) as error:
        # What a class says of its arguments, ours or anyone's.
        raise BadInput(f"an option has a value that cannot be used: {error}") from error
    values.pop("config", None)
    return {name: value for name, value in values.items() if "." not in name}, plain


def data_beside(checkpoint: Path) -> GrowingData:
    """Give the data that a run was made with, from the `data.yaml` beside its checkpoint.

    Raises:
        BadInput: If there is no such file, or no checkpoint.
    """
    if not checkpoint.is_file():
        raise BadInput(f"{checkpoint}: no such checkpoint; give the path of a .ckpt file")
    file = checkpoint.parent / DATA_FILE
    if not file.is_file():
        raise BadInput(f"{file}: not there, so name the data with --config or --data")

    def only(data: GrowingData) -> None:
        """Take the data."""

    values, _ = parse(only, ["--config", str(file)], description="")
    return values["data"]


def write_data_file(run: Path, settings: Mapping[str, Any]) -> None:
    """Leave the settings of the data in a run's folder, for the commands that come after."""
    text = yaml.safe_dump({"data": settings["data"]}, sort_keys=False)
    write_atomic(run / DATA_FILE, lambda file: file.write(text.encode()))


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _plain(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(config.as_dict(), default=str))

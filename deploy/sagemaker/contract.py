"""SageMaker's training contract: what the platform puts under `/opt/ml` about a job.

Source: "How Amazon SageMaker Provides Training Information" and "... Processes Training Output",
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.data.names.listing import list_folders
from regrow.deploy.sagemaker.hyperparameters import check_hyperparameter, is_printable, parsed
from regrow.errors import BadInput
from regrow.files import SMALL, read_json

# Source: the reference of the API, Channel: ChannelName. A name of dots alone is a folder above.
CHANNEL = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}", re.ASCII)
# What the platform, its SDK and its tuner add to the hyperparameters.
FOREIGN = ("sagemaker_", "_")


@dataclass(frozen=True, slots=True)
class Container:
    """The facts of a training job, as the platform writes them into the container.

    Args:
        base: The folder of the contract, `/opt/ml`.
        hyperparameters: The job's hyperparameters that are meant for the training.
        channels: The folder of each input channel by name.
        checkpoints: The folder that the platform restores at the start and saves all the time.
        hosts: The machines of the job.
    """

    base: Path
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Path]
    checkpoints: Path
    hosts: Sequence[str] = ("algo-1",)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Container":
        """Read the contract's files, below `SAGEMAKER_BASE_DIR` or `/opt/ml`.

        Args:
            environment: The environment's variables; None takes those of this process.

        Raises:
            BadInput: If a file is not JSON or holds what the platform does not write there, a name
                or value can be no option, or a channel has no folder.
        """
        base = base_folder(environment)
        folder = base / "input" / "config"
        values = {n: parsed(v) for n, v in read_object(folder / "hyperparameters.json").items()}
        values = {n: v for n, v in values.items() if not n.startswith(FOREIGN)}
        for name, value in values.items():
            check_hyperparameter(name, value)
        local = _text_at(folder / "checkpointconfig.json", "LocalPath")
        return cls(
            base=base,
            hyperparameters=values,
            channels=_channels(base, _described(base, folder / "inputdataconfig.json")),
            checkpoints=Path(local) if local else base / "checkpoints",
            hosts=hosts_in(folder / "resourceconfig.json"),
        )

    @property
    def run(self) -> Path:
        """Return the run's folder.

        It lies below the folder of checkpoints, since that is a mount, which cannot be renamed when
        an earlier run is moved aside.
        """
        return self.checkpoints / "run"


def base_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the contract: `SAGEMAKER_BASE_DIR`, or `/opt/ml`."""
    environment = os.environ if environment is None else environment
    return Path(environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml")


def is_first_process() -> bool:
    """Whether this process is the one that unpacks and delivers.

    Lightning starts this command again for each further GPU, when the first is under way.
    """
    return os.environ.get("LOCAL_RANK", "0") == "0"


def read_object(path: Path) -> dict[str, Any]:
    """Return what a file of the platform's holds; nothing where it is not there.

    Raises:
        BadInput: If it is no JSON object.
    """
    if not path.exists():
        return {}
    content = read_json(path, SMALL)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds a {type(content).__name__}; expected a JSON object")
    return content


def _text_at(path: Path, name: str) -> str | None:
    """Return a text in one of the platform's files, None where it has none."""
    value = read_object(path).get(name)
    if value is not None and not (isinstance(value, str) and is_printable(value)):
        raise BadInput(f"{path}: {name} is {ascii(value)[:80]}; the platform writes a path there")
    return value or None


def hosts_in(path: Path) -> tuple[str, ...]:
    """Return the machines of a job; one where nothing is said of them.

    Args:
        path: The file `resourceconfig.json` of the job.

    Raises:
        BadInput: If it holds no names.
    """
    hosts = read_object(path).get("hosts") or ["algo-1"]
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise BadInput(f"{path}: hosts is {ascii(hosts)[:80]}; the platform writes a list of names")
    return tuple(hosts)


def _described(base: Path, file: Path) -> dict[str, Any]:
    """Read the channels of a job; below a folder of one's own each folder of data is one."""
    data = base / "input" / "data"
    if file.exists() or not data.is_dir():
        return read_object(file)
    return {folder.name: {} for folder in list_folders(data)}


def _channels(base: Path, config: Mapping[str, Any]) -> dict[str, Path]:
    channels = {}
    for name, described in config.items():
        if not CHANNEL.fullmatch(name):
            raise BadInput(
                f"channel {ascii(name)[:80]}: SageMaker's names have 1 to 64 letters, digits, "
                "hyphens, underscores and dots"
            )
        folder = base / "input" / "data" / name
        mode = described.get("TrainingInputMode") if isinstance(described, dict) else None
        if mode == "Pipe":
            raise BadInput(f"channel {name}: in Pipe mode; set its input mode to File or FastFile")
        if not folder.is_dir():
            raise BadInput(f"channel {name}: {folder} is not there; check the job's input")
        channels[name] = folder
    return channels

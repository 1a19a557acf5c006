"""SageMaker's training contract: what the platform puts under `/opt/ml`, as a training run.

Source: "How Amazon SageMaker Provides Training Information" and "... Processes Training Output",
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html.
"""

import contextlib
import ctypes
import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.data.names.listing import list_folders
from regrow.data.source import locate
from regrow.deploy.sagemaker.builtin import BESIDE, CHOICE, NAMES, Values, recognise
from regrow.deploy.sagemaker.channels import find_source
from regrow.deploy.sagemaker.delivery import deliver
from regrow.deploy.sagemaker.hyperparameters import check_hyperparameter, is_printable, parsed
from regrow.deploy.sagemaker.model_channel import warm_start
from regrow.deploy.sagemaker.translation import data_words, translate
from regrow.errors import BadInput, CheckFailed
from regrow.files import SMALL, read_json, read_yaml, write_text
from regrow.logs import log
from regrow.training.stages import way_to_resume

TRAIN_CHANNELS = ("train", "training")
DATA_CHANNELS = (*TRAIN_CHANNELS, "validation", "val", "valid", "test")
MODEL_CHANNEL = "model"
EARLIER = "earlier_job"  # the folder for what an archive in that channel holds
# What the container itself decides.
RESERVED = ("run", "resume")
# Source: the reference of the API, Channel: ChannelName. A name of dots alone is a folder above.
CHANNEL = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}", re.ASCII)
# What the platform, its SDK and its tuner add to the hyperparameters.
FOREIGN = ("sagemaker_", "_")
BUILT_IN = "regrow.data.sample."
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


@dataclass(frozen=True, slots=True)
class Container:
    """What the platform says about a training job.

    Args:
        base: The folder of the contract, `/opt/ml`.
        configs: The folder with regrow's own configs, which a job may name.
        hyperparameters: The job's hyperparameters that are meant for the training.
        channels: The folder of each input channel by name.
        checkpoints: The folder that the platform restores at the start and saves all the time.
        hosts: The machines of the job.
        options: The names of the training's options.
    """

    base: Path
    configs: Path
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Path]
    checkpoints: Path
    hosts: Sequence[str] = ("algo-1",)
    options: Collection[str] = ()

    @classmethod
    def from_environment(
        cls,
        configs: Path,
        environment: Mapping[str, str] | None = None,
        options: Collection[str] = (),
    ) -> "Container":
        """Read the contract's files, below `SAGEMAKER_BASE_DIR` or `/opt/ml`.

        Args:
            configs: The folder with regrow's own configs.
            environment: The environment's variables; None takes those of this process.
            options: The names of the training's options.

        Raises:
            BadInput: If a file is not JSON or holds what the platform does not write there, a name
                or value can be no option, or a channel has no folder.
        """
        base = base_folder(environment)
        folder = base / "input" / "config"
        values = {n: parsed(v) for n, v in _json(folder / "hyperparameters.json").items()}
        values = {n: v for n, v in values.items() if not n.startswith(FOREIGN)}
        for name, value in values.items():
            check_hyperparameter(name, value)
        local = _text_at(folder / "checkpointconfig.json", "LocalPath")
        return cls(
            base=base,
            configs=configs,
            hyperparameters=values,
            channels=_channels(base, _described(base, folder / "inputdataconfig.json")),
            checkpoints=Path(local) if local else base / "checkpoints",
            hosts=_hosts(folder / "resourceconfig.json"),
            options=options,
        )

    @property
    def run(self) -> Path:
        """Give the run's folder.

        It lies below the folder of checkpoints, since that is a mount, which cannot be renamed when
        an earlier run is moved aside.
        """
        return self.checkpoints / "run"

    def arguments(self) -> list[str]:
        """Give the command line of the training run; a model in an archive is unpacked for it.

        Raises:
            BadInput: If the job asks for what cannot be done, naming the hyperparameter or channel.
        """
        if len(self.hosts) > 1:
            raise BadInput(
                f"the job has {len(self.hosts)} machines, and regrow trains on one, with all of "
                "its GPUs; set the instance count to 1"
            )
        self._refuse_reserved(self.hyperparameters, "hyperparameter")
        words = self._configured() if "config" in self.hyperparameters else self._built_in()
        words.append(f"--run={self.run}")
        resumed = way_to_resume(self.run)
        parent = None
        # A run that goes on needs the earlier job's files too, and a fresh container has none.
        if MODEL_CHANNEL in self.channels:
            channel, folder = self.channels[MODEL_CHANNEL], self.base / EARLIER
            parent = warm_start(channel, folder, unpack=_is_first_process())
        if resumed is not None:
            return [*_without(words, "warm_start"), f"--resume={resumed}"]
        if parent is not None:
            return [*_without(words, "warm_start"), f"--warm_start={parent}"]
        return words

    @staticmethod
    def _refuse_reserved(names: Iterable[str], where: str) -> None:
        for name in names:
            if name.partition(".")[0].replace("-", "_") in RESERVED:
                raise BadInput(f"{where} {name}: the container sets it itself; leave it out")

    def _configured(self) -> list[str]:
        """Give the command line of a job whose hyperparameters are regrow's."""
        for name in self.hyperparameters:
            if name in NAMES or name == CHOICE:
                raise BadInput(
                    f"hyperparameter {name}: beside config, the names are those of regrow's "
                    "options; leave config out for a built-in algorithm of SageMaker"
                )
        config = self._config()
        self._refuse_reserved(map(str, _settings(config)), f"{config}:")
        own = {name: value for name, value in self.hyperparameters.items() if name != "config"}
        return [f"--config={config}", *self._data(config), *_words(own)]

    def _built_in(self) -> list[str]:
        """Give the command line of a job for a built-in algorithm; print what has no effect."""
        own = {n: value for n, value in self.hyperparameters.items() if self._is_own(n)}
        given = {n: value for n, value in self.hyperparameters.items() if n not in own}
        algorithm = recognise(given, self.channels, given.pop(CHOICE, None))
        if algorithm is None:
            known = ", ".join(self._known_configs())
            raise BadInput(
                f"hyperparameter config: not given; give one of {known}, or the hyperparameters of "
                "a built-in image algorithm of SageMaker"
            )
        values = Values(algorithm, given, self.options)
        shared = 1 if "fit.devices" in own else max(1, torch.cuda.device_count())
        words = translate(values, shared)
        root = locate(Path(str(own["data.root"]))) if "data.root" in own else self._root()
        if root is None:
            raise BadInput(f"{algorithm}: the job has no channel of images; name it train")
        words += data_words(values, root, own)
        own_words = _words(own)
        is_named = own_words != _without(own_words, "warm_start")
        for line in values.lines(is_warm_start=is_named or MODEL_CHANNEL in self.channels):
            log.info(line)
        return [*words, *own_words]

    def _is_own(self, name: str) -> bool:
        """Say whether a hyperparameter is an option of regrow, and not a built-in algorithm's."""
        return "." in name or (name not in NAMES and name.replace("-", "_") in self.options)

    def _known_configs(self) -> list[str]:
        return sorted(file.stem for file in self.configs.glob("*.yaml"))

    def _config(self) -> Path:
        name = self.hyperparameters["config"]
        for file in (Path(str(name)), self.configs / str(name), self.configs / f"{name}.yaml"):
            with contextlib.suppress(OSError):  # a name that is too long
                if file.is_file():
                    return file
        raise BadInput(
            f"hyperparameter config: there is no file {str(name)[:80]}; give a path in the source "
            f"folder, or one of {', '.join(self._known_configs())}"
        )

    def _root(self) -> Path | None:
        """Give the folder of the images."""
        folders = {name: self.channels[name] for name in DATA_CHANNELS if name in self.channels}
        if not folders:
            return None
        if not any(name in folders for name in TRAIN_CHANNELS):
            raise BadInput(
                f"the job has the channels {', '.join(folders)}; name that of the training images "
                f"{TRAIN_CHANNELS[0]}"
            )
        # Several channels are official splits, and lie side by side like the folders of splits do.
        folder = next(iter(folders.values()))
        is_alone = len(folders) == 1 and not any(name in self.channels for name in BESIDE)
        return folder if is_alone else folder.parent

    def _data(self, config: Path) -> list[str]:
        root = None if "data.root" in self.hyperparameters else self._root()
        if root is None:
            return []
        words = [f"--data.root={root}"]
        is_given = any(name.startswith("data.source") for name in self.hyperparameters)
        if not is_given and _reads_no_root(config):
            words.append(f"--data.source={find_source(root)}")
        return words


def run_container(
    train: Callable[[list[str]], Any],
    export: Callable[[list[str]], Any],
    configs: Path,
    options: Collection[str] = (),
) -> None:
    """Train as the platform asks, export, and leave the results where the platform looks.

    A run that was interrupted is continued from the folder of checkpoints. At SIGTERM the training
    ends after its batch with a checkpoint, and what there is so far is delivered. Any other end is
    written to `output/failure`: the platform shows its first 1,024 characters.

    Args:
        train: Trains for a command line, as `scripts/train.py` does.
        export: Exports and verifies for a command line, as `scripts/export.py` does.
        configs: The folder with regrow's own configs.
        options: The names of the training's options.

    Raises:
        BadInput: If the job cannot be run as it stands.
        Exception: Whatever else ends it.
    """
    base, container = base_folder(), None
    is_first = _is_first_process()
    try:
        if is_first:
            failure_file(base).unlink(missing_ok=True)
        container = Container.from_environment(configs, options=options)
        words = container.arguments()
        log.info(f"train {shlex.join(words)}")
        with _help_is_refused(), _named_if_resumed(words):
            train(words)
        if is_first:
            deliver(container.run, base / "model")
            checkpoint = container.run / "best.ckpt"
            with _help_is_refused():
                export([str(checkpoint), f"--run={container.run / 'export'}"])
            deliver(container.run, base / "model")
    except (SIGTERMException, KeyboardInterrupt):
        if is_first and container is not None:
            deliver(container.run, base / "model")
        raise
    except BaseException as error:
        write_failure(base, error)
        raise


def base_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Give the folder of the contract: `SAGEMAKER_BASE_DIR`, or `/opt/ml`."""
    environment = os.environ if environment is None else environment
    return Path(environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml")


def failure_file(base: Path) -> Path:
    """Give the file whose first 1,024 characters become the job's failure reason."""
    return base / "output" / "failure"


def write_failure(base: Path, error: BaseException) -> None:
    """Say why the job failed: one line, then the traceback."""
    line = " ".join(str(error).split())
    name = "" if isinstance(error, BadInput | CheckFailed) else f"{type(error).__name__}: "
    text = f"{name}{line}\n\n{''.join(traceback.format_exception(error))}"
    # A full disk must not hide the error itself.
    with contextlib.suppress(OSError):
        write_text(failure_file(base), text)


def stop_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies.

    SageMaker's toolkit starts a script as its child, and is killed by SIGTERM without a word to it;
    this is how the script gets to save its state. Where there is no such call it does nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)


def _is_first_process() -> bool:
    """Say whether this process is the one that unpacks and delivers.

    Lightning starts this command again for each further GPU, when the first is under way.
    """
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = read_json(path, SMALL)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds a {type(content).__name__}; expected a JSON object")
    return content


def _text_at(path: Path, name: str) -> str | None:
    """Give a text in one of the platform's files, None where it has none."""
    value = _json(path).get(name)
    if value is not None and not (isinstance(value, str) and is_printable(value)):
        raise BadInput(f"{path}: {name} is {ascii(value)[:80]}; the platform writes a path there")
    return value or None


def _hosts(path: Path) -> tuple[str, ...]:
    hosts = _json(path).get("hosts") or ["algo-1"]
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise BadInput(f"{path}: hosts is {ascii(hosts)[:80]}; the platform writes a list of names")
    return tuple(hosts)


def _described(base: Path, file: Path) -> dict[str, Any]:
    """Read the channels of a job; below a folder of one's own each folder of data is one."""
    data = base / "input" / "data"
    if file.exists() or not data.is_dir():
        return _json(file)
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


def _reads_no_root(config: Path) -> bool:
    """Say whether a config trains on the built-in sample, or on nothing yet."""
    try:
        source = _settings(config)["data"]["source"]
    except (KeyError, TypeError):
        return True
    name = source.get("class_path") if isinstance(source, dict) else source
    return name is None or str(name).startswith(BUILT_IN)


def _settings(config: Path) -> dict[Any, Any]:
    """Read a config; one that is no mapping has nothing, which the training then says."""
    try:
        content = read_yaml(config)
    except BadInput:
        return {}
    return content if isinstance(content, dict) else {}


def _words(options: Mapping[str, Any]) -> list[str]:
    texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in sorted(options.items())}
    return [f"--{name}={text}" for name, text in texts.items()]


def _without(words: list[str], name: str) -> list[str]:
    return [word for word in words if not word.replace("-", "_").startswith(f"__{name}=")]


@contextlib.contextmanager
def _help_is_refused() -> Iterator[None]:
    """Turn an exit of a command line's parser, which only shows help, into an error."""
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit as error:
        # Lightning exits after Ctrl-C.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise BadInput(
            "hyperparameters: one of them shows help instead of training; leave it out"
        ) from error


@contextlib.contextmanager
def _named_if_resumed(words: Sequence[str]) -> Iterator[None]:
    """Say that it is the folder of checkpoints which makes a job go on with an earlier one."""
    try:
        yield
    except BadInput as error:
        if not any(word.startswith("--resume=") for word in words):
            raise
        raise BadInput(
            f"the checkpoints of an earlier job are continued, and {error}; for a new run, give "
            "the job another S3 location for checkpoints"
        ) from error

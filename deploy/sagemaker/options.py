"""The options of `scripts/train.py` that a training job stands for."""

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regrow.data.source import locate
from regrow.deploy.sagemaker.builtin import BESIDE, CHOICE, NAMES, Values, recognise
from regrow.deploy.sagemaker.channels import source_options
from regrow.deploy.sagemaker.contract import Container, is_first_process
from regrow.deploy.sagemaker.model_channel import warm_start
from regrow.deploy.sagemaker.translation import data_options, translate
from regrow.errors import BadInput
from regrow.files import read_yaml
from regrow.logs import log
from regrow.plain import MISSHAPEN
from regrow.training.stages import way_to_resume

TRAIN_CHANNELS = ("train", "training")
DATA_CHANNELS = (*TRAIN_CHANNELS, "validation", "val", "valid", "test")
MODEL_CHANNEL = "model"
EARLIER = "earlier_job"  # the folder for what an archive in that channel holds
# What the container itself decides.
RESERVED = ("run", "resume")
BUILT_IN = "regrow.data.sample."
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingCall:
    """The options of a training run by name, such as `fit.epochs`.

    Args:
        base: A config, or the options that a built-in algorithm means.
        options: What the job changes in them.
    """

    base: Path | Options
    options: Options

    def words(self) -> list[str]:
        """Return the command line that a person can type for the same run."""
        base = {"config": str(self.base)} if isinstance(self.base, Path) else self.base
        given = [*base.items(), *self.options.items()]
        return [f"--{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in given]


def training_call(
    container: Container, configs: Path, options: Collection[str] = ()
) -> TrainingCall:
    """Return the training run that a job asks for; a model in an archive is unpacked for it.

    Args:
        container: What the platform says about the job.
        configs: The folder with regrow's own configs, which a job may name.
        options: The names of the training's options.

    Raises:
        BadInput: If the job asks for what cannot be done, naming the hyperparameter or channel.
    """
    if len(container.hosts) > 1:
        raise BadInput(
            f"the job has {len(container.hosts)} machines, and regrow trains on one, with all of "
            "its GPUs; set the instance count to 1"
        )
    _refuse_reserved(container.hyperparameters, "hyperparameter")
    if "config" in container.hyperparameters:
        call = _configured(container, configs)
    else:
        call = _built_in(container, configs, options)
    call.options["run"] = str(container.run)
    resumed, parent = way_to_resume(container.run), None
    # A run that goes on needs the earlier job's files too, and a fresh container has none.
    if MODEL_CHANNEL in container.channels:
        channel, folder = container.channels[MODEL_CHANNEL], container.base / EARLIER
        parent = warm_start(channel, folder, unpack=is_first_process())
    if resumed is not None or parent is not None:
        call.options.pop("warm_start", None)
        name, value = ("warm_start", str(parent)) if resumed is None else ("resume", resumed)
        call.options[name] = value
    return call


def _refuse_reserved(names: Iterable[str], where: str) -> None:
    for name in names:
        if name.partition(".")[0].replace("-", "_") in RESERVED:
            raise BadInput(f"{where} {name}: the container sets it itself; leave it out")


def _configured(container: Container, configs: Path) -> TrainingCall:
    """Return the run of a job whose hyperparameters are regrow's."""
    given = container.hyperparameters
    for name in given:
        if name in NAMES or name == CHOICE:
            raise BadInput(
                f"hyperparameter {name}: beside config, the names are those of regrow's "
                "options; leave config out for a built-in algorithm of SageMaker"
            )
    config = _config(str(given["config"]), configs)
    _refuse_reserved(map(str, _settings(config)), f"{config}:")
    own = _own({name: value for name, value in given.items() if name != "config"})
    root = None if "data.root" in own else _root(container.channels)
    data: Options = {}
    if root is not None:
        data["data.root"] = str(root)
        is_given = any(name.startswith("data.source") for name in own)
        if not is_given and _reads_no_root(config):
            data |= source_options(root)
    return TrainingCall(config, data | own)


def _built_in(container: Container, configs: Path, options: Collection[str]) -> TrainingCall:
    """Return the run of a job for a built-in algorithm; log what has no effect."""
    hyperparameters = container.hyperparameters
    named = {n: value for n, value in hyperparameters.items() if _is_own(n, options)}
    given = {n: value for n, value in hyperparameters.items() if n not in named}
    algorithm = recognise(given, container.channels, given.pop(CHOICE, None))
    if algorithm is None:
        raise BadInput(
            f"hyperparameter config: not given; give one of {_known(configs)}, or the "
            "hyperparameters of a built-in image algorithm of SageMaker"
        )
    values, own = Values(algorithm, given, options), _own(named)
    meant = translate(values, 1 if "fit.devices" in own else max(1, torch.cuda.device_count()))
    channels = container.channels
    root = locate(Path(str(own["data.root"]))) if "data.root" in own else _root(channels)
    if root is None:
        raise BadInput(f"{algorithm}: the job has no channel of images; name it train")
    meant |= data_options(values, root, named)
    for line in values.lines(is_warm_start="warm_start" in own or MODEL_CHANNEL in channels):
        log.info(line)
    return TrainingCall(meant, own)


def _is_own(name: str, options: Collection[str]) -> bool:
    """Whether a hyperparameter is an option of regrow, and not a built-in algorithm's."""
    return "." in name or (name not in NAMES and name.replace("-", "_") in options)


def _own(given: Mapping[str, Any]) -> Options:
    """Return options as on a command line: with underscores, and a number or truth as its text.

    So `32` may be the name of a precision, and a class may be called `1`.
    """
    found: Options = {}
    for name, value in sorted(given.items()):
        option, dot, key = name.partition(".")
        is_plain = isinstance(value, str | list | dict)
        found[option.replace("-", "_") + dot + key] = value if is_plain else json.dumps(value)
    return found


def _known(configs: Path) -> str:
    return ", ".join(sorted(file.stem for file in configs.glob("*.yaml")))


def _config(name: str, configs: Path) -> Path:
    """Return the file of a config: a path in the source folder, or one of regrow's by name."""
    for file in (Path(name), configs / name, configs / f"{name}.yaml"):
        with contextlib.suppress(OSError):  # a name that is too long
            if file.is_file():
                return file
    raise BadInput(
        f"hyperparameter config: there is no file {name[:80]}; give a path in the source folder, "
        f"or one of {_known(configs)}"
    )


def _root(channels: Mapping[str, Path]) -> Path | None:
    """Return the folder of the images; None where the job has no channel of images."""
    folders = {name: channels[name] for name in DATA_CHANNELS if name in channels}
    if not folders:
        return None
    if not any(name in folders for name in TRAIN_CHANNELS):
        raise BadInput(
            f"the job has the channels {', '.join(folders)}; name that of the training images "
            f"{TRAIN_CHANNELS[0]}"
        )
    # Several channels are official splits, and lie side by side like the folders of splits do.
    folder = next(iter(folders.values()))
    is_alone = len(folders) == 1 and not any(name in channels for name in BESIDE)
    return folder if is_alone else folder.parent


def _reads_no_root(config: Path) -> bool:
    """Whether a config trains on the built-in sample, or on nothing yet."""
    try:
        source = _settings(config)["data"]["source"]
    except MISSHAPEN:
        return True
    name = source.get("class_path") if isinstance(source, dict) else source
    return name is None or str(name).startswith(BUILT_IN)


def _settings(config: Path) -> dict[Any, Any]:
    """Return what a config holds; nothing if it is no mapping, which the training then says."""
    try:
        content = read_yaml(config)
    except BadInput:
        return {}
    return content if isinstance(content, dict) else {}

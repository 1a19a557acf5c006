"""Validation of the training state in a checkpoint, before a run is resumed from it.

Lightning takes counters, callbacks and the optimizer's memory from the file as they stand, and what
is damaged there, or a stranger's, fails much later or somewhere else. Here each is compared with
what a fresh run has in its place.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from regrow.errors import BadInput
from regrow.files import one_line
from regrow.models.checkpoint import AtomicCheckpointIO
from regrow.models.nets.build import list_nets
from regrow.models.optimization import refuse_unlike_state
from regrow.models.task import Task
from regrow.training.lightning_internals import callbacks_of, loop_state

MAX_COUNT = 2**53
VERSION = "pytorch-lightning_version"
WAY_OUT = "give --resume an earlier checkpoint of the run, or begin a new one with --warm-start"


class RunCheckpointIO(AtomicCheckpointIO):
    """Reader and writer of the checkpoints of a training run."""

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the checkpoint of a run that goes on."""
        payload = super().load_checkpoint(path, map_location, weights_only)
        _refuse_version(Path(path), payload)
        return payload


class CheckState(Callback):
    """Refuse a training state that this run could not have saved."""

    def __init__(self) -> None:
        self.is_restoring = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note that restoring begins."""
        self.is_restoring = stage == "fit"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that restoring has ended."""
        self.is_restoring = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the states for the other callbacks, the loops and the optimizer.

        Raises:
            BadInput: If it is not what this run could have saved.
        """
        try:
            _check(trainer, pl_module, checkpoint)
        except BadInput as error:
            raise _told(trainer.ckpt_path, error) from error


def _check(trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
    loops = checkpoint.get("loops")
    fit_loop = loops.get("fit_loop") if isinstance(loops, dict) else None
    _refuse_other(loop_state(trainer), fit_loop, "its loops")
    _refuse_lack(loop_state(trainer), fit_loop, "its loops")
    states = checkpoint.get("callbacks")
    if not isinstance(states, dict):
        raise BadInput("it has no states of callbacks")
    for callback in callbacks_of(trainer):
        state = states.get(callback.state_key, {})
        if not isinstance(callback, ModelCheckpoint):
            _refuse_other(callback.state_dict(), state, type(callback).__name__)
        elif not isinstance(state, dict):
            raise BadInput("the state of its checkpoints is none")
    plugin = trainer.precision_plugin
    scaling = checkpoint.get(type(plugin).__qualname__)
    if scaling is not None:
        _refuse_other(plugin.state_dict(), scaling, "the scale of its gradients")
    if isinstance(module, Task):
        precisions = {weight.dtype for weight in module.net.parameters()}
        if len(precisions) > 1 and module.net_name in list_nets(module.kind):
            raise BadInput("its weights are of several precisions")
        state = _optimizer_state(module, checkpoint.get("optimizer_states"))
        checkpoint["optimizer_states"] = [state]


@contextmanager
def restoring(trainer: Trainer, path: Path | None) -> Iterator[None]:
    """Turn any error while a run is restored from a file into one line that names the file.

    What goes wrong before and after is left alone.

    Args:
        trainer: The trainer, with a `CheckState`.
        path: The checkpoint that the run goes on from; None for a new run.

    Raises:
        BadInput: If the run cannot be restored.
    """
    try:
        yield
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        checks = [c for c in callbacks_of(trainer) if isinstance(c, CheckState)]
        if path is None or not any(check.is_restoring for check in checks):
            raise
        raise _told(path, error) from error


def _told(path: Any, error: Exception) -> BadInput:
    return BadInput(f"{path}: training cannot go on from it ({one_line(error)[:300]}); {WAY_OUT}")


def _refuse_version(path: Path, payload: Mapping[str, Any]) -> None:
    """Refuse the state of another Lightning than those that regrow worked with.

    Args:
        path: The checkpoint.
        payload: Its content.

    Raises:
        BadInput: If it is.
    """
    version = payload.get(VERSION)
    major = version.partition(".")[0] if isinstance(version, str) else ""
    if not (major.isdecimal() and len(major) < 4 and int(major) >= 2):
        raise _told(path, BadInput("it is of no version of Lightning that regrow knows"))


def _refuse_other(wanted: Any, found: Any, where: str) -> None:
    """Refuse a state that has other names or types than that of a fresh run.

    What loaders and loops keep besides, below `state_dict`, is counters alone.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            raise BadInput(f"{where} is a {type(found).__name__}")
        for name, value in found.items():
            if not isinstance(name, str):
                raise BadInput(f"{where} has a name that is no text")
            if name.rpartition(".")[2] == "state_dict" or not wanted:
                _refuse_other_counts(value, f"{where}.{name}")
                own = wanted.get(name) or {}
                if own and not isinstance(value, dict):
                    raise BadInput(f"{where}.{name} is a {type(value).__name__}")
                for key, one in own.items():
                    _refuse_other(one, value.get(key, one), f"{where}.{name}.{key}")
            elif name not in wanted:
                raise BadInput(f"{where} has {name!r}, which this run has not")
            else:
                _refuse_other(wanted[name], value, f"{where}.{name}")
        if "completed" in found:
            _refuse_disorder(found, where)
    elif isinstance(wanted, bool):
        if not isinstance(found, bool):
            raise BadInput(f"{where} is no truth value")
    elif isinstance(wanted, int):
        if type(found) is not int or not 0 <= found <= MAX_COUNT:
            raise BadInput(f"{where} is no count")
    elif isinstance(wanted, Tensor | float):
        if not _is_number(found):
            raise BadInput(f"{where} is no number")
    elif not (found is None or isinstance(found, str)):
        raise BadInput(f"{where} is a {type(found).__name__}")


def _refuse_lack(wanted: Any, found: Any, where: str) -> None:
    """Refuse a state that lacks counts: Lightning would begin to count anew, and say nothing."""
    for name, value in wanted.items() if isinstance(wanted, dict) else ():
        if name.rpartition(".")[2] != "state_dict":
            if name not in found:
                raise BadInput(f"{where} lacks {name!r}")
            _refuse_lack(value, found[name], f"{where}.{name}")


def _refuse_other_counts(found: Any, where: str) -> None:
    """Refuse what is no count, or dict or list of counts."""
    if isinstance(found, dict):
        for name, value in found.items():
            _refuse_other_counts(value, f"{where}.{name}")
    elif isinstance(found, list | tuple):
        for value in found:
            _refuse_other_counts(value, where)
    elif type(found) is bool:
        return
    elif type(found) is not int or not 0 <= found <= MAX_COUNT:
        raise BadInput(f"{where} is no count")


def _refuse_disorder(counts: Mapping[str, int], where: str) -> None:
    """Refuse counters of which a later stage is ahead of an earlier one."""
    stages = [counts[n] for n in ("ready", "started", "processed", "completed") if n in counts]
    if stages != sorted(stages, reverse=True) or stages[0] > stages[-1] + 1:
        raise BadInput(f"{where} has counts that cannot be, {stages}")


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a tensor of one; infinite perhaps, but not NaN."""
    if isinstance(value, Tensor):
        is_one = value.ndim == 0 and not value.is_complex()
        return is_one and not math.isnan(float(value))
    return isinstance(value, int | float) and not math.isnan(value)


def _optimizer_state(task: Task, states: Any) -> dict[str, Any]:
    """Check an optimizer's state, and return it with the options of this run's own."""
    if not (isinstance(states, list) and len(states) == 1 and isinstance(states[0], dict)):
        raise BadInput("it has no state of one optimizer")
    optimizer = task.optimization.build(task.net)
    own = optimizer.state_dict()
    groups, memory = states[0].get("param_groups"), states[0].get("state")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise BadInput("its optimizer has no groups of weights")
    members = [group["params"] for group in own["param_groups"]]
    if [group.get("params") for group in groups] != members or not isinstance(memory, dict):
        raise BadInput("its optimizer is for other weights")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, values in memory.items():
        if type(place) is not int or not 0 <= place < len(weights):
            raise BadInput("its optimizer is for other weights")
        refuse_unlike_state(task.optimization.remembered, weights[place], values, f"weight {place}")
    return {"state": memory, "param_groups": own["param_groups"]}

"""The beginning of a training run: its network and data before the first step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regrow.data.config import write_data_file
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.dynamic_sparsity import CUT_SHORT
from regrow.incremental.gating.assessment import foresee_gate
from regrow.incremental.incumbent import Incumbent
from regrow.incremental.memory import check_replay
from regrow.incremental.warm_start import WarmStart
from regrow.logs import log
from regrow.models.masks import masks_of, unmask_
from regrow.models.modes import copied
from regrow.models.nets.build import TIMM, TORCHVISION
from regrow.models.record.provenance import Provenance, descent, now
from regrow.models.task import Task
from regrow.pipelines.training.request import Request
from regrow.prune.widening.regrow import regrow_channels_
from regrow.prune.widening.widen import widen_
from regrow.reporting.run_folder import open_run
from regrow.training.fit import Fit
from regrow.training.resume import find_stopped, load_stopped, refuse_changes
from regrow.training.stages import WIDE
from regrow.training.trainer import fine_tune_, make_trainer, refuse_kind


@dataclass(frozen=True, slots=True)
class Warm:
    """The findings of a warm start before its first step.

    Args:
        start: The record for the run's folder.
        incumbent: The old network as it came, which may stay the best.
    """

    start: WarmStart
    incumbent: Incumbent


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run that can begin: everything is checked, and nothing is written yet.

    Args:
        request: The request for the run.
        task: The network, before its first step; it still has the provenance of its parent.
        settings: The settings that a run which goes on must repeat, by dotted name.
        warm: The findings of a warm start; None for a fresh network.
    """

    request: Request
    task: Task
    settings: dict[str, Any]
    warm: Warm | None

    @classmethod
    def of(cls, request: Request) -> "Beginning":
        """Return a beginning, with network and data ready for the first step.

        Args:
            request: The request for the run.

        Raises:
            BadInput: If it cannot be done.
        """
        data = request.data
        if request.warm_start is None:
            task, warm = request.make(data.classes, data.size), None
            refuse_kind(task, data)
            data.order_classes(task.classes)
        else:
            task = _old_network(request)
            warm = _grown_(task, request)
        processes = _refuse_unfit(task, request)
        return cls(request, task, request.values | {"processes": processes}, warm)

    def open_(self) -> None:
        """Make the run's folder, and record where the network comes from."""
        request = self.request
        open_run(request.run, request.command_line)
        self._write(_provenance(self))

    def reopen_(self, stage: Path) -> None:
        """Go on in the run's folder, with the provenance that its stopped run recorded.

        Args:
            stage: The folder of the stage in which the run was stopped.

        Raises:
            BadInput: If the data or the settings are others.
        """
        request = self.request
        stopped = load_stopped(find_stopped(stage, "auto"), request.data, request.allow)
        refuse_changes(stopped.provenance.settings, self.settings)
        self._write(stopped.provenance)

    def _write(self, provenance: Provenance) -> None:
        request = self.request
        self.task.provenance = provenance
        if request.settings:
            write_data_file(request.run, request.settings)
        if self.warm is not None:
            self.warm.incumbent.write(request.run, self.task)

    def let_channels_back_(self) -> WarmStart | None:
        """Restore, train and prune again a pruned network's channels, where that is asked for.

        A state is kept meanwhile, from where this goes on if it was stopped.

        Returns:
            The record of the warm start, which lies in the run's folder; None without one.
        """
        request = self.request
        if self.warm is None:
            return None
        start = self.warm.start
        if request.regrows:
            start.write(request.run)
            num_epochs = _regrow_(self.task, request)
            if num_epochs and start.anchor:
                log.info("growth.anchor has no effect where channels came back")
                start = replace(start, anchor=0.0)
            start = replace(start, num_wide_epochs=num_epochs)
        start.write(request.run)
        return start


def _grown_(task: Task, request: Request) -> Warm:
    """Prepare an old network and grown data in place, and log what is known before training."""
    data, growth, parent = request.data, request.growth, request.parent
    old = copied(task) if growth.warm_init != "keep" else None
    start = growth.begin_(
        task,
        data,
        parent,
        request.fit.epochs,
        allow_forgetting=request.allow_forgetting,
        seed=request.seed,
    )
    start = replace(start, anchor=growth.anchor_of(task, start, request.fit, request.allow))
    log.info(f"data: {start.said}")
    log.info(f"the old model on the new validation images: {task.score} {start.score:.4f}")
    incumbent = Incumbent.of(task, old, parent, data)
    log.info(incumbent.said)
    foreseen = foresee_gate(start, data, request.gate) if request.gate is not None else None
    if foreseen is not None:
        log.info(f"gate: {foreseen}")
    return Warm(start, incumbent)


def _refuse_unfit(task: Task, request: Request) -> int:
    """Refuse what the network cannot be trained on or with; return the number of processes."""
    data = request.data
    _refuse_images(task, data)
    data.refuse_unscored()
    if request.replay is not None:
        check_replay(data, request.replay)
    # Lightning says at once what it refuses.
    processes = make_trainer(task, request.fit, request.run).world_size
    if request.regrows and processes > 1:
        raise BadInput("sparsity regrow works in one process; set fit.devices to 1")
    return processes


def _provenance(beginning: Beginning) -> Provenance:
    """Return where the network of a new run comes from; it still has that of its parent."""
    request, task, warm = beginning.request, beginning.task, beginning.warm
    data = request.data.snapshot
    fresh = Provenance(
        data=data.hash,
        manifest=data.manifest().to_dict(),
        command=request.command_line,
        settings=beginning.settings,
        date=now(),
        scratch_epochs=request.fit.epochs,
    )
    if warm is None:
        return fresh
    start = warm.start
    return replace(
        fresh,
        parent=start.parent_hash,
        change=start.diff["text"] if start.diff else None,
        lineage=descent(start.parent_hash, task.provenance),
        scratch_epochs=task.provenance.scratch_epochs,
    )


def _regrow_(task: Task, request: Request) -> int:
    """Restore channels, train and prune them again; return the epochs that this took."""
    epochs = max(1, request.fit.epochs // 3)
    fit: Fit = replace(request.fit, epochs=epochs)

    def learn(work: Task, index: int) -> None:
        state = request.run / WIDE
        fine_tune_(
            work, request.data, fit, request.run, seed=request.seed, round_=index + 1, state=state
        )

    batches = request.data.train_dataloader()
    grown = regrow_channels_(task, train=learn, batches=batches, seed=request.seed)
    if not grown.widening.gained:
        return 0
    task.forget_momenta_()  # the rest begins with a fresh optimizer, as every training run does
    changed = sum(grown.before[name] != width for name, width in grown.after.items())
    log.info(f"regrown: {changed} layers have other widths, at the same cost")
    return epochs


def _old_network(request: Request) -> Task:
    """Load the network of a warm start, where it is trained; a dense one if that is asked for.

    Args:
        request: The request for the run.

    Raises:
        BadInput: If the checkpoint cannot be used, or is of another kind than the data.
    """
    loaded = request.parent.load(request.data.kind).to(dtype=request.fit.dtype)
    task = around(loaded, request.make).to(request.fit.device)
    refuse_kind(task, request.data)
    if request.regrows and request.fit.patience is not None and masks_of(task.net):
        raise BadInput(CUT_SHORT)
    if request.sparsity == "dense":
        unmask_(task.net)
        widen_(task, seed=request.seed)
    return task


def around(loaded: Task, make: Callable[..., Task]) -> Task:
    """Return a task with the settings of this run and the network of a checkpoint.

    Args:
        loaded: The task of the checkpoint.
        make: The task of this run.
    """
    task = make(
        loaded.classes,
        loaded.size,
        net=loaded.net_name,
        net_args=loaded.net_args,
        weights=None,
        mean=tuple(loaded.mean.flatten().tolist()),
        std=tuple(loaded.std.flatten().tolist()),
    )
    if task.kind == loaded.kind:
        task.net, task.provenance = loaded.net, loaded.provenance
    return task.to(loaded.mean.dtype)  # which images are brought to, as the weights have it


def _refuse_images(task: Task, data: GrowingData) -> None:
    """Refuse images of a size, or in a number, that a network of the libraries cannot take.

    Your own network says it itself.

    Args:
        task: The task.
        data: Its data.

    Raises:
        BadInput: Naming the size or the number.
    """
    if not task.net_name.startswith((TORCHVISION, TIMM)):
        return
    trial = copied(task)
    batch = min(data.batch_size, len(data.snapshot.indices("train")), 2)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            what = f"images of data.size {list(task.size)}"
            trial.eval()(task.example_images(2))
            what = f"data.batch_size {batch}"
            trial.train()(task.example_images(batch))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise BadInput(
            f"net {task.net_name!r} cannot take {what} ({error}); change it, or what the net "
            "expects in task.net_args"
        ) from error

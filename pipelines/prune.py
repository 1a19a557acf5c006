"""Make a network smaller under an accuracy budget: one run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from regrow.data.config import data_beside
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.limits import NUM_EPOCHS, NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.metrics.budget import Budget
from regrow.models.latency import Clock, Latency
from regrow.models.optimization import Optimization
from regrow.models.task import Penalty, Task
from regrow.pipelines.pruning.exports import check_exportable, export_pruned
from regrow.pipelines.pruning.front import CostName, draws_front
from regrow.pipelines.pruning.inputs import Inputs, Record
from regrow.pipelines.pruning.job import PRUNED, Job, Train
from regrow.pipelines.pruning.rates import RateGrid
from regrow.pipelines.quantization import Calibration
from regrow.pipelines.quantization_aware import FineTuning
from regrow.pipelines.seen import refuse_seen
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import widths_of
from regrow.prune.compensation.compensate import Compensation
from regrow.prune.criteria import Criterion, Taylor
from regrow.prune.masking import SingleWeights, Weights
from regrow.prune.removal import Channels, Removal
from regrow.prune.search.settings import Search
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.reporting.run_folder import open_run, refuse_run, reopen_run
from regrow.reporting.tensorboard import flat
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_, make_trainer
from regrow.training.verification import unlike_saved


@releases_folders
@draws_front
def run_pruning(
    checkpoint: Path,
    data: GrowingData | None = None,
    criterion: Criterion = Taylor(),
    target: Target = Target(),
    targets: list[float] | None = None,
    targets_of: CostName = "macs",
    budget: Budget = Budget(),
    selection: Selection = Selection(),
    num_steps: int = 1,
    adapts: bool = True,
    recovery: Fit = Fit(epochs=10, devices=1),
    final_epochs: int = 0,
    optimization: Optimization = Optimization(),
    lr_grid: list[float] | None = None,
    distillation: Distillation | None = None,
    weights: Weights | None = None,
    compensate: bool = False,
    search: Search | None = Search(),
    clock: Clock = Clock(),
    reference: Path | None = None,
    export: bool = False,
    int8: bool = False,
    calibration_images: int = 256,
    qat_epochs: int = 0,
    qat_lr: float | None = None,
    accept_seen: bool = False,
    resume: bool = False,
    run: Path = Path("runs/prune"),
    allow: list[str] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
    train: Train = fine_tune_,
    begin: Callable[[], None] | None = None,
) -> Report:
    """Prune a checkpoint step by step: write `pruned.ckpt`, TensorBoard logs and a report.

    Args:
        checkpoint: The checkpoint of the network to prune; the file is not changed.
        data: The data it was trained on, by default as `data.yaml` beside the checkpoint says.
            Steps are judged on validation images; the budget is decided once, at the end, on test
            images.
        criterion: The importance criterion, by which channels are ranked.
        target: The cost target, as shares of the unpruned network's costs.
        targets: A front of several targets instead of one: falling shares of a cost, each pruned to
            from the last, in a folder of its own below `run`; null is none.
        targets_of: The cost that `targets` are shares of.
        budget: The accuracy budget: how much of the score may be lost.
        selection: The choice of channels: which may be removed, and in what order.
        num_steps: Number of pruning steps towards the target as planned; with `adapts` there may be
            more or fewer.
        adapts: Adaptive step size: larger while the score holds, smaller near the budget; a step
            that breaks it is rolled back and tried again at half its size.
        recovery: Fine-tuning after each step.
        final_epochs: Final fine-tuning: passes over the training images after the last step.
        optimization: The optimizer of the fine-tuning; its momentum lives on from step to step.
        lr_grid: Learning rate grid: each fine-tuning is done at each of these rates, and the copy
            with the best validation score goes on; null trains at `optimization.lr` alone.
        distillation: Knowledge distillation from the unpruned network in fine-tuning; null is none.
        weights: Unstructured sparsity: mask single weights instead of removing channels; null
            removes channels.
        compensate: Least-squares compensation: before channels are cut, the layers that read them
            are fitted to the unpruned network's outputs on about 1,000 training images.
        search: Width search: the widths of each step are the best of many joint candidates; null
            takes what the ranking of channels gives.
        clock: Latency measurement: how networks are timed.
        reference: A checkpoint that budget and target compare with, by default the one that is
            pruned; say, the network that it was itself pruned from.
        export: Also write `model.onnx`, verified in ONNX Runtime on the test images.
        int8: Also quantise the pruned network to INT8, and decide the budget on that too, against
            the unpruned network in float. `model.onnx` is then the model in INT8, and
            `model.float.onnx` the verified one.
        calibration_images: Number of training images that INT8 is calibrated on.
        qat_epochs: Quantisation-aware fine-tuning where INT8 breaks the budget: passes over the
            training images with INT8 simulated, after which it is decided again; 0 is none.
        qat_lr: Learning rate of that fine-tuning; null is a tenth of `optimization.lr`.
        accept_seen: Decide the budget although some test images have the pixels of training or
            validation images, of the data or of the networks' own.
        resume: Resume the run in the run's folder, which was stopped.
        run: The run's folder; one that exists is moved aside.
        allow: Other people's packages that the checkpoint's network may come from.
        seed: The random seed of order, augmentation and dropout.
        settings: The settings of the run as plain data; a resumed run must repeat them.
        command_line: The command, for the report.
        train: Fine-tunes a cut network in place, called as `fine_tune_` is.
        begin: Called when nothing is left to refuse, before the run's folder is made.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the target was not reached, or the budget is broken, in float or in INT8;
            checkpoint and report are written all the same.

    Example:
        >>> from pathlib import Path
        >>> from regrow.metrics import Budget
        >>> from regrow.pipelines import run_pruning
        >>> from regrow.prune import Target
        >>> report = run_pruning(  # doctest: +SKIP
        ...     Path("runs/train/best.ckpt"),
        ...     target=Target(macs=0.7),
        ...     budget=Budget(max_drop=1.0),  # any score is accepted
        ...     num_steps=2,
        ...     run=Path("runs/prune"),
        ... )
        >>> before, after = report.figures["before"], report.figures["after"]  # doctest: +SKIP
        >>> after["macs"] <= 0.7 * before["macs"]  # doctest: +SKIP
        True
    """
    started, packages = time.monotonic(), tuple(allow or ())
    _refuse_counts(num_steps, final_epochs, calibration_images)
    if qat_epochs and not int8:
        raise BadInput("qat_epochs has no say without int8, which it trains for; give both")
    if resume:
        reopen_run(run, command_line)
    else:
        refuse_run(run, checkpoint, reference)
    inputs = Inputs.read(checkpoint, reference, data or data_beside(checkpoint), recovery, packages)
    if budget.max_drop < 1 and not accept_seen:
        refuse_seen(inputs.seen, inputs.data)
    _refuse_processes(inputs.task, recovery, run)
    calibration = _calibration(inputs, clock, calibration_images, seed) if int8 else None
    tuning = FineTuning(
        qat_epochs, qat_lr, recovery, optimization, seed, run / PRUNED, command_line
    )
    record = Record(run, flat(settings or {}) | {"parents": inputs.hashes})
    begun = record.read(inputs.task, packages) if resume else None
    grid = None if lr_grid is None else RateGrid(lr_grid, run)
    latency = clock.beside(inputs.dense)
    # Refuses what it can before an earlier run is moved.
    widths = _widths(inputs.dense) if targets is not None else None
    removal = _removal(
        inputs,
        latency,
        weights,
        criterion,
        target,
        selection,
        widths,
        compensate,
        search,
        optimization,
    )
    if targets is not None:
        _refuse_unreachable(removal, inputs, Target(**{targets_of: targets[-1]}))
    job = Job(
        run=run,
        inputs=inputs,
        removal=removal,
        latency=latency,
        budget=budget,
        recovery=recovery,
        final_epochs=final_epochs,
        optimization=optimization,
        penalties=_penalties(inputs.dense, distillation),
        train=train,
        seed=seed,
        hparams=settings or _hparams(criterion, removal, num_steps, recovery, seed),
        command_line=command_line,
        grid=grid,
    )
    if begin is not None:
        begin()
    if not resume:
        open_run(run, command_line)
    foreseen = job.foresee()
    result = job.prune(record, begun, num_steps=num_steps, adapts=adapts)
    job.write_checkpoint(result, settings)
    unlike = unlike_saved(run / PRUNED, result.task, inputs.data, packages)
    exported = None
    if export or int8:
        exported = export_pruned(run / PRUNED, inputs, budget, packages, calibration, clock, tuning)
    report = job.report(result, foreseen, unlike, started, exported)
    record.remove()  # until here a run that is killed goes on from its last step
    job.conclude(result, report, unlike, exported)
    return report


def _refuse_unreachable(removal: Removal, inputs: Inputs, target: Target) -> None:
    """Refuse a front whose smallest target is out of reach, before the first is worked for."""
    if isinstance(removal, Channels):
        Channels(
            inputs.task,
            target,
            replace(removal.selection, keep=None, only=None),
            removal.criterion,
            removal.groups,
            inputs.dense,
            removal.latency,
            removal.dense,
        )


def _calibration(inputs: Inputs, clock: Clock, num_images: int, seed: int) -> Calibration:
    """Return the images that INT8 is calibrated on; refuses what has no INT8."""
    check_exportable(inputs, clock)
    return Calibration(inputs.data, num_images, seed)


def _refuse_counts(num_steps: int, final_epochs: int, calibration_images: int) -> None:
    if num_steps < 1 or final_epochs < 0:
        raise BadInput(
            f"num_steps is {num_steps}, it must be at least 1, and final_epochs {final_epochs}, "
            "it must be 0 or more"
        )
    if calibration_images < 1:
        raise BadInput(f"calibration_images is {calibration_images}, it must be at least 1")
    refuse_beyond(NUM_RUNS, num_steps=num_steps)
    refuse_beyond(NUM_EPOCHS, final_epochs=final_epochs)


def _refuse_processes(task: Task, recovery: Fit, run: Path) -> None:
    """Refuse several processes, and what Lightning refuses, before any work is done."""
    if make_trainer(task, recovery, run, logs="none").world_size > 1:
        raise BadInput("recovery.devices: pruning runs in one process; set it to 1")


def _removal(
    inputs: Inputs,
    latency: Latency,
    weights: Weights | None,
    criterion: Criterion,
    target: Target,
    selection: Selection,
    widths: Mapping[str, int] | None = None,
    compensate: bool = False,
    search: Search | None = None,
    optimization: Optimization | None = None,
) -> Removal:
    task, dense = inputs.task, inputs.dense
    if weights is None:
        return Channels(
            task,
            target,
            selection,
            criterion,
            reference=dense,
            latency=latency,
            dense=widths,
            compensation=Compensation() if compensate else None,
            search=search,
            optimization=optimization,
        )
    options = ("branches", "keep", "only", "limit")
    named = {f"selection.{name}": getattr(selection, name) for name in options}
    _refuse_with_weights(**named, compensate=compensate)
    removal = SingleWeights(task, weights, criterion, reference=dense, latency=latency)
    log.info("target, selection and search have no say: weights are masked, no channel goes")
    return removal


def _refuse_with_weights(**given: object) -> None:
    """Refuse what concerns channels where single weights are masked."""
    for name, value in given.items():
        if value:
            raise BadInput(f"{name} has no say where single weights are masked; give it or weights")


def _widths(dense: Task) -> dict[str, int]:
    """Return the widths of the unpruned network by layer: what names a group may go meanwhile."""
    return widths_of(find_groups(dense).groups)


def _penalties(dense: Task, distillation: Distillation | None) -> list[Penalty]:
    return [] if distillation is None else [DistillationPenalty(dense, distillation)]


def _hparams(
    criterion: Criterion, removal: Removal, num_steps: int, recovery: Fit, seed: int
) -> dict[str, Any]:
    """Return the settings of a run that was called from Python, for TensorBoard."""
    return {
        "criterion": type(criterion).__name__,
        "target": dict(removal.shares),
        "num_steps": num_steps,
        "recovery": asdict(recovery),
        "seed": seed,
    }

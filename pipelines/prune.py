"""Make a network smaller under an accuracy budget: one run."""

import shutil
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from regrow.data.config import DATA_FILE, data_beside, write_data_file
from regrow.data.images.transforms import decode
from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.limits import NUM_EPOCHS, NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.metrics.budget import Budget, foresee
from regrow.metrics.unseen import count_shown
from regrow.models.checkpoint import file_hash, load, load_provenance, save
from regrow.models.latency import Clock
from regrow.models.optimization import Optimization
from regrow.models.provenance import Provenance, change_between, descent, now
from regrow.models.task import Task
from regrow.pipelines.lead import describe_remarks
from regrow.pipelines.prune_report import pruning_report, training_in_words, verdict_in_words
from regrow.pipelines.seen import refuse_seen, seen_before, seen_in_words
from regrow.prune.criteria import (
    ActivationGradient,
    Criterion,
    Fisher,
    Lamp,
    Magnitude,
    NormScale,
    Random,
    Taylor,
)
from regrow.prune.engine import Result, prune
from regrow.prune.masking import SingleWeights, Weights
from regrow.prune.recovery import Recover
from regrow.prune.removal import Channels, Removal
from regrow.prune.selection import Selection
from regrow.prune.state import TRIAL, Progress, Step, load_progress, save_progress
from regrow.prune.target import Target
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report, before_after_table, device_name
from regrow.reporting.run_folder import open_run, refuse_run, reopen_run
from regrow.reporting.tensorboard import common_hparams, flat, write_hparams
from regrow.training.callbacks import save_prediction_picture
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit
from regrow.training.resume import refuse_changes
from regrow.training.trainer import fine_tune_, make_trainer
from regrow.training.verification import unlike_saved

PROGRESS = "progress.ckpt"
RECOVERY = "recovery"  # the folder of a run for the state of the training that goes on
CRITERIA = [Taylor, Magnitude, Fisher, NormScale, Lamp, ActivationGradient, Random]


@releases_folders
def run_pruning(
    checkpoint: Path,
    data: GrowingData | None = None,
    criterion: Criterion = Taylor(),  # noqa: B008 - it keeps no state
    target: Target = Target(),  # noqa: B008 - frozen
    budget: Budget = Budget(),  # noqa: B008 - frozen
    selection: Selection = Selection(),  # noqa: B008 - frozen
    num_steps: int = 5,
    adapts: bool = True,
    recovery: Fit = Fit(epochs=2, devices=1),  # noqa: B008 - frozen
    final_epochs: int = 0,
    optimization: Optimization = Optimization(),  # noqa: B008 - frozen
    distillation: Distillation | None = None,
    weights: Weights | None = None,
    clock: Clock = Clock(),  # noqa: B008 - frozen
    reference: Path | None = None,
    accept_seen: bool = False,
    resume: bool = False,
    run: Path = Path("runs/prune"),
    allow: list[str] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Prune step by step, and leave `pruned.ckpt`, TensorBoard logs and a report in the run folder.

    Args:
        checkpoint: The network to be pruned; the file is not changed.
        data: The data it was trained on, by default as `data.yaml` beside the checkpoint says.
            Steps are judged on validation images; the budget is decided once, at the end, on test
            images.
        criterion: How channels are ranked.
        target: The cost to come down to.
        budget: The score that may be lost.
        selection: Which channels may go, and in what order.
        num_steps: In how many steps the target is approached, if they are of equal size.
        adapts: Whether steps grow while the score holds, and shrink near the budget; one that
            breaks it is then tried again at half its size.
        recovery: The fine-tuning after each step.
        final_epochs: Passes over the training images after the last step.
        optimization: The optimizer of the fine-tuning; its momentum lives on from step to step.
        distillation: What the network takes from the unpruned one in fine-tuning; null nothing.
        weights: Mask single weights instead of removing channels; null removes channels.
        clock: How latency is measured.
        reference: A checkpoint that budget and target compare with, by default the one that is
            pruned; say, the network that it was itself pruned from.
        accept_seen: Decide the budget although some test images have the pixels of training or
            validation images, of the data or of the networks' own.
        resume: Go on with the run in the run's folder, which was stopped.
        run: The run's folder; one that exists is moved aside.
        allow: Other people's packages that the checkpoint's network may come from.
        seed: What order, augmentation and dropout are functions of.
        settings: The settings of the run as plain data; a resumed run must repeat them.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the target was not reached, or the budget is broken; checkpoint and report
            are written all the same.
    """
    started, packages = time.monotonic(), tuple(allow or ())
    if num_steps < 1 or final_epochs < 0:
        raise BadInput(
            f"num_steps is {num_steps}, it must be at least 1, and final_epochs {final_epochs}, "
            "it must be 0 or more"
        )
    refuse_beyond(NUM_RUNS, num_steps=num_steps)
    refuse_beyond(NUM_EPOCHS, final_epochs=final_epochs)
    if resume:
        reopen_run(run, command_line)
    else:
        refuse_run(run, checkpoint, reference)
    data = data or data_beside(checkpoint)
    data.refuse_unscored()
    task = _loaded(checkpoint, data, recovery, packages)
    dense = _loaded(reference, data, recovery, packages) if reference is not None else task
    parents = [path for path in (checkpoint, reference) if path is not None]
    seen = seen_before(data, parents)
    if budget.max_drop < 1 and not accept_seen:
        refuse_seen(seen, data)
    # Lightning says at once what it refuses.
    if make_trainer(task, recovery, run, logs="none").world_size > 1:
        raise BadInput("recovery.devices: pruning runs in one process; set it to 1")
    began = flat(settings or {}) | {"parents": [file_hash(path) for path in parents]}
    begun = _begun(run, began, task, packages) if resume else None
    latency = clock.beside(dense)
    # Refuses what it can before an earlier run is moved.
    removal: Removal
    if weights is not None:
        removal = SingleWeights(task, weights, criterion, dense, latency)
        log.info("target and selection have no say: weights are masked, and no channel goes")
    else:
        removal = Channels(task, target, selection, criterion, None, dense, latency)
    penalties = [DistillationPenalty(dense, distillation)] if distillation is not None else []
    if not resume:
        run = open_run(run, command_line)
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    console = Console(markup=False)
    shown = count_shown(data.shown("test"), data.kind == "labels")
    foreseen = foresee(shown, budget.max_drop, budget.confidence, "test images")
    if foreseen is not None:
        console.print(f"budget: {foreseen}", soft_wrap=True, highlight=False)

    def trained(epochs: int) -> Recover:
        fit = replace(recovery, epochs=epochs)

        def train(work: Task, index: int) -> None:
            work.optimization = optimization
            console.print(f"step {index}: training, {epochs} epoch{'s' * (epochs != 1)}")
            state = run / RECOVERY / str(index)
            fine_tune_(
                work, data, fit, run, seed=seed, round_=index, penalties=penalties, state=state
            )

        return train

    def keep(progress: Progress) -> None:
        save_progress(run / PROGRESS, progress, began)
        if progress.trial is None:
            _forget_recovery(run)

    with SummaryWriter(str(run / "tensorboard")) as writer:
        result = prune(
            task,
            removal,
            train_loader=loaders[0],
            val_loader=loaders[1],
            test_loader=loaders[2],
            num_steps=num_steps,
            adapts=adapts,
            budget=budget,
            recover=trained(recovery.epochs) if recovery.epochs else None,
            finish=trained(final_epochs) if final_epochs else None,
            seed=seed,
            begun=begun,
            on_step=partial(_show, writer, console),
            save=keep,
        )
        hparams = settings or {
            "criterion": type(criterion).__name__,
            "target": dict(removal.shares),
            "num_steps": num_steps,
            "recovery": asdict(recovery),
            "seed": seed,
        }
        common = common_hparams("prune", task, recovery.epochs, optimization.lr)
        scores = {"final/score": result.after.value, "final/macs": result.cost_after.macs}
        write_hparams(writer, common | hparams, scores)
        save_prediction_picture(result.task, data, run / "predictions.png")
        pixels = decode(run / "predictions.png")
        writer.add_image("val/predictions", pixels, dataformats="HWC")
    _keep(result, run / "pruned.ckpt", checkpoint, data, command_line)
    if settings and settings.get("data"):
        write_data_file(run, settings)
    elif (checkpoint.parent / DATA_FILE).is_file():
        shutil.copyfile(checkpoint.parent / DATA_FILE, run / DATA_FILE)
    report = pruning_report(result, data, budget, run, checkpoint, command_line, latency, foreseen)
    unlike = unlike_saved(run / "pruned.ckpt", result.task, data, packages)
    if unlike is not None:
        report.say(f"{unlike}.")
    if seen:
        report.say(f"Beware: {seen_in_words(seen, data)}.")
    describe_remarks(report, data.remarks.lines)
    report.set(
        data={
            "hash": data.snapshot.hash,
            "diff": None,
            "num_seen_tests": len(seen),
            "remarks": data.remarks.to_dict(),
        },
        seconds=round(time.monotonic() - started, 1),
        seeds=[seed],
        device=device_name(task.mean.device),
    )
    report.say(training_in_words(result, recovery.epochs, final_epochs))
    report.add_picture(run / "predictions.png", "The first validation images: truth, prediction")
    report.write()
    # Until here a run that is killed goes on from its last step.
    (run / PROGRESS).unlink(missing_ok=True)
    figures = report.figures
    console.print(before_after_table(figures["before"], figures["after"], result.after.name))
    console.print(verdict_in_words(result, budget), soft_wrap=True)
    if unlike is not None:
        raise CheckFailed(unlike)
    if result.stopped != "target":
        raise CheckFailed(f"{verdict_in_words(result, budget)} See {run / 'report.md'}")
    if result.verdict.is_met is False:
        raise CheckFailed(
            f"the budget of {budget.max_drop} is broken on {result.verdict.num_images} test "
            f"images: the score changed by {result.verdict.interval}; see {run / 'report.md'}"
        )
    return report


def _loaded(path: Path, data: GrowingData, recovery: Fit, packages: tuple[str, ...]) -> Task:
    task = load(path, allow=packages, kind=data.kind)
    task.to(device=recovery.device, dtype=recovery.dtype)
    data.order_classes(task.classes)
    if task.size != data.size:
        raise BadInput(f"{path} is for images of {task.size}; set data.size to it")
    return task


def _begun(run: Path, settings: dict[str, Any], task: Task, packages: tuple[str, ...]) -> Progress:
    """Read where the run stopped, and refuse to go on with other settings."""
    if not (run / PROGRESS).is_file():
        raise BadInput(f"{run} has no pruning run that was stopped; start it without --resume")
    progress, began = load_progress(run / PROGRESS, packages)
    refuse_changes(began, settings)
    progress.task.to(task.mean.device)
    if progress.trial is not None:
        progress.trial.task.to(task.mean.device)
    return progress


def _forget_recovery(run: Path) -> None:
    """Remove the state of a training whose step is recorded."""
    shutil.rmtree(run / RECOVERY, ignore_errors=True)
    (run / TRIAL).unlink(missing_ok=True)


def _show(writer: SummaryWriter, console: Console, step: Step) -> None:
    name = f"step {step.index}" if step.index else "as given"
    fate = "" if step.is_kept else ", rolled back"
    costs = f"{step.macs:,} MACs, {step.params:,} parameters"
    if step.masked:
        costs += f", {100 * step.masked:.1f} % of them masked"
    if step.latency is not None:
        costs += f", {100 * step.latency:.0f} % of the time"
    told = f"{name}: {costs}, validation score {step.score:.4f}{fate}"
    console.print(told, soft_wrap=True)  # one line a step in a log
    # The horizontal axis of these is the cost, in thousands or thousandths.
    writer.add_scalar("prune/score_against_kmacs", step.score, step.macs // 1000)
    writer.add_scalar("prune/score_against_kparams", step.score, step.params // 1000)
    if step.latency is not None:
        per_mille = round(1000 * step.latency)
        writer.add_scalar("prune/score_against_latency_per_mille", step.score, per_mille)
        writer.add_scalar("prune/latency", step.latency, step.index)
    for figure in ("score", "macs", "params", "masked", "error"):
        writer.add_scalar(f"prune/{figure}", getattr(step, figure), step.index)


def _keep(result: Result, path: Path, parent: Path, data: GrowingData, command_line: str) -> None:
    old, manifest, checkpoint = load_provenance(parent), data.snapshot.manifest(), file_hash(parent)
    kept = [step.score for step in result.steps if step.is_kept]
    result.task.provenance = Provenance(
        data=data.snapshot.hash,
        manifest=manifest.to_dict(),
        parent=checkpoint,
        scores={
            f"val/{result.after.name}": kept[-1] if kept else result.baseline,
            f"test/{result.after.name}": result.after.value,
        },
        command=command_line,
        settings=old.settings,
        date=now(),
        change=change_between(old, manifest),
        lineage=descent(checkpoint, old),
        scratch_epochs=old.scratch_epochs,
    )
    save(path, result.task)

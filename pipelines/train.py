"""Train a network, or warm-start it from a checkpoint on data that grew: one run."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, seed_everything

from regrow.data.config import write_data_file
from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.incremental.candidate import Candidate
from regrow.incremental.dynamic_sparsity import CUT_SHORT, DynamicSparsity
from regrow.incremental.gate import Gate
from regrow.incremental.growth import Growth
from regrow.incremental.memory import check_replay
from regrow.incremental.promotion import read_promoted
from regrow.incremental.start import Start, refuse_another_start
from regrow.incremental.trial import foresee_gate
from regrow.logs import log
from regrow.models.checkpoint import load, read
from regrow.models.masks import masks_of, unmask_
from regrow.models.modes import copied
from regrow.models.nets.build import TIMM, TORCHVISION
from regrow.models.provenance import Provenance, descent, now
from regrow.models.task import Task
from regrow.pipelines.lead import (
    SPLIT,
    Kept,
    headline,
)
from regrow.pipelines.train_report import (
    judge_trial,
    keep_memory,
    kept_file,
    promote_kept,
    training_report,
)
from regrow.pipelines.warm_start_report import describe_compute
from regrow.prune.widening.regrow import regrow_channels_
from regrow.prune.widening.widen import widen_
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report, device_name
from regrow.reporting.run_folder import open_run, refuse_run, reopen_run
from regrow.reporting.tensorboard import common_hparams, flat, log_hparams
from regrow.training.callbacks import save_prediction_picture
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.resume import (
    WIDE,
    can_go_on,
    find_stopped,
    is_stopped_wide,
    load_stopped,
    refuse_changes,
)
from regrow.training.trainer import fine_tune_, make_trainer, refuse_kind, train
from regrow.training.verification import unlike_saved

# What the command itself gives to `run_training`.
NO_OPTIONS = ("settings", "command_line")


@releases_folders
def run_training(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    fit: Fit = Fit(),  # noqa: B008 - frozen
    run: Path = Path("runs/train"),
    warm_start: Path | None = None,
    growth: Growth = Growth(),  # noqa: B008 - frozen
    renamed: dict[str, str] | None = None,
    removed: list[str] | None = None,
    sparsity: Literal["keep", "regrow", "dense"] = "keep",
    allow_forgetting: bool = False,
    replay: float | None = None,
    gate: Gate | None = None,
    promoted: Path | None = None,
    resume: str | None = None,
    allow: list[str] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Train, and leave `best.ckpt`, `last.ckpt`, TensorBoard logs and a report in the run folder.

    Args:
        task: The task and its network.
        data: The images and their labels.
        fit: How long and on what.
        run: The run's folder; one that exists is moved aside.
        warm_start: A checkpoint to start from; architecture and classes come from it.
        growth: How a warm start begins, and what it trains on.
        renamed: Old class names to new ones, for a warm start.
        removed: Classes of the checkpoint to give up on purpose, for a warm start.
        sparsity: What becomes of a pruned network in a warm start: `keep` leaves masks and widths
            as they are; `regrow` lets the masked weights come back, and takes as many away again,
            the smallest ones, in the first three quarters of the run, while others grow where the
            gradient is large; and channels, which go again after a third of the epochs. So the cost
            in the end is that of the old network. `dense` lets all come back for good.
        allow_forgetting: Warm-start on new images alone, although no memory of the old was kept.
        replay: Keep a memory of the images in the run's folder, for later warm starts on new images
            alone: their number, or a share in (0, 1].
        gate: What a network must keep and reach to be served; null decides nothing.
        promoted: The file that names the checkpoint to serve, which the gate moves; by default
            `promoted.json` in the run's folder.
        resume: A checkpoint of this run to go on from, or `auto` for its newest; where there is
            none yet, `auto` begins the run, so that a command may be repeated as it is.
        allow: Other people's packages that a checkpoint's network may come from.
        seed: What fresh weights and dropout are functions of; order and augmentation are
            functions of data.seed.
        settings: The settings of the run as plain data; a resumed run must repeat them.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the file is not the network that was scored; all files are there all the
            same, and it is not served.
    """
    started, packages = time.monotonic(), tuple(allow or ())
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed is {seed}, it must lie in [0, 2**32)")
    # YAML takes a name such as 1 for a number, which stays one in a mapping's keys.
    renamed = {str(old): new for old, new in (renamed or {}).items()}
    removed = list(removed or [])
    if resume is not None:
        reopen_run(run, command_line)
    if resume == "auto" and not can_go_on(run):
        resume = None
    if resume is not None and warm_start is not None:  # the command of a warm start, again
        refuse_another_start(run, warm_start, renamed, removed)
    again = Start.read(run) if resume == "auto" and is_stopped_wide(run) else None
    if again is not None:  # all that came before is done again
        again.check_parent()
        warm_start, resume = Path(again.parent), None
        renamed, removed = dict(again.renamed), again.removed
        allow_forgetting = again.history.forgets
    if warm_start is None and resume is None:
        _refuse_alone(renamed, removed, sparsity, allow_forgetting)
        if growth != Growth():
            log.info("growth has no effect: it is for a warm start, and there is no --warm-start")
    seed_everything(seed, verbose=False)
    values, continued, done = flat(settings) if settings else {}, None, None
    candidate: Candidate | None = None
    watchers: list[Callback] = [DynamicSparsity()] if sparsity == "regrow" else []
    if sparsity == "regrow" and fit.epochs < 2:
        raise BadInput("sparsity regrow needs fit.epochs of 2 or more: channels come, and go again")
    growth.check(fit)
    if resume is not None:
        continued, start = find_stopped(run, resume), Start.read(run)
        net, fit = _resumed(task, data, continued, start, growth, fit, packages)
        watchers += start.watchers(net, packages) if start is not None else []
        done = read(continued)["global_step"]
        log.info(f"going on from {continued}, after {done} steps")
        trainer = make_trainer(net, fit, run, watchers=watchers, done=done)
        refuse_changes(net.provenance.settings, values | {"processes": trainer.world_size})
    else:
        refuse_run(run, warm_start, read_promoted(promoted) if promoted else None)
        if warm_start is None:
            net, start = task(data.classes, data.size), None
            refuse_kind(net, data)
            data.order_classes(net.classes)
        else:
            net = _old_network(task, data, warm_start, fit, sparsity, packages, seed)
            old = copied(net) if growth.warm_init != "keep" else None
            start = growth.begin_(
                net, data, warm_start, fit.epochs,
                renamed=renamed,
                removed=removed,
                allow_forgetting=allow_forgetting,
                allow=packages,
                seed=seed,
            )  # fmt: skip
            start = replace(start, anchor=growth.anchor_of(net, start, fit, packages))
            log.info(f"data: {start.said}")
            log.info(f"the old model on the new validation images: {net.score} {start.score:.4f}")
            candidate = Candidate.of(net, old, start, data)
            log.info(candidate.said)
            foreseen = foresee_gate(start, data, gate) if gate is not None else None
            if foreseen is not None:
                log.info(f"gate: {foreseen}")
        _refuse_images(net, data)
        data.refuse_unscored()
        if replay is not None:
            check_replay(data, replay)
        # Lightning says at once what it refuses.
        processes = make_trainer(net, fit, run).world_size
        if sparsity == "regrow" and processes > 1:
            raise BadInput("sparsity regrow works in one process; set fit.devices to 1")
        settings_now = values | {"processes": processes}
        if again is None:
            run = open_run(run, command_line)
            net.provenance = _provenance(net, data, start, fit, command_line, settings_now)
        else:
            net.provenance = _same_run(data, run / WIDE, settings_now, packages)
        if settings:
            write_data_file(run, settings)
        if candidate is not None:
            candidate.write(run, net)
        if start is not None:
            if sparsity == "regrow":
                start.write(run)
                start = _after_growth(start, _grow_again_(net, data, fit, run, seed))
                fit = replace(fit, epochs=fit.epochs - start.num_wide_epochs)
            watchers += start.watchers(net, packages)
            start.write(run)
        trainer = make_trainer(net, fit, run, watchers=watchers)
        if candidate is not None:
            candidate.offer_(trainer)
    train(net, data, trainer, run, seed=seed, resume=continued)
    if trainer.is_global_zero:
        shutil.rmtree(run / WIDE, ignore_errors=True)
    data.trainer = None  # whatever trained, one process scores all images
    if trainer.global_step == done:
        log.info(f"{run}: its training was finished already; what comes after it is done again")
    found = {"val": evaluate(net, data.val_dataloader(), description="validation")}
    if data.snapshot.indices("test"):
        found["test"] = evaluate(net, data.test_dataloader(), description="test")
    kept, unlike = Kept.of(kept_file(run), trainer.current_epoch, net.chosen_by), None
    report = training_report(net, data, found, run, kept)
    if trainer.is_global_zero:
        unlike = unlike_saved(kept.path, net, data, packages)
        if unlike is not None:
            report.say(f"{unlike}.")
        if replay is not None:
            keep_memory(data, replay, run, start, report)
        decision = judge_trial(report, net, data, found, start, gate or Gate(), packages)
        if gate is not None:
            reasons = [*decision.reasons, *([unlike] if unlike is not None else [])]
            named = (*packages, net.net_package)
            promote_kept(report, run, promoted, start, reasons, named)
    if start is not None:
        done = trainer.current_epoch + start.num_wide_epochs
        count, from_scratch = len(data.examples("train")), net.provenance.scratch_epochs
        describe_compute(report, start, done, from_scratch, count)
    report.set(
        seconds=round(time.monotonic() - started, 1),
        seeds=[seed],
        device=device_name(net.mean.device),
    )
    if trainer.is_global_zero:
        picture = run / "predictions.png"
        save_prediction_picture(net, data, picture)
        report.add_picture(picture, "The first validation images: truth, prediction")
        kind, lr = "train" if start is None else "warm start", net.optimization.lr
        hparams = common_hparams(kind, net, fit.epochs, lr)
        hparams |= settings or {"fit": asdict(fit), "seed": seed}
        scores = {"final/score": found[headline(found)].value}
        log_hparams(trainer.logger, hparams, scores, trainer.global_step)
    report.write()
    if trainer.is_global_zero:
        told = [f"{e.value:.4f} on {e.num_images} {SPLIT[n]} images" for n, e in found.items()]
        name, epoch = found["val"].name, f"epoch {kept.epoch} of {kept.epochs}"
        scores_told = ", ".join(reversed(told))
        log.info(f"{kept.path}, {epoch}: {name} {scores_told}; report: {run / 'report.md'}")
    if unlike is not None:
        raise CheckFailed(unlike)
    return report


def _same_run(
    data: GrowingData, folder: Path, settings: dict[str, Any], allow: tuple[str, ...]
) -> Provenance:
    """Give what a run that was stopped while channels were back said of where it comes from.

    Raises:
        BadInput: If the data or the settings are others.
    """
    stopped = load_stopped(find_stopped(folder, "auto"), data, allow)
    refuse_changes(stopped.provenance.settings, settings)
    return stopped.provenance


def _refuse_alone(
    renamed: dict[str, str] | None, removed: list[str] | None, sparsity: str, allowed: bool
) -> None:
    """Refuse what only a warm start can do, where an old network was not named."""
    given = {
        "--renamed": bool(renamed),
        "--removed": bool(removed),
        "--sparsity": sparsity != "keep",
        "--allow-forgetting": allowed,
    }
    for name, is_given in given.items():
        if is_given:
            raise BadInput(f"{name} is for a warm start; add --warm-start CKPT, or leave it out")


def _resumed(
    make: Callable[..., Task],
    data: GrowingData,
    checkpoint: Path,
    start: Start | None,
    growth: Growth,
    fit: Fit,
    allow: tuple[str, ...],
) -> tuple[Task, Fit]:
    """Give the network of a stopped run and the rest of its epochs; its data is put together."""
    if start is not None:
        start.rejoin_(data)
    net = _around(load_stopped(checkpoint, data, allow), make)
    if start is None:
        return net, fit
    growth.join_(net, data, start, fit.epochs, allow)
    return net, replace(fit, epochs=fit.epochs - start.num_wide_epochs)


def _old_network(
    make: Callable[..., Task],
    data: GrowingData,
    checkpoint: Path,
    fit: Fit,
    sparsity: str,
    allow: tuple[str, ...],
    seed: int,
) -> Task:
    """Load the network that a warm start begins with, where it is trained; dense if asked for."""
    loaded = load(checkpoint, allow=allow, kind=data.kind).to(dtype=fit.dtype)
    net = _around(loaded, make).to(fit.device)
    refuse_kind(net, data)
    if sparsity == "regrow" and fit.patience is not None and masks_of(net.net):
        raise BadInput(CUT_SHORT)
    if sparsity == "dense":
        unmask_(net.net)
        widen_(net, seed=seed)
    return net


def _provenance(
    net: Task,
    data: GrowingData,
    start: Start | None,
    fit: Fit,
    command_line: str,
    settings: dict[str, Any],
) -> Provenance:
    """Say where the network of a new run comes from; it still has that of its parent."""
    return Provenance(
        data=data.snapshot.hash,
        manifest=data.snapshot.manifest().to_dict(),
        parent=start.parent_hash if start else None,
        command=command_line,
        settings=settings,
        date=now(),
        change=start.diff["text"] if start and start.diff else None,
        lineage=descent(start.parent_hash, net.provenance) if start else [],
        scratch_epochs=net.provenance.scratch_epochs if start else fit.epochs,
    )


def _grow_again_(net: Task, data: GrowingData, fit: Fit, run: Path, seed: int) -> int:
    """Let channels come back, learn, and go; give the epochs that this took."""
    epochs = max(1, fit.epochs // 3)
    grown = regrow_channels_(
        net,
        train=lambda work, index: fine_tune_(
            work,
            data,
            replace(fit, epochs=epochs),
            run,
            seed=seed,
            round_=index + 1,
            state=run / WIDE,
        ),  # fmt: skip
        batches=data.train_dataloader(),
        seed=seed,
    )
    if not grown.widening.gained:
        return 0
    net.momenta = {}  # the rest begins with a fresh optimizer, as every training run does
    changed = sum(grown.before[name] != width for name, width in grown.after.items())
    log.info(f"regrown: {changed} layers have other widths, at the same cost")
    return epochs


def _after_growth(start: Start, num_epochs: int) -> Start:
    """Put down how long channels were back; those that are left are no more the old ones."""
    if num_epochs and start.anchor:
        log.info("growth.anchor has no effect where channels came back")
    return replace(start, num_wide_epochs=num_epochs, anchor=0.0 if num_epochs else start.anchor)


def _refuse_images(task: Task, data: GrowingData) -> None:
    """Refuse images of a size, or in a number, that a network of the libraries cannot take.

    Your own network says it itself.
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


def _around(loaded: Task, make: Callable[..., Task]) -> Task:
    """Put the settings of this run around the network of a checkpoint."""
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

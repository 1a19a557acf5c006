"""A training run: begun or resumed, trained, and finished with a report."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytorch_lightning import Callback, Trainer

from regrow.errors import CheckFailed
from regrow.incremental.anchor import Anchor
from regrow.incremental.dynamic_sparsity import DynamicSparsity
from regrow.incremental.gating.gate import Gate
from regrow.incremental.parent import Parent
from regrow.incremental.warm_start import WarmStart, refuse_another_start
from regrow.logs import log
from regrow.models.checkpoint import read
from regrow.models.task import Task
from regrow.pipelines.lead import SPLIT, Kept, headline
from regrow.pipelines.training.beginning import Beginning, around
from regrow.pipelines.training.report import (
    judge,
    keep_memory,
    kept_file,
    promote_kept,
    training_report,
)
from regrow.pipelines.training.request import Request
from regrow.pipelines.training.warm_start_report import describe_compute
from regrow.reporting.report import Report, device_name
from regrow.reporting.run_folder import refuse_run
from regrow.reporting.tensorboard import common_hparams, log_hparams
from regrow.training.callbacks import save_prediction_picture
from regrow.training.evaluation import Evaluation, evaluate
from regrow.training.fit import Fit
from regrow.training.resume import find_stopped, load_stopped, refuse_changes
from regrow.training.stages import earlier_stage, remove_earlier
from regrow.training.trainer import make_trainer, train
from regrow.training.verification import unlike_saved


@dataclass(slots=True)
class Session:
    """A run that is ready to be trained, new or stopped.

    Args:
        request: The request for the run.
        task: The network.
        fit: Settings of the training from now on: the epochs that are left.
        start: The record of a warm start; None for a network that began fresh.
        trainer: Its trainer.
        checkpoint: The checkpoint that a stopped run goes on from; None for a new run.
        done: Number of steps that it has taken.
    """

    request: Request
    task: Task
    fit: Fit
    start: WarmStart | None
    trainer: Trainer
    checkpoint: Path | None = None
    done: int | None = None

    @classmethod
    def begun(cls, request: Request) -> "Session":
        """Begin a run, from a fresh network or from an old one.

        Args:
            request: The request for the run.

        Raises:
            BadInput: If it cannot be done; an earlier run in the folder stays where it is then.
        """
        refuse_run(request.run, request.warm_start, request.served)
        beginning = Beginning.of(request)
        beginning.open_()
        return cls._of(beginning)

    @classmethod
    def resumed(cls, request: Request) -> "Session":
        """Resume a stopped run.

        Args:
            request: The request, with the checkpoint or `auto`.

        Raises:
            BadInput: If there is no such run, or it was asked for something else.
        """
        if request.warm_start is not None:  # the command of a warm start, again
            refuse_another_start(request.run, request.warm_start, request.renamed, request.removed)
        start = WarmStart.read(request.run)
        stage = earlier_stage(request.run) if request.resume == "auto" else None
        if stage is None or start is None:
            return cls._in_last_stage(request, start)
        Parent.of(start).check()
        request = request.from_start(start)
        refuse_run(request.run, request.warm_start, request.served)
        beginning = Beginning.of(request)  # all that came before the stage is done again
        beginning.reopen_(stage)
        return cls._of(beginning)

    @classmethod
    def _of(cls, beginning: Beginning) -> "Session":
        """Return the session of a run before the first step of its last stage."""
        request, task = beginning.request, beginning.task
        start = beginning.let_channels_back_()
        fit = _left(request.fit, start)
        watchers = _watchers(request, task, start)
        trainer = make_trainer(task, fit, request.run, watchers=watchers)
        if beginning.warm is not None:
            beginning.warm.incumbent.offer_(trainer)
        return cls(request, task, fit, start, trainer)

    @classmethod
    def _in_last_stage(cls, request: Request, start: WarmStart | None) -> "Session":
        """Resume from a checkpoint of the last stage, in the run's folder itself."""
        data = request.data
        checkpoint = find_stopped(request.run, request.resume or "auto")
        if start is not None:
            start.rejoin_(data)
        task = around(load_stopped(checkpoint, data, request.allow), request.make)
        if start is not None:
            request.growth.join_(task, data, start, request.fit.epochs, request.allow)
        watchers = _watchers(request, task, start)
        done = read(checkpoint)["global_step"]
        log.info(f"going on from {checkpoint}, after {done} steps")
        fit = _left(request.fit, start)
        trainer = make_trainer(task, fit, request.run, watchers=watchers, done=done)
        processes = {"processes": trainer.world_size}
        refuse_changes(task.provenance.settings, request.values | processes)
        return cls(request, task, fit, start, trainer, checkpoint, done)

    def train(self) -> None:
        """Train to the end of the run, and load the weights that are kept."""
        request = self.request
        train(
            self.task,
            request.data,
            self.trainer,
            request.run,
            seed=request.seed,
            resume=self.checkpoint,
        )
        if self.trainer.is_global_zero:
            remove_earlier(request.run)
        if self.trainer.global_step == self.done:
            log.info(
                f"{request.run}: its training was finished already; what comes after it is done "
                "again"
            )

    def finish(self, since: float) -> Report:
        """Score the network, decide whether it is served, keep a memory, and write the report.

        Args:
            since: When the command began, by `time.monotonic`.

        Returns:
            The report, written.

        Raises:
            CheckFailed: If the file is not the network that was scored.
        """
        found = self._scored()
        file = kept_file(self.request.run)
        kept = Kept.of(file, self.trainer.current_epoch, self.task.chosen_by)
        report = training_report(self.task, self.request.data, found, self.request.run, kept)
        unlike = None
        if self.trainer.is_global_zero:
            unlike = self._judge(report, found, kept.path)
        self._describe_cost(report, since)
        if self.trainer.is_global_zero:
            self._show(report, found)
        report.write()
        if self.trainer.is_global_zero:
            _warn_of_nothing(found)
            log.info(f"{_in_words(kept, found)}; report: {self.request.run / 'report.md'}")
        if unlike is not None:
            raise CheckFailed(unlike)
        return report

    def _scored(self) -> dict[str, Evaluation]:
        """Score the network on validation images, and on test images where there are some."""
        data = self.request.data
        found = {"val": evaluate(self.task, data.val_dataloader(), description="validation")}
        if data.snapshot.indices("test"):
            found["test"] = evaluate(self.task, data.test_dataloader(), description="test")
        return found

    def _judge(self, report: Report, found: dict[str, Evaluation], kept: Path) -> str | None:
        """Run the gate and store a memory, into a report; return what is wrong with the file."""
        request, task, start = self.request, self.task, self.start
        unlike = unlike_saved(kept, task, request.data, request.allow)
        if unlike is not None:
            report.say(f"{unlike}.")
        if request.replay is not None:
            keep_memory(request.data, request.replay, request.run, start, report)
        gate = request.gate or Gate()
        decision = judge(report, task, request.data, found, start, gate, request.allow)
        if request.gate is not None:
            reasons = [*decision.reasons, *([unlike] if unlike is not None else [])]
            named = (*request.allow, task.net_package)
            promote_kept(report, request.run, request.promoted, start, reasons, named)
        return unlike

    def _describe_cost(self, report: Report, since: float) -> None:
        """Report how much was computed, for how long, and where."""
        if self.start is not None:
            epochs = self.trainer.current_epoch + self.start.num_wide_epochs
            num_images = len(self.request.data.examples("train"))
            from_scratch = self.task.provenance.scratch_epochs
            describe_compute(report, self.start, epochs, from_scratch, num_images)
        report.set(
            seconds=round(time.monotonic() - since, 1),
            seeds=[self.request.seed],
            device=device_name(self.task.mean.device),
        )

    def _show(self, report: Report, found: dict[str, Evaluation]) -> None:
        """Draw the first predictions, and put the settings beside the score in TensorBoard."""
        request = self.request
        picture = request.run / "predictions.png"
        save_prediction_picture(self.task, request.data, picture)
        report.add_picture(picture, "The first validation images: truth, prediction")
        kind = "train" if self.start is None else "warm start"
        hparams = common_hparams(kind, self.task, self.fit.epochs, self.task.optimization.lr)
        hparams |= request.settings or {"fit": asdict(self.fit), "seed": request.seed}
        scores = {"final/score": found[headline(found)].value}
        log_hparams(self.trainer.logger, hparams, scores, self.trainer.global_step)


def _left(fit: Fit, start: WarmStart | None) -> Fit:
    """Return how the last stage is trained: the epochs of those before it are behind."""
    return fit if start is None else replace(fit, epochs=fit.epochs - start.num_wide_epochs)


def _watchers(request: Request, task: Task, start: WarmStart | None) -> list[Callback]:
    """Return the callbacks of this run besides those of every run."""
    watchers: list[Callback] = [DynamicSparsity()] if request.regrows else []
    if start is not None and start.anchor:
        watchers.append(Anchor(Parent.of(start, request.allow).weights(task), start.anchor))
    return watchers


def _in_words(kept: Kept, found: dict[str, Evaluation]) -> str:
    """Return in a line what was kept, and its scores."""
    told = [f"{e.value:.4f} on {e.num_images} {SPLIT[n]} images" for n, e in found.items()]
    scores = ", ".join(reversed(told))
    old = "" if kept.epoch else ", the old network, which no epoch surpassed"
    name = found["val"].name
    return f"{kept.path}, epoch {kept.epoch} of {kept.epochs}{old}: {name} {scores}"


def _warn_of_nothing(found: dict[str, Evaluation]) -> None:
    """Warn of a network that has nothing right, so that nobody takes the zeros for a result."""
    if all(own.value == 0 for own in found.values()):
        log.warning(
            f"{found['val'].name} is 0 on all images: the network has learned nothing yet that "
            "this counts; train it for longer (--fit.epochs), or look whether the labels are right"
        )

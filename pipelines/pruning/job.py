"""A pruning run whose inputs are read: its steps, its checkpoint, its report and its end."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from regrow.data.config import DATA_FILE, write_data_file
from regrow.data.images.decoding import decode
from regrow.errors import CheckFailed
from regrow.logs import log
from regrow.metrics.budget import Budget, foresee
from regrow.metrics.unseen import count_shown
from regrow.models.checkpoint import load_provenance, save
from regrow.models.latency import Latency
from regrow.models.optimization import Optimization
from regrow.models.record.provenance import Provenance, made_from
from regrow.models.task import Penalty, Task
from regrow.pipelines.lead import describe_remarks
from regrow.pipelines.pruning.exports import Exported
from regrow.pipelines.pruning.inputs import RECOVERY, Inputs, Record
from regrow.pipelines.pruning.rates import RateGrid
from regrow.pipelines.pruning.report import (
    pruning_report,
    step_in_words,
    table_in_text,
    training_in_words,
    verdict_in_words,
)
from regrow.pipelines.seen import seen_in_words
from regrow.prune.engine import Result, prune
from regrow.prune.recovery import Recover
from regrow.prune.removal import Removal
from regrow.prune.state import Progress, Step
from regrow.reporting.report import Report, before_after_table, device_name
from regrow.reporting.tensorboard import common_hparams, write_hparams
from regrow.text import plural
from regrow.training.callbacks import save_prediction_picture
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

PRUNED = "pruned.ckpt"
PICTURE = "predictions.png"
Train = Callable[..., None]  # called as `regrow.training.trainer.fine_tune_` is


@dataclass(frozen=True, slots=True)
class Job:
    """A pruning run that can begin.

    Args:
        run: The run's folder.
        inputs: The networks and their data.
        removal: What to remove, and down to what cost.
        latency: Times networks beside the one that is compared with.
        budget: The score that may be lost.
        recovery: The fine-tuning after each step.
        final_epochs: Passes over the training images after the last step.
        optimization: The optimizer of the fine-tuning.
        penalties: Further terms of the loss in fine-tuning.
        train: Fine-tunes a network.
        seed: The random seed of order, augmentation and dropout.
        hparams: The settings of the run for TensorBoard.
        command_line: The command, for the report.
        grid: The learning rates that each fine-tuning tries; None trains at the optimizer's own.
    """

    run: Path
    inputs: Inputs
    removal: Removal
    latency: Latency
    budget: Budget
    recovery: Fit
    final_epochs: int
    optimization: Optimization
    penalties: Sequence[Penalty]
    train: Train
    seed: int
    hparams: dict[str, Any]
    command_line: str
    grid: RateGrid | None = None

    def prune(
        self, record: Record, begun: Progress | None, *, num_steps: int, adapts: bool
    ) -> Result:
        """Prune, with TensorBoard's curves of the score against each cost.

        Args:
            record: Keeps where the run stands.
            begun: Where it goes on from, if it was stopped.
            num_steps: Number of steps towards the target as planned.
            adapts: Whether the size of steps adapts to the score.
        """
        data = self.inputs.data
        with SummaryWriter(str(self.run / "tensorboard")) as writer:
            result = prune(
                self.inputs.task,
                self.removal,
                train_loader=data.train_dataloader(),
                val_loader=data.val_dataloader(),
                test_loader=data.test_dataloader(),
                num_steps=num_steps,
                adapts=adapts,
                budget=self.budget,
                recover=self.trained(self.recovery.epochs),
                finish=self.trained(self.final_epochs),
                seed=self.seed,
                begun=begun,
                on_step=partial(_show, writer),
                save=record.save,
            )
            self._log_end(writer, result)
        return result

    def foresee(self) -> str | None:
        """Log and return what is known of the verdict before the first step, if anything."""
        data, budget = self.inputs.data, self.budget
        shown = count_shown(data.shown("test"), data.kind == "labels")
        foreseen = foresee(shown, budget.max_drop, budget.confidence, "test images")
        if foreseen is not None:
            log.info(f"budget: {foreseen}")
        return foreseen

    def trained(self, epochs: int) -> Recover | None:
        """Return what trains a cut network for some epochs; None for no epochs.

        Args:
            epochs: Passes over the training images.
        """
        if not epochs:
            return None
        fit = replace(self.recovery, epochs=epochs)

        def train(work: Task, index: int) -> None:
            log.info(f"step {index}: training, {plural(epochs, 'epoch')}")
            state = self.run / RECOVERY / str(index)
            if self.grid is None:
                return self._train_(work, fit, index, self.optimization, state)

            def train_at(trial: Task, rate: float, name: str) -> None:
                optimization = replace(self.optimization, lr=rate)
                self._train_(trial, fit, index, optimization, state / name)

            return self.grid.train_(work, index, train_at, self._score)

        return train

    def _train_(
        self, work: Task, fit: Fit, index: int, optimization: Optimization, state: Path
    ) -> None:
        work.optimization = optimization
        self.train(
            work,
            self.inputs.data,
            fit,
            self.run,
            seed=self.seed,
            round_=index,
            penalties=self.penalties,
            state=state,
        )

    def _score(self, work: Task) -> float:
        return evaluate(work, self.inputs.data.val_dataloader()).value

    def _log_end(self, writer: SummaryWriter, result: Result) -> None:
        task, lr = self.inputs.task, self.optimization.lr
        common = common_hparams("prune", task, self.recovery.epochs, lr)
        scores = {"final/score": result.after.value, "final/macs": result.cost_after.macs}
        write_hparams(writer, common | self.hparams, scores)
        save_prediction_picture(result.task, self.inputs.data, self.run / PICTURE)
        writer.add_image("val/predictions", decode(self.run / PICTURE), dataformats="HWC")

    def write_checkpoint(self, result: Result, settings: dict[str, Any] | None) -> None:
        """Write `pruned.ckpt`, and `data.yaml` beside it.

        Args:
            result: The outcome of the run.
            settings: The settings of the run as plain data, if it has some.
        """
        result.task.provenance = self._provenance(result)
        save(self.run / PRUNED, result.task)
        parents_data = self.inputs.checkpoint.parent / DATA_FILE
        if settings and settings.get("data"):
            write_data_file(self.run, settings)
        elif parents_data.is_file():
            shutil.copyfile(parents_data, self.run / DATA_FILE)

    def _provenance(self, result: Result) -> Provenance:
        kept = [step.score for step in result.steps if step.is_kept]
        scores = {
            f"val/{result.after.name}": kept[-1] if kept else result.baseline,
            f"test/{result.after.name}": result.after.value,
        }
        parent = load_provenance(self.inputs.checkpoint)
        snapshot = self.inputs.data.snapshot
        return made_from(self.inputs.hashes[0], parent, snapshot, self.command_line, scores)

    def report(
        self,
        result: Result,
        foreseen: str | None,
        unlike: str | None,
        started: float,
        exported: Exported | None = None,
    ) -> Report:
        """Write the report, and return it.

        Args:
            result: The outcome of the run.
            foreseen: What was known of the verdict before the first step, if anything.
            unlike: What is wrong with the file that was written, if anything.
            started: When the run began, on the clock of `time.monotonic`.
            exported: The exported files, if they were asked for.
        """
        data, seen = self.inputs.data, self.inputs.seen
        report = pruning_report(
            result,
            self.budget,
            self.latency,
            run=self.run,
            parent=self.inputs.hashes[0],
            command_line=self.command_line,
            foreseen=foreseen,
        )
        if self.grid is not None:
            self.grid.add_to(report)
        if unlike is not None:
            report.say(f"{unlike}.")
        if exported is not None:
            exported.add_to(report)
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
            seeds=[self.seed],
            device=device_name(self.inputs.task.mean.device),
        )
        longer = training_in_words(result, self.recovery.epochs, self.final_epochs)
        if longer:
            report.say(longer)
        report.add_picture(self.run / PICTURE, "The first validation images: truth, prediction")
        report.write()
        return report

    def conclude(
        self,
        result: Result,
        report: Report,
        unlike: str | None,
        exported: Exported | None = None,
    ) -> None:
        """Log how the run ended, and raise if that is not as it was asked for.

        Args:
            result: The outcome of the run.
            report: Its report, written.
            unlike: What is wrong with the file that was written, if anything.
            exported: The exported files, if they were asked for.

        Raises:
            CheckFailed: If something is, the target was not reached, or the budget is broken.
        """
        figures, page = report.figures, self.run / "report.md"
        verdict, words = result.verdict, verdict_in_words(result, self.budget)
        table = before_after_table(figures["before"], figures["after"], result.after.name)
        log.info(table_in_text(table))
        if unlike is not None:
            raise CheckFailed(unlike)
        if exported is not None and exported.unlike is not None:
            raise CheckFailed(f"{exported.unlike}; see {page}")
        if result.stopped != "target":
            raise CheckFailed(f"{words} See {page}")
        log.info(words)
        for line in exported.in_words() if exported is not None else []:
            log.info(line)
        if verdict.is_met is False:
            raise CheckFailed(
                f"the budget of {self.budget.max_drop} is broken on {verdict.num_images} test "
                f"images: the score changed by {verdict.interval}; see {page}"
            )
        if exported is not None and exported.broken is not None:
            raise CheckFailed(f"{exported.broken}; see {page}")


def _show(writer: SummaryWriter, step: Step) -> None:
    """Log a step in one line, and as figures of TensorBoard."""
    log.info(step_in_words(step))
    # The horizontal axis of these is the cost, in thousands or thousandths.
    writer.add_scalar("prune/score_against_kmacs", step.score, step.macs // 1000)
    writer.add_scalar("prune/score_against_kparams", step.score, step.params // 1000)
    if step.latency is not None:
        per_mille = round(1000 * step.latency)
        writer.add_scalar("prune/score_against_latency_per_mille", step.score, per_mille)
        writer.add_scalar("prune/latency", step.latency, step.index)
    for figure in ("score", "macs", "params", "masked", "error"):
        writer.add_scalar(f"prune/{figure}", getattr(step, figure), step.index)

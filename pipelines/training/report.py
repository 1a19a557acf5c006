"""The report of a training: scores, the gate, the memory, the file that is served."""

from pathlib import Path

from regrow.data.module import GrowingData
from regrow.data.stored import MEMORY
from regrow.incremental.gating.assessment import Assessment, assess
from regrow.incremental.gating.gate import Decision, Gate
from regrow.incremental.gating.promotion import PROMOTED, promote
from regrow.incremental.memory import store_memory
from regrow.incremental.warm_start import WarmStart
from regrow.models.task import Task
from regrow.pipelines.lead import (
    Kept,
    describe_data,
    describe_remarks,
    describe_scores,
    headline,
)
from regrow.pipelines.training.warm_start_report import describe_outcome, describe_start
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation
from regrow.training.trainer import kept_checkpoint


def kept_file(run: Path) -> Path:
    """Return the checkpoint with the weights that were scored last."""
    return kept_checkpoint(run) or run


def training_report(
    task: Task, data: GrowingData, found: dict[str, Evaluation], run: Path, kept: Kept
) -> Report:
    """Return the report of a training run: its scores, its data, and how it began."""
    start = WarmStart.read(run)
    title = "Training" if start is None else "Warm start"
    report = Report.of(task, run, title, task.provenance.command)
    report.set(
        parent=task.provenance.parent,
        data={
            "hash": task.provenance.data,
            "diff": start.diff if start else None,
            "num_skipped": data.num_skipped,
            "remarks": data.remarks.to_dict(),
        },
    )
    describe_scores(report, found, kept)
    describe_data(report, data.census())
    describe_remarks(report, data.remarks.lines)
    if start is not None:
        describe_start(report, start)
    return report


def judge(
    report: Report,
    task: Task,
    data: GrowingData,
    found: dict[str, Evaluation],
    start: WarmStart | None,
    gate: Gate,
    allow: tuple[str, ...],
) -> Decision:
    """Compare with the old network on test images; on validation images where there are none."""
    outcome = Assessment(found[headline(found)], headline(found))
    if start is not None:
        outcome = assess(start, task, data, found, allow)
    return describe_outcome(report, outcome, start, gate)


def promote_kept(
    report: Report,
    run: Path,
    promoted: Path | None,
    start: WarmStart | None,
    reasons: list[str],
    allow: tuple[str, ...],
) -> None:
    """Write which checkpoint is served, by the gate's reasons, and report it."""
    parent = Path(start.parent) if start else None
    served = promote(promoted or run / PROMOTED, kept_file(run), reasons, parent, allow)
    named = str(served) if served else None
    report.set(gate={"is_passed": not reasons, "reasons": reasons, "served": named})
    told = f"The gate is shut: {'; '.join(reasons)}." if reasons else "The gate is open."
    report.say(told)


def keep_memory(
    data: GrowingData, replay: float, run: Path, start: WarmStart | None, report: Report
) -> None:
    """Store a replay memory of the training images with the run, and report it."""
    size = store_memory(data, replay, run, before=start.remembered if start else None)
    report.set(memory={"num_images": size, "folder": str(run / MEMORY)})
    report.say(f"A memory of {size} training images is kept.")

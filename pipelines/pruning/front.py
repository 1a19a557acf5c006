"""A front: one network pruned to several targets, each from the last, in one run."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Literal, ParamSpec

from torch.utils.tensorboard import SummaryWriter

from regrow.data.config import data_beside
from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash, read_json, write_json
from regrow.logs import log
from regrow.pipelines.pruning.inputs import PROGRESS, refuse_other_settings
from regrow.pipelines.pruning.job import PRUNED
from regrow.pipelines.pruning.report import decided_in_a_word
from regrow.prune.target import Target
from regrow.reporting.charts import Point, scatter
from regrow.reporting.pictures import save_picture
from regrow.reporting.report import Report, ranged, signed
from regrow.reporting.run_folder import open_run, refuse_run, reopen_run
from regrow.reporting.tensorboard import flat
from regrow.text import plural

FRONT = "front.json"  # the settings of a front that goes on, in its folder
CostName = Literal["macs", "params", "latency"]
LABELS: Mapping[CostName, str] = {"macs": "MACs", "params": "parameters", "latency": "latency"}
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Reached:
    """A point of a front: one target, and the run that pruned the network to it.

    Args:
        target: The share that was asked for.
        folder: The folder of its run.
        figures: The figures of its report.
    """

    target: float
    folder: Path
    figures: Mapping[str, Any]

    @property
    def is_reached(self) -> bool:
        """Whether the target was reached within the budget on validation images."""
        return bool(self.figures["stopped"] == "target")

    @property
    def failure(self) -> str | None:
        """Return what failed, in a few words; None if nothing did."""
        if not self.is_reached:
            return "the target was not reached"
        if self.figures["budget"]["is_met"] is False:
            return "the budget is broken"
        if not self.figures.get("onnx", {}).get("is_equal", True):
            return "the ONNX file does not agree"
        if self.int8 is not None and self.int8["is_met"] is False:
            return "the budget is broken by INT8"
        return None

    @property
    def int8(self) -> Mapping[str, Any] | None:
        """Return the figures in INT8, with those of the change from the unpruned network in float.

        None if there is no INT8. Latency is the share of what the unpruned network takes in float.
        """
        found = self.figures.get("int8")
        if found is None:
            return None
        own, unpruned = found["int8"], found["unpruned"]
        return {
            "score": own["score"],
            "bytes": own["bytes"],
            "latency": own["latency_ms"] and own["latency_ms"] / unpruned["latency_ms"],
            "change": own["score"] - unpruned["score"],
            "interval": unpruned["budget"]["interval"],
            "is_met": unpruned["budget"]["is_met"],
        }

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the interval of the change of the score; None if there is none."""
        low, high = self.figures["budget"]["interval"]
        return None if low is None or high is None else (low, high)

    def share(self, cost: str) -> float:
        """Compute the share of a cost of the unpruned network that is left."""
        before, after = (self.figures[side][cost] for side in ("before", "after"))
        return float(after / before)


def draws_front(prune: Callable[P, Report]) -> Callable[P, Report]:
    """Decorator: a pruning run that is given several targets becomes a front of runs."""

    @wraps(prune)
    def pruned(*args: P.args, **kwargs: P.kwargs) -> Report:
        given = signature(prune).bind(*args, **kwargs)
        given.apply_defaults()
        if given.arguments["targets"] is None:
            return prune(*args, **kwargs)
        return run_front(prune, given.arguments)

    return pruned


def run_front(prune: Callable[..., Report], options: Mapping[str, Any]) -> Report:
    """Prune a network to several targets, each from the last, and report all beside each other.

    Args:
        prune: Prunes to one target, called as `regrow.pipelines.run_pruning` is.
        options: All its arguments by name.

    Returns:
        The report of the front, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If a target was not reached, or a budget is broken; all files are written.
    """
    started = time.monotonic()
    shares, run, line = options["targets"], options["run"], options["command_line"]
    _refuse_targets(options)
    checkpoint = options["checkpoint"]
    reference = options["reference"] or checkpoint
    settings = _settings(options)
    if options["resume"]:
        reopen_run(run, line)
        _refuse_changes(run, settings)
    else:
        refuse_run(run, checkpoint, options["reference"])

    def begin() -> None:
        if not options["resume"]:
            open_run(run, line)
            write_json(run / FRONT, settings)

    common = {**options, "data": options["data"] or data_beside(checkpoint), "reference": reference}
    points: list[Reached] = []
    for place, share in enumerate(shares):
        folder = run / f"{share:g}"
        goes_on = options["resume"] or place > 0  # else the folder is an earlier run's
        if not (goes_on and _is_done(folder)):
            log.info(f"target {share:g} of the {LABELS[options['targets_of']]}, in {folder}")
            own = {
                "checkpoint": checkpoint,
                "target": Target(**{options["targets_of"]: share}),
                "run": folder,
                "resume": goes_on and (folder / PROGRESS).is_file(),
                "begin": begin if place == 0 else None,
            }
            try:
                prune(**{**common, **own})
            except CheckFailed as error:
                log.warning(f"target {share:g}: {error}")
        points.append(Reached(share, folder, read_json(folder / "report.json")))
        if not points[-1].is_reached:
            break
        checkpoint = folder / PRUNED
    report = _report(points, options, started)
    (run / FRONT).unlink(missing_ok=True)  # until here a run that is killed goes on
    failed = [f"{point.target:g}: {point.failure}" for point in points if point.failure]
    if failed:
        raise CheckFailed(f"of the targets, {'; '.join(failed)}; see {run / 'report.md'}")
    return report


def _refuse_targets(options: Mapping[str, Any]) -> None:
    shares, told = options["targets"], f"targets are {options['targets']}"
    if len(shares) < 2:
        raise BadInput(f"{told}; give at least two, or one as target.{options['targets_of']}")
    if not all(0 < share <= 1 for share in shares):
        raise BadInput(f"{told}; each is a share to keep, and must lie in (0, 1]")
    if any(after >= before for before, after in zip(shares, shares[1:], strict=False)):
        raise BadInput(f"{told}; each continues from the last, so each must be smaller than it")
    if len({f"{share:g}" for share in shares}) < len(shares):
        raise BadInput(f"{told}; two are the same to six digits")
    if options["target"] != Target():
        raise BadInput("target has no say beside targets; give one of them")
    if options["weights"] is not None:
        raise BadInput("targets are of channels, and weights masks single weights; give one")


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resumed front must repeat: its settings, its targets, and its networks."""
    files = [path for path in (options["checkpoint"], options["reference"]) if path is not None]
    given = flat(options["settings"]) if options["settings"] else {}
    own = {"targets": list(options["targets"]), "targets_of": options["targets_of"]}
    return given | own | {"parents": [file_hash(path) for path in files]}


def _refuse_changes(run: Path, settings: Mapping[str, Any]) -> None:
    if not (run / FRONT).is_file():
        raise BadInput(f"{run} has no run with targets that was stopped; start it without --resume")
    began = read_json(run / FRONT)
    if not isinstance(began, dict):
        raise BadInput(f"{run / FRONT} holds no settings; start the run without --resume")
    refuse_other_settings(began, settings)


def _is_done(folder: Path) -> bool:
    files = (folder / "report.json", folder / PRUNED)
    return all(file.is_file() for file in files) and not (folder / PROGRESS).exists()


def _report(points: Sequence[Reached], options: Mapping[str, Any], started: float) -> Report:
    """Write the report of a front: each point's score against its costs, in tables and charts."""
    last, run = points[-1].figures, options["run"]
    report = Report(
        run,
        title="Pruning to several targets",
        command=options["command_line"],
        task=last["task"],
        classes=last["classes"],
    )
    name, unpruned = last["score"]["name"], last["before"]["score"]
    # Each was timed beside the unpruned network; what that takes is known best from all of them.
    took = statistics.median(point.figures["before"]["latency_ms"] for point in points)
    rows = [_row(point, took) for point in points]
    report.set_score(name, last["score"]["value"], images="test")
    report.set(
        parent=points[0].figures["parent"],
        data=last["data"],
        targets=options["targets"],
        targets_of=options["targets_of"],
        runtime=last["runtime"],
        before={**last["before"], "latency_ms": took},
        points=[_figures(point, took) for point in points],
        seconds=round(time.monotonic() - started, 1),
        seeds=[options["seed"]],
        device=last["device"],
    )
    report.say(_in_words(points, options, name, unpruned))
    report.add_table(
        "Front",
        ["target", "MACs", "parameters", "latency, ms", name, "change", "interval", "budget"],
        [
            ["unpruned", last["before"]["macs"], last["before"]["params"], took, unpruned,
             "-", "-", "-"],
            *rows,
        ],
        f"Targets are shares of the {LABELS[options['targets_of']]}. The interval is that of the "
        "change, in points, as the budget is decided by. Latency is the measured share "
        f"({last['runtime']}) of what the unpruned network takes. Each point is a run of its own, "
        f"with {PRUNED} and a report, in a folder named by its target: "
        f"{', '.join(point.folder.name for point in points)}.",
    )  # fmt: skip
    _add_int8(report, points, name)
    _add_charts(report, points, took, name)
    report.write()
    return report


def _row(point: Reached, took: float) -> list[Any]:
    after, budget = point.figures["after"], point.figures["budget"]
    change = after["score"] - point.figures["before"]["score"]
    return [
        f"{point.target:g}" if point.is_reached else f"{point.target:g} (not reached)",
        after["macs"],
        after["params"],
        took * point.share("latency_ms"),
        after["score"],
        signed(change),
        ranged(point.interval),
        decided_in_a_word(budget["is_met"]),
    ]


def _add_int8(report: Report, points: Sequence[Reached], name: str) -> None:
    """Report the points in INT8, if that was asked for."""
    rows = [
        [
            f"{point.target:g}",
            own["score"],
            signed(own["change"]),
            ranged(own["interval"]),
            decided_in_a_word(own["is_met"]),
            own["bytes"],
            own["latency"],
        ]
        for point in points
        if (own := point.int8) is not None
    ]
    if not rows:
        return
    report.add_table(
        "INT8",
        ["target", name, "change", "interval", "budget", "file size, bytes", "latency"],
        rows,
        "Scores and files are those of the points in INT8; the change, its interval in points and "
        "the budget are those from the unpruned network in float. Latency is the share of what "
        "that network takes.",
    )


def _figures(point: Reached, took: float) -> dict[str, Any]:
    after, budget = point.figures["after"], point.figures["budget"]
    return {
        "target": point.target,
        "folder": point.folder.name,
        "stopped": point.figures["stopped"],
        "is_met": budget["is_met"],
        "interval": budget["interval"],
        **after,
        "latency_ms": took * point.share("latency_ms"),
        "int8": point.int8,
    }


def _in_words(
    points: Sequence[Reached], options: Mapping[str, Any], name: str, unpruned: float
) -> str:
    reached = [point for point in points if point.is_reached]
    words = f"{len(reached)} of {plural(len(options['targets']), 'target')} were reached. "
    for point in points:
        words += (
            f"At {point.target:g} the network takes {100 * point.share('macs'):.1f} % of the MACs "
            f"and {100 * point.share('latency_ms'):.0f} % of the time, and {name} is "
            f"{point.figures['after']['score']:.4f} where it was {unpruned:.4f}. "
        )
    left = options["targets"][len(points) :]
    if left:
        told = ", ".join(f"{share:g}" for share in left)
        words += f"Not tried, since the one before was not reached: {told}. "
    return words + (
        "All points are judged on the same test images, and each verdict is one of its own point "
        "alone: who picks the best of several has looked at these images as often, so that the "
        "one picked may look better than it is."
    )


def _add_charts(report: Report, points: Sequence[Reached], took: float, name: str) -> None:
    before = points[-1].figures["before"]
    unit, runtime = "latency, ms", points[-1].figures["runtime"]
    costs = {
        "latency": (f"{unit} ({runtime})", took, [took * p.share("latency_ms") for p in points]),
        "macs": ("million MACs", before["macs"] / 1e6, [p.figures["after"]["macs"] / 1e6
                                                       for p in points]),
    }  # fmt: skip
    with SummaryWriter(str(report.run / "tensorboard")) as writer:
        for cost, (across, whole, left) in costs.items():
            score = before["score"]
            marks = [Point("unpruned", whole, score, score, score)]
            for point, x in zip(points, left, strict=True):
                y = point.figures["after"]["score"]
                low, high = point.interval or (y - score, y - score)
                ends = (min(max(score + change, 0.0), 1.0) for change in (low, high))
                marks.append(Point(f"target {point.target:g}", x, y, *ends))
            picture, file = scatter(marks, across, f"test {name}"), report.run / f"{cost}.png"
            save_picture(file, picture)
            writer.add_image(f"front/{cost}", picture)
            report.add_picture(
                file,
                f"Score on test images against {across}; bars are the interval of the change from "
                "the unpruned network",
            )

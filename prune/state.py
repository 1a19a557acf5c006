"""The state of a pruning run after a step, as one checkpoint from which it can be resumed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from regrow.errors import BadInput
from regrow.models.checkpoint import load, read, save
from regrow.models.task import Task
from regrow.plain import MISSHAPEN
from regrow.prune.removal import Cut
from regrow.prune.schedule import LARGEST_STEP, Pace

KEY = "pruning"
TRIAL = "trial.ckpt"  # beside the progress of a run: the cut network whose training has begun
Stop = Literal["target", "budget", "exhausted"]
UNREADABLE = (RuntimeError, *MISSHAPEN)  # the former of a tensor where a number is meant


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pruning run.

    Args:
        index: The number of the step, from 1; 0 is the network as given.
        macs: Multiply-accumulates of one image after it.
        params: Parameters after it.
        masked: The share of these that is masked.
        latency: The share of the unpruned network's time that is left, if it was measured.
        score: The score on validation images after recovery.
        is_kept: Whether the step stayed inside the budget on validation images.
        removed: Output channels that left each layer, in the numbering before the step.
        widths: Output channels of every layer after it.
        error: Largest difference of the cut from the masked network, over the largest output.
        is_final: Whether nothing was removed: the training after the last removal.
    """

    index: int
    macs: int
    params: int
    masked: float
    latency: float | None
    score: float
    is_kept: bool
    removed: dict[str, list[int]]
    widths: dict[str, int]
    error: float
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """A cut network that is being trained, before it counts as a step.

    Args:
        index: The number of the step that it may become.
        task: The cut network before its training, with its momenta.
        cut: The record of what was removed.
    """

    index: int
    task: Task
    cut: Cut


@dataclass(slots=True)
class Progress:
    """The progress of a pruning run.

    Args:
        task: The network as it was last accepted, with its momenta.
        baseline: The score of the reference on validation images.
        pace: Its progress, and the size of its next step.
        steps: All steps in order, also those that were rolled back.
        cuts: The records of what the accepted ones removed.
        refused: Layers that turned out on the way to be left whole, with the reason.
        stopped: Why it ended; None while it goes on.
        is_finished: Whether the training after the last step is done too.
        importance: The scores of all units at the start, by their group's layer.
        sensitivity: What the loss gains when a quarter of one layer is removed, by its group's
            layer.
        attempt: The cut whose network is being trained; None between steps.
        search: What the width search of the step that goes on has found; None where there is none.
    """

    task: Task
    baseline: float
    pace: Pace
    steps: list[Step] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: Stop | None = None
    is_finished: bool = False
    importance: dict[str, list[float]] = field(default_factory=dict)
    sensitivity: dict[str, float] = field(default_factory=dict)
    attempt: Attempt | None = None
    search: dict[str, Any] | None = None

    def kept_units(self) -> dict[str, list[int]]:
        """Return the units of each group that are left, in the numbering at the start."""
        kept = {layer: list(range(len(scores))) for layer, scores in self.importance.items()}
        for cut in self.cuts:
            for layer, units in cut.units.items():
                gone = set(units)
                rest = enumerate(kept.get(layer, []))
                kept[layer] = [unit for place, unit in rest if place not in gone]
        return kept


def save_progress(path: Path, progress: Progress, settings: Mapping[str, Any]) -> None:
    """Write a run's progress, atomically; the network of an attempt goes into a file beside it.

    Args:
        path: The file, a checkpoint of the network that can also be used by itself.
        progress: Where the run stands.
        settings: The settings of the run as plain data, which a resumed run must repeat.
    """
    plain = {
        "baseline": progress.baseline,
        "pace": asdict(progress.pace),
        "steps": [asdict(step) for step in progress.steps],
        "cuts": [_cut_to_plain(cut) for cut in progress.cuts],
        "refused": progress.refused,
        "stopped": progress.stopped,
        "is_finished": progress.is_finished,
        "importance": progress.importance,
        "sensitivity": progress.sensitivity,
        "search": progress.search,
        "momenta": progress.task.momenta,
        "settings": dict(settings),
    }
    save(path, progress.task, {KEY: plain})
    if progress.attempt is not None:
        attempt = progress.attempt
        own = {
            "index": attempt.index,
            "cut": _cut_to_plain(attempt.cut),
            "latency": attempt.cut.latency,
            "momenta": attempt.task.momenta,
        }
        save(path.with_name(TRIAL), attempt.task, {KEY: own})


def load_progress(path: Path, allow: tuple[str, ...] = ()) -> tuple[Progress, dict[str, Any]]:
    """Read a run's progress from its file.

    Args:
        path: The file that `save_progress` wrote.
        allow: Other people's packages that its network may come from.

    Returns:
        The progress, its network on the CPU, and the settings of the run.

    Raises:
        BadInput: If the file cannot be used.
    """
    plain = read(path).get(KEY)
    if not isinstance(plain, dict):
        raise BadInput(f"{path}: no state of a pruning run; start it without --resume")
    task = load(path, allow=allow)
    try:
        task.momenta = _momenta(task, plain["momenta"])
        steps = [Step(**step) for step in plain["steps"]]
        kept = [step for step in steps if step.is_kept and not step.is_final]
        progress = Progress(
            task=task,
            baseline=plain["baseline"],
            pace=Pace(**plain["pace"]),
            steps=steps,
            cuts=[
                _cut_from_plain(cut, step.latency)
                for cut, step in zip(plain["cuts"], kept, strict=True)
            ],
            refused=plain["refused"],
            stopped=plain["stopped"],
            is_finished=plain["is_finished"],
            importance=plain["importance"],
            sensitivity=plain["sensitivity"],
            search=plain.get("search"),
        )
        settings = dict(plain["settings"])
        _refuse_types(progress)
    except UNREADABLE as error:
        raise BadInput(
            f"{path}: its pruning record cannot be read ({error!r}); start the run without --resume"
        ) from error
    progress.attempt = _load_attempt(path.with_name(TRIAL), len(progress.steps) + 1, allow)
    return progress, settings


def _load_attempt(path: Path, index: int, allow: tuple[str, ...]) -> Attempt | None:
    """Read the attempt at the next step; None if there is none, or a step that is done."""
    if not path.is_file():
        return None
    plain = read(path).get(KEY)
    if not isinstance(plain, dict) or plain.get("index") != index:
        return None
    task = load(path, allow=allow)
    try:
        task.momenta = _momenta(task, plain["momenta"])
        return Attempt(index, task, _cut_from_plain(plain["cut"], plain["latency"]))
    except UNREADABLE as error:
        raise BadInput(
            f"{path}: its pruning record cannot be read ({error!r}); remove it, and the step is "
            "cut and trained again"
        ) from error


def _refuse_types(progress: Progress) -> None:
    """Refuse values of other types than a run has, which a file may hold.

    Raises:
        ValueError: Naming the value.
    """
    pace = progress.pace
    if not isinstance(progress.search, dict | None):
        raise ValueError("a search that is none")
    parts = (pace.first, pace.done, pace.size / LARGEST_STEP)
    if not all(_is_share(part) for part in parts) or not pace.first:
        raise ValueError(f"a pace of {pace}")
    if type(progress.baseline) not in (int, float):
        raise ValueError("a baseline that is no number")
    if progress.stopped not in (None, *get_args(Stop)) or type(progress.is_finished) is not bool:
        raise ValueError("an end that is none")
    for place, step in enumerate(progress.steps, 1):
        counts = [step.index, step.macs, step.params, *step.widths.values()]
        shares = [step.masked, step.score, step.error]
        if not all(type(n) is int and n >= 0 for n in counts):
            raise ValueError(f"step {place} with counts that are none")
        if not all(type(n) in (int, float) for n in shares) or type(step.is_kept) is not bool:
            raise ValueError(f"step {place} with scores that are no numbers")
        if step.latency is not None and type(step.latency) not in (int, float):
            raise ValueError(f"step {place} with a latency that is no number")
    texts = [*progress.refused, *progress.refused.values(), *progress.sensitivity]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("layers with names that are no text")
    scores = [n for values in progress.importance.values() for n in values]
    if not all(type(n) in (int, float) for n in [*scores, *progress.sensitivity.values()]):
        raise ValueError("importance that is no number")


def _momenta(task: Task, momenta: Any) -> dict[str, dict[str, Any]]:
    """Return what an optimizer remembered of the weights of a network, if it can have.

    Raises:
        ValueError: If it cannot.
    """
    shapes = {name: weight.shape for name, weight in task.net.named_parameters()}
    for name, values in momenta.items():
        for value in values.values():
            is_like = value is None or type(value) in (int, float)
            if isinstance(value, Tensor):
                is_like = value.ndim == 0 or value.shape == shapes.get(name)
            if not is_like:
                raise ValueError(f"momenta that do not fit {name!r}")
    checked: dict[str, dict[str, Any]] = momenta
    return checked


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _cut_to_plain(cut: Cut) -> dict[str, Any]:
    removed = [[layer, side, channels] for (layer, side), channels in cut.removed.items()]
    return {
        "removed": removed,
        "units": cut.units,
        "error": cut.error,
        "num_masked": cut.num_masked,
    }


def _cut_from_plain(plain: Mapping[str, Any], latency: float | None) -> Cut:
    removed = {(layer, side): channels for layer, side, channels in plain["removed"]}
    cut = Cut(
        removed,
        dict(plain["units"]),
        float(plain["error"]),
        plain["num_masked"],
        None if latency is None else float(latency),
    )
    units = [unit for channels in cut.units.values() for unit in channels]
    if not all(type(unit) is int for unit in units) or type(cut.num_masked) is not int:
        raise ValueError("a cut of what are no units")
    return cut

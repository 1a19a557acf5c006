"""Where a pruning run stands after a step: all that it takes to go on, as one checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from regrow.data.errors import BadInput
from regrow.models.checkpoint import load, read, save
from regrow.models.task import Task
from regrow.prune.removal import Cut
from regrow.prune.schedule import Pace

KEY = "pruning"
TRIAL = "trial.ckpt"  # beside the progress of a run: the cut network whose training has begun
Stop = Literal["target", "budget", "exhausted"]


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
class Trial:
    """A cut that is not yet a step: the network is being trained.

    Args:
        index: The number of the step that it may become.
        task: The cut network before its training, with its momenta.
        cut: What was removed.
        latency: The share of the unpruned network's time that is left, as it was measured last.
    """

    index: int
    task: Task
    cut: Cut
    latency: float


@dataclass(slots=True)
class Progress:
    """What a pruning run has done.

    Args:
        task: The network as it was last accepted, with its momenta.
        baseline: The score of the reference on validation images.
        pace: How far it has come.
        steps: All steps in order, also those that were rolled back.
        cuts: What the accepted ones removed.
        refused: Layers that turned out on the way to be left whole, with the reason.
        stopped: Why it ended; None while it goes on.
        is_finished: Whether the training after the last step is done too.
        importance: The scores of all units at the start, by their group's layer.
        sensitivity: What the loss gains when a quarter of one layer is removed, by its group's
            layer.
        trial: The cut whose network is being trained; None between steps.
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
    trial: Trial | None = None

    def kept_units(self) -> dict[str, list[int]]:
        """Give the units of each group that are left, in the numbering at the start."""
        kept = {layer: list(range(len(scores))) for layer, scores in self.importance.items()}
        for cut in self.cuts:
            for layer, units in cut.units.items():
                gone = set(units)
                rest = enumerate(kept.get(layer, []))
                kept[layer] = [unit for place, unit in rest if place not in gone]
        return kept


def save_progress(path: Path, progress: Progress, settings: Mapping[str, Any]) -> None:
    """Write a run's progress, atomically; the network of a trial goes into a file beside it.

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
        "momenta": progress.task.momenta,
        "settings": dict(settings),
    }
    save(path, progress.task, {KEY: plain})
    if progress.trial is not None:
        trial = progress.trial
        own = {
            "index": trial.index,
            "cut": _cut_to_plain(trial.cut),
            "latency": trial.latency,
            "momenta": trial.task.momenta,
        }
        save(path.with_name(TRIAL), trial.task, {KEY: own})


def load_progress(path: Path, allow: tuple[str, ...] = ()) -> tuple[Progress, dict[str, Any]]:
    """Read a run's progress.

    Args:
        path: What `save_progress` wrote.
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
        task.momenta = plain["momenta"]
        progress = Progress(
            task=task,
            baseline=plain["baseline"],
            pace=Pace(**plain["pace"]),
            steps=[Step(**step) for step in plain["steps"]],
            cuts=[_cut_from_plain(cut) for cut in plain["cuts"]],
            refused=plain["refused"],
            stopped=plain["stopped"],
            is_finished=plain["is_finished"],
            importance=plain["importance"],
            sensitivity=plain["sensitivity"],
        )
        settings = dict(plain["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: its pruning record cannot be read ({error!r}); start the run without --resume"
        ) from error
    progress.trial = _load_trial(path.with_name(TRIAL), len(progress.steps) + 1, allow)
    return progress, settings


def _load_trial(path: Path, index: int, allow: tuple[str, ...]) -> Trial | None:
    """Read the trial of the next step; None if there is none, or one of a step that is done."""
    if not path.is_file():
        return None
    plain = read(path).get(KEY)
    if not isinstance(plain, dict) or plain.get("index") != index:
        return None
    task = load(path, allow=allow)
    try:
        task.momenta = plain["momenta"]
        return Trial(index, task, _cut_from_plain(plain["cut"]), float(plain["latency"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: its pruning record cannot be read ({error!r}); remove it, and the step is "
            "cut and trained again"
        ) from error


def _cut_to_plain(cut: Cut) -> dict[str, Any]:
    removed = [[layer, side, channels] for (layer, side), channels in cut.removed.items()]
    return {
        "removed": removed,
        "units": cut.units,
        "error": cut.error,
        "num_masked": cut.num_masked,
    }


def _cut_from_plain(plain: Mapping[str, Any]) -> Cut:
    removed = {(layer, side): channels for layer, side, channels in plain["removed"]}
    return Cut(removed, plain["units"], plain["error"], plain["num_masked"])

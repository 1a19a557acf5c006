"""A grid of learning rates: each trains a copy of a cut network, and the best copy is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from pathlib import Path

from regrow.errors import BadInput
from regrow.files import read_json, write_json
from regrow.limits import NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.models.task import Task
from regrow.prune.channels.surgery import clone
from regrow.reporting.report import Report
from regrow.training.trainer import Diverged

TRIED = "rates.json"  # in the run's folder until the report is written

# Trains a network in place at a rate, and keeps the state of that in a folder of this name.
TrainAt = Callable[[Task, float, str], None]


@dataclass(frozen=True, slots=True)
class RateGrid:
    """The learning rates that each fine-tuning tries, and the file of what they scored.

    Args:
        rates: The rates, each > 0.
        run: The run's folder.

    Raises:
        BadInput: If a rate is out of range or given twice, or there is none.
    """

    rates: Sequence[float]
    run: Path

    def __post_init__(self) -> None:
        """Refuse rates that cannot be."""
        if not self.rates or not all(0 < rate < inf for rate in self.rates):
            raise BadInput(f"lr_grid is {[*self.rates]}; give learning rates, each > 0, or null")
        if len({*self.rates}) < len(self.rates):
            raise BadInput(f"lr_grid is {[*self.rates]}: a rate is given twice; leave one out")
        refuse_beyond(NUM_RUNS, lr_grid=len(self.rates))

    def train_(
        self, task: Task, index: int, train: TrainAt, score: Callable[[Task], float]
    ) -> None:
        """Train a network in place at the rate that scores best; of equal ones the first counts.

        Args:
            task: The cut network; it ends with weights and momenta of its best copy.
            index: The number of the step.
            train: Trains a copy.
            score: Scores a network on validation images.

        Raises:
            BadInput: If training diverges at each rate.
        """
        scores: dict[float, float] = {}
        best: tuple[float, Task] | None = None
        for rate in self.rates:
            trial = clone(task)
            try:
                train(trial, rate, repr(rate))
                scores[rate] = score(trial)
            except Diverged:
                scores[rate] = nan
            log.info(f"step {index}: {_in_words(rate, scores[rate])}")
            is_best = best is None or scores[rate] > scores[best[0]]
            if is_best and not isnan(scores[rate]):
                best = rate, trial
        if best is None:
            raise BadInput(f"lr_grid: training diverges at each of {[*scores]}; give lower rates")
        task.net, task.momenta = best[1].net, best[1].momenta
        write_json(self.run / TRIED, self._tried() | {str(index): [*scores.items()]})

    def add_to(self, report: Report) -> None:
        """Add to a report what each fine-tuning scored at each rate."""
        tried = self._tried()
        steps = [
            {"step": int(index), "scores": [{"lr": lr, "score": s} for lr, s in scores]}
            for index, scores in tried.items()
        ]
        report.set(rates=steps)
        rows = [[index, lr, s] for index, scores in tried.items() for lr, s in scores]
        report.add_table(
            "Learning rates",
            ["step", "learning rate", "validation score"],
            rows,
            "Each fine-tuning was done at each of these rates from the same cut network; the best "
            "copy was kept.",
        )

    def _tried(self) -> dict[str, list[tuple[float, float]]]:
        """Return the scores of the rates of each step so far, those of before a stop included."""
        path = self.run / TRIED
        tried: dict[str, list[tuple[float, float]]] = read_json(path) if path.is_file() else {}
        return tried


def _in_words(rate: float, score: float) -> str:
    fate = "it diverged" if isnan(score) else f"validation score {score:.4f}"
    return f"trained at a learning rate of {rate:g}, {fate}"

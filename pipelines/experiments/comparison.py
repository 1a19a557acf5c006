"""The frame of every comparison: its folder, its settings, its report, and how it is resumed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import read_json, write_json, write_text
from regrow.limits import NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.models.task import Task
from regrow.reporting.charts import Point, scatter
from regrow.reporting.pictures import save_picture
from regrow.reporting.report import Report, device_name
from regrow.reporting.run_folder import MARK, open_run, refuse_run, reopen_run
from regrow.reporting.tensorboard import flat
from regrow.training.resume import refuse_changes

SETTINGS = "settings.json"


# Settings that a resumed run may change: none of them affects the results that are there.
FREE = {"run", "resume", "num_seeds", "data.root", "data.num_workers", "data.cache_bytes"}


@dataclass(frozen=True, slots=True)
class Chart:
    """The picture of a comparison, score against something that it cost.

    Args:
        name: The name of its file, without `.png`.
        tag: The group of its picture in TensorBoard.
        across: What the horizontal axis shows.
        caption: The words below it.
        points: One a candidate.
    """

    name: str
    tag: str
    across: str
    caption: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison from its folder to its report: `check`, `begin`, `new_report`, `finish`.

    Args:
        run: The run's folder; one that exists is moved aside, unless it is resumed.
        resume: Whether to go on with the run in that folder.
        num_seeds: Number of seeds; they count from 0.
        settings: The settings of the run as plain data.
        command_line: The command, for the report.
        started: When it began, by the monotonic clock.
    """

    run: Path
    resume: bool
    num_seeds: int
    settings: dict[str, Any] | None = None
    command_line: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def seeds(self) -> list[int]:
        """Return the seeds."""
        return list(range(self.num_seeds))

    def check(self) -> None:
        """Refuse a folder or a number of seeds that cannot be, before anything is made.

        Raises:
            BadInput: If there is no seed, there are too many, or the folder cannot be used.
        """
        if self.num_seeds < 1:
            raise BadInput(f"num_seeds is {self.num_seeds}, it must be at least 1")
        refuse_beyond(NUM_RUNS, num_seeds=self.num_seeds)
        if self.resume:
            reopen_run(self.run, self.command_line)
        else:
            refuse_run(self.run)

    def begin(self, **images: str) -> None:
        """Open the folder: a new one, or one to go on with by the same settings.

        Args:
            images: Hashes of the data, which a resumed comparison must repeat too.

        Raises:
            BadInput: If there is nothing to resume, or it began with other settings.
        """
        values = (flat(self.settings) if self.settings else {}) | images
        file = self.run / SETTINGS
        if self.resume and not file.is_file():
            raise BadInput(f"{self.run} has no comparison to resume; start it without --resume")
        if self.resume:
            refuse_changes(read_json(file), values, FREE)
            write_text(self.run / MARK, f"{self.command_line}\n")
            return
        open_run(self.run, self.command_line)
        write_json(file, values)

    def new_report(
        self,
        title: str,
        task: Task,
        data: GrowingData,
        device: torch.device,
        changes: str | None = None,
    ) -> Report:
        """Return a report that says what was compared, and on what.

        Args:
            title: The heading of the page.
            task: The task that was trained.
            data: The data.
            device: The device that trained.
            changes: How the data differs from earlier data.
        """
        report = Report.of(task, self.run, title, self.command_line)
        report.set(
            data={"hash": data.snapshot.hash, "diff": changes, "remarks": data.remarks.to_dict()},
            seconds=round(time.monotonic() - self.started, 1),
            seeds=self.seeds,
            device=device_name(device),
        )
        return report

    def finish(
        self, report: Report, chart: Chart, scores: Mapping[str, Mapping[str, Sequence[float]]]
    ) -> None:
        """Add the picture, show all in TensorBoard, and write the report.

        Args:
            report: The report, filled.
            chart: The picture.
            scores: By group and candidate: one value a seed.
        """
        picture, file = scatter(chart.points, chart.across, "test score"), f"{chart.name}.png"
        save_picture(self.run / file, picture)
        report.add_picture(self.run / file, chart.caption)
        with SummaryWriter(str(self.run / "tensorboard")) as writer:
            for group, by_name in scores.items():
                for name, values in by_name.items():
                    for seed, value in zip(self.seeds, values, strict=True):
                        writer.add_scalar(f"{group}/{name}", value, seed)
            writer.add_image(f"{chart.tag}/{chart.name}", picture)
        report.write()
        log.info(f"report: {self.run / 'report.md'}")

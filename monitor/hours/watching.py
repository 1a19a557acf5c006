"""The run of a monitor: every closed hour whose captures or labels are new is judged, in order."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.files import (
    LARGE,
    file_hash,
    name_below,
    read_json,
    whole_folder,
    write_json,
    write_text,
)
from regrow.logs import log
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.judging import BiasRules
from regrow.monitor.bias.measuring import SMALLEST
from regrow.monitor.bias.observations import Observations
from regrow.monitor.bias.observing import LabelObserver
from regrow.monitor.examples import to_text
from regrow.monitor.files.analysis import write_analysis
from regrow.monitor.files.captures import Event, capture_files, read_events
from regrow.monitor.files.cloudwatch import hour_metrics, write_metrics
from regrow.monitor.files.constraints import CONSTRAINTS, Constraints
from regrow.monitor.files.ground_truth import labelled_hour
from regrow.monitor.files.index import CaptureIndex
from regrow.monitor.files.statistics import STATISTICS, statistics
from regrow.monitor.files.times import EARLIEST, HOUR, as_text, hour_of, parse_time
from regrow.monitor.files.violations import write_clarify_violations, write_violations
from regrow.monitor.hours.collecting import Blocks, HourCollector, counts_of
from regrow.monitor.hours.folders import (
    EXAMPLES,
    LABELLED,
    PAGE,
    REPORT,
    SUMMARY,
    done_hours,
    hour_folder,
    read_labelled,
    read_report,
)
from regrow.monitor.hours.judging import Judgement, judge, judge_facets, judge_loss, note_alarms_
from regrow.monitor.hours.labelling import Labelled, bet_, gather, join
from regrow.monitor.hours.state import STATE, State
from regrow.monitor.hours.telling import log_reports, remark_labels
from regrow.monitor.network.probe import Probe, open_probe
from regrow.monitor.network.served import Network
from regrow.monitor.page import page
from regrow.plain import MISSHAPEN

INDEX, LABELS = "captures.json", "labels.json"
LOOK_BACK = timedelta(days=7)  # within which hours are judged again, and labels find their pictures
TOO_LATE = "events that came more than a week late, left out"
FUTURE = "events from later than now, left out until then"
BACKWARDS = "files in which the clock goes back"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is told.

    Args:
        now: The time that it is taken to be; hours that have ended by then are closed.
        false_alarms: How often a false alarm is accepted.
        blocks: Which pictures depend on each other.
        endpoint: The name of the endpoint in CloudWatch metrics.
        schedule: The name of the monitoring schedule there.
        facets: The facets by which pictures are compared; None takes all that they have.
        smallest_group: The pictures below which a value of a facet has no metric.
        num_embedded: How many pictures of an hour are embedded at most.
        num_explained: How many have their attributions computed at most.
        since: Hours that have ended by then are left out.
    """

    now: datetime
    false_alarms: FalseAlarms
    blocks: Blocks = field(default_factory=Blocks)
    endpoint: str = "regrow"
    schedule: str = "hourly"
    facets: tuple[str, ...] | None = None
    smallest_group: int = SMALLEST
    num_embedded: int = 200
    num_explained: int = 50
    since: datetime = EARLIEST


class Watch:
    """A monitor and its inputs.

    Args:
        folder: The monitor's folder, with its baseline.
        captures: The folder of the captures.
        ground_truth: The folder of the labels, if there is one.
        settings: What the run is told.
        open_network: Opens the network that the baseline keeps; None does not run it.

    Raises:
        BadInput: If the baseline, the constraints or a folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        captures: Path,
        ground_truth: Path | None,
        settings: Settings,
        open_network: Callable[[Path], Network] | None = None,
    ) -> None:
        self._open_network = open_network
        self.folder, self.captures, self.ground_truth = folder, captures, ground_truth
        self.settings = settings
        self.baseline = Baseline.read(folder)
        self.constraints = Constraints.read(folder / CONSTRAINTS)
        kind, classes = self.baseline.kind, self.baseline.classes
        self.bias = BiasRules.read(folder, kind, classes, settings.facets, settings.smallest_group)
        self.decoding = Decoding(grey_range=self.baseline.grey_range)
        self.remarks = Remarks()
        self.index = CaptureIndex.read(captures, folder / INDEX, self.remarks)
        self.done = done_hours(folder)
        self.labels = self._label_files()

    def run(self) -> list[dict[str, Any]]:
        """Judge what is new; return the reports of the hours judged, earliest first.

        Raises:
            BadInput: If the captures are of another model.
        """
        made = []
        if self.labels:
            self._keep_labels()
        try:
            for hour in self._to_do():
                made.append(self._judge(hour))
                self.done = sorted({*self.done, hour})
        except BadInput:  # the hours before are judged all the same
            log_reports(made)
            raise
        self.remarks.warn(str(self.captures))
        return made

    def num_of_open_hours(self) -> int:
        """Return how many captures are of hours that have not ended, which are judged later."""
        hours = (hour for hour in self.index.hours() if not self._is_closed(hour))
        return sum(sum(self.index.of_hour(hour).values()) for hour in hours)

    @cached_property
    def _probe(self) -> Probe | None:
        """Return what runs pictures through the network, opened when an hour is to be judged."""
        if self._open_network is None or self.baseline.network is None:
            return None
        counts = self.settings.num_embedded, self.settings.num_explained
        return open_probe(self.folder, self._open_network, self.baseline.network, *counts)

    def _label_files(self) -> dict[datetime, dict[str, str]]:
        """Return the files of labels, and their hashes, by the hour in which they came."""
        found: dict[datetime, dict[str, str]] = {}
        if self.ground_truth is None:
            return found
        known = self._known_labels()
        last = max((own for own in self.index.hours() if self._is_closed(own)), default=None)
        for file in capture_files(self.ground_truth, "name the one that the labels lie in"):
            name, own_hash = name_below(self.ground_truth, file), file_hash(file)
            # A file outside of the folders of an hour came when it was first seen.
            own = labelled_hour(name) or known.get((name, own_hash), last)
            if own is not None:
                found.setdefault(own, {})[name] = own_hash
        return found

    def _known_labels(self) -> dict[tuple[str, str], datetime]:
        """Return when each file of labels was first seen, by its name and hash."""
        file = self.folder / LABELS
        try:
            content = read_json(file, LARGE) if file.is_file() else {}
            return {(name, own): parse_time(came) for name, (own, came) in content.items()}
        except (BadInput, *MISSHAPEN):
            log.warning(f"{file}: damaged; labels outside of the folders of hours count as new")
            return {}

    def _keep_labels(self) -> None:
        """Keep when each file of labels was first seen."""
        pairs = ((name, own, h) for h, files in self.labels.items() for name, own in files.items())
        write_json(self.folder / LABELS, {name: [own, as_text(h)] for name, own, h in pairs})

    def _is_closed(self, hour: datetime) -> bool:
        return hour + HOUR <= self.settings.now

    def _to_do(self) -> list[datetime]:
        """Return the closed hours from the first one on whose inputs are new."""
        hours = self.index.hours()
        later = [hour for hour in hours if not self._is_closed(hour)]
        for hour in (own for own in later if own > hour_of(self.settings.now)):
            self.remarks.add(FUTURE, as_text(hour), sum(self.index.of_hour(hour).values()))
        first = min(hours, default=None)
        came = [h for h in self.labels if first is not None and h >= first]
        closed = sorted({hour for hour in (*hours, *came) if self._is_closed(hour)})
        closed = [hour for hour in closed if hour + HOUR > self.settings.since]
        oldest = self.done[-1] - LOOK_BACK if self.done else EARLIEST
        remark_labels(self.labels, first, oldest, self.settings.now, self.done, self.remarks)
        for hour in (own for own in closed if own < oldest and own not in self.done):
            self.remarks.add(TOO_LATE, as_text(hour), sum(self.index.of_hour(hour).values()))
        recent = [hour for hour in closed if hour >= oldest]
        changed = [hour for hour in recent if self._is_new(hour)]
        return [hour for hour in recent if changed and hour >= changed[0]]

    def _is_new(self, hour: datetime) -> bool:
        if hour not in self.done:
            return True
        return bool(read_report(hour_folder(self.folder, hour))["inputs"] != self._inputs(hour))

    def _inputs(self, hour: datetime) -> dict[str, Any]:
        return {
            "captures": self.index.fingerprint(hour),
            "ground_truth": self.labels.get(hour, {}),
        }

    def _judge(self, hour: datetime) -> dict[str, Any]:
        before = [own for own in self.done if own < hour]
        state, facets = State(self.baseline, self.settings.facets), self.settings.facets
        if before:
            state = State.read(hour_folder(self.folder, before[-1]) / STATE, self.baseline, facets)
        collector, rate = self._collected(hour), self.settings.false_alarms
        found = judge(hour, collector, self.constraints, state, rate, self.bias.num_warnings)
        used = self._used(hour) if hour in self.labels else set()
        labelled, by_facet = self._labelled(hour, used)
        gaps = judge_facets(hour, collector, by_facet, self.bias, state, rate, found)
        if labelled is not None and state.risk is not None:
            counts = {own: sum(self.index.of_hour(own).values()) for own in labelled.hours}
            logs = bet_(labelled, state.risk, used, state.sampled_hours, counts)
            parts = 1 + bool(state.bias.num_gaps("AD"))
            judge_loss(hour, self.baseline, logs, state, rate, found, parts)
        found.alarms += gaps
        missing = _missing_hours(before[-1] if before else None, hour)
        report = self._report(hour, collector, found, labelled, missing)
        note_alarms_(state, found.alarms, hour)
        self._write(hour, report, collector, found, labelled, state)
        return report

    def _collected(self, hour: datetime) -> HourCollector:
        collector = HourCollector(
            self.baseline,
            self.settings.blocks,
            self.decoding,
            self.folder,
            self.bias.subject,
            self._probe,
        )
        for event in self._events(self.index.of_hour(hour), collector.remarks):
            if hour <= event.time < hour + HOUR:
                collector.add(event)
        for name in self.index.of_hour(hour):
            collector.remarks.add(BACKWARDS, name, self.index.files[name].num_backwards > 0)
        is_last = not any(self._is_closed(own) for own in self.index.hours() if own > hour)
        if collector.num_others and not collector.num_events and is_last:
            raise BadInput(
                f"{self.captures}: the {collector.num_others:,} captures from {as_text(hour)} on "
                f"are of the model {collector.other_model[:12]}, the baseline is of "
                f"{self.baseline.model[:12]} ({self.baseline.name}); make a baseline of the model "
                "that is served, in a folder of its own"
            )
        return collector.finish()

    def _events(self, names: Iterable[str], remarks: Remarks) -> Iterator[Event]:
        for name in names:
            yield from read_events(self.captures / name, remarks)

    def _labelled(
        self, hour: datetime, used: Collection[str]
    ) -> tuple[Labelled | None, Observations | None]:
        """Join the labels that came in an hour to the pictures of the week before."""
        files = self.labels.get(hour)
        if not files or self.ground_truth is None:
            return None, None
        remarks, blocks = Remarks(by_name=True), self.settings.blocks
        labels = gather([self.ground_truth / name for name in sorted(files)], remarks)
        closed = [own for own in self.index.hours() if self._is_closed(own)]
        wanted = [own for own in closed if own >= hour - LOOK_BACK]
        names = dict.fromkeys(name for own in wanted for name in self.index.of_hour(own))
        events = self._events(names, Remarks())
        block_of = None if blocks.attribute is None else blocks.of
        observer = LabelObserver(self.bias.subject, self.decoding, block_of, used)
        recent = (own for own in events if own.time >= hour - LOOK_BACK)
        made = join(labels, recent, self.baseline, remarks, observer, block_of)
        return made, observer.observations

    def _used(self, hour: datetime) -> set[str]:
        wanted = [own for own in self.done if hour - 2 * LOOK_BACK <= own < hour]
        files = (hour_folder(self.folder, own) / LABELLED for own in wanted)
        return {name for file in files for name in read_labelled(file)}

    def _report(
        self,
        hour: datetime,
        collector: HourCollector,
        found: Judgement,
        labelled: Labelled | None,
        missing: Mapping[str, Any],
    ) -> dict[str, Any]:
        is_bad = any(alarm["kind"] in ("data", "act") for alarm in found.alarms)
        quality = None
        if labelled is not None:
            counts = (sum(self.index.of_hour(own).values()) for own in labelled.hours)
            quality = labelled.quality.to_dict(sum(counts)) | labelled.counts()
        report = {
            "hour": as_text(hour),
            "until": as_text(hour + HOUR),
            "model": self.baseline.model,
            "name": self.baseline.name,
            "status": "CompletedWithViolations" if is_bad else "Completed",
            "counts": counts_of(collector),
            "alarms": found.alarms,
            "violations": [own.to_dict() for own in found.violations],
            "distances": found.distances,
            "scores": found.scores,
            "level": found.level,
            "loss": found.loss,
            "quality": quality,
            "bias": found.bias,
            "embeddings": collector.findings.embeddings,
            "attribution": collector.findings.attribution,
            "remarks": collector.remarks.to_dict(),
            "label_remarks": {} if labelled is None else labelled.remarks.to_dict(),
            "missing_hours": missing,
            "inputs": self._inputs(hour),
        }
        return report | {"message": message(report)}

    def _write(
        self,
        hour: datetime,
        report: dict[str, Any],
        collector: HourCollector,
        found: Judgement,
        labelled: Labelled | None,
        state: State,
    ) -> None:
        text = page(report, state.history, self.baseline.examples, collector.examples.all())
        with whole_folder(hour_folder(self.folder, hour)) as folder:
            write_json(folder / STATISTICS, statistics(collector.summary), indent=2)
            write_json(folder / SUMMARY, collector.summary.to_dict())
            write_violations(folder, found.violations)
            write_clarify_violations(folder, found.clarify)
            write_analysis(folder, found.analysis)
            write_json(folder / STATE, state.to_dict())
            write_text(folder / EXAMPLES, to_text(collector.examples.all()))
            if labelled is not None:
                write_json(folder / LABELLED, labelled.bet_on())
                block = labelled.quality.statistics()
                span = {"start_time": report["hour"], "end_time": report["until"]}
                about = {"item_count": len(labelled.rows), **span}
                content = {"version": 0.0, "dataset": about, **block}
                write_json(folder / "model_quality_statistics.json", content, indent=2)
            if self.constraints.emits_metrics:
                own = self.settings
                named = {"Endpoint": own.endpoint, "MonitoringSchedule": own.schedule}
                metrics = hour_metrics(report, found.analysis)
                write_metrics(folder, metrics, hour + HOUR, named)
            write_text(folder / PAGE, text)
            write_json(folder / REPORT, report, indent=2)
        write_text(self.folder / PAGE, text)
        write_json(self.folder / REPORT, report, indent=2)


def _missing_hours(before: datetime | None, hour: datetime) -> dict[str, Any]:
    """Return how many hours had no captures since the last one, and the first of them."""
    count = 0 if before is None else int((hour - before) / HOUR) - 1
    if count < 1 or before is None:
        return {"count": 0, "first": None}
    return {"count": count, "first": as_text(before + HOUR)}


def message(report: Mapping[str, Any]) -> str:
    """Return what SageMaker calls the exit message of a run: status and what was found."""
    alarms = report["alarms"]
    kinds = [alarm["kind"] for alarm in alarms]
    hard, warnings = kinds.count("data"), kinds.count("warn")
    parts = [f"{hard} violation{'s' * (hard != 1)}"] if hard else []
    acts = [alarm for alarm in alarms if alarm["kind"] == "act"]
    parts += ["the loss is above its promise"] if any("facet" not in own for own in acts) else []
    parts += ["some pictures are answered worse"] if any("facet" in own for own in acts) else []
    parts += [f"{warnings} warning{'s' * (warnings != 1)}"] if warnings else []
    found = ", ".join(parts) or "nothing has changed"
    count = report["counts"]["num_pictures"]
    return f"{report['status']}: {found} in {count:,} picture{'s' * (count != 1)}"

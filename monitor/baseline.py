"""The baseline: what a model sees and answers on pictures that it was not fitted to, frozen."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.files import LARGE, read_json, write_json, write_text
from regrow.logs import log
from regrow.monitor.alarms.risk import TOLERANCE, Promise, promise
from regrow.monitor.alarms.shift import FEWEST
from regrow.monitor.answers import CLASS, NO_CLASS
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.intervals import num_independent
from regrow.monitor.bias.observing import ReferenceObserver
from regrow.monitor.draws import draws, key_of
from regrow.monitor.examples import Example, Examples
from regrow.monitor.features import LIGHT, PICTURE, Value
from regrow.monitor.files.analysis import ANALYSIS, write_analysis
from regrow.monitor.files.arrays import AGAIN, read_arrays, write_arrays
from regrow.monitor.files.constraints import CONSTRAINTS, Constraints
from regrow.monitor.files.statistics import STATISTICS, statistics
from regrow.monitor.network.reference import ARRAYS, NetworkBuilder, NetworkReference
from regrow.monitor.network.served import NETWORK
from regrow.monitor.rows import row_values
from regrow.monitor.summary import Summary
from regrow.monitor.truths import Truth, loss_of
from regrow.plain import MISSHAPEN
from regrow.text import plural

BASELINE, REFERENCE = "baseline.json", "reference.npz"
FILES = (BASELINE, REFERENCE, STATISTICS, CONSTRAINTS, ANALYSIS, NETWORK, ARRAYS)
VERSION = 1
FEW = 200  # pictures of a reference, below which only large changes show
UNWATCHED = ("blank",)  # checked at once
KINDS = ("labels", "boxes", "masks")
# What every picture and every answer has.
NEEDED = frozenset((*PICTURE, CLASS, "confidence", "boxes")) - {"bytes"}
Predict = Callable[[np.ndarray], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is compared with.

    Args:
        model: The hash of the model's file, which its answers name.
        name: The model's file.
        kind: What it predicts: `labels`, `boxes` or `masks`.
        classes: Its classes.
        split: The split of the reference.
        num_groups: The independent pictures in it: of frames of videos, the videos.
        grey_range: The values of 16-bit grey pictures that become 0 and 255.
        summary: The features of the reference.
        scores: The watched features, ascending, by name.
        promise: The largest loss that is accepted; None where no truth is known.
        examples: A few pictures.
        network: What the served network is compared with; None where it is not kept.
    """

    model: str
    name: str
    kind: str
    classes: tuple[str, ...]
    split: str
    num_groups: int
    grey_range: tuple[int, int] | None
    summary: Summary
    scores: Mapping[str, np.ndarray]
    promise: Promise | None
    examples: tuple[Example, ...]
    network: NetworkReference | None = None

    @property
    def sampled(self) -> Mapping[str, int]:
        """Return the scores that only a sample of pictures has, and their independent values."""
        return {} if self.network is None else self.network.independent

    def num_independent(self, score: str) -> int:
        """Return how many independent values the reference has of a score."""
        return min(self.sampled.get(score, self.num_groups), len(self.scores[score]))

    def write(self, folder: Path) -> None:
        """Write the baseline's files; `baseline.json` comes last and makes it one."""
        named = {f"s{n}": v for n, v in enumerate(self.scores.values())}
        reference_sha256 = write_arrays(folder / REFERENCE, named)
        if self.network is not None:
            write_analysis(folder, self.network.analysis())
        write_json(folder / STATISTICS, statistics(self.summary), indent=2)
        asked = Constraints.suggested(self.summary, NEEDED, {CLASS: [*self.classes, NO_CLASS]})
        write_json(folder / CONSTRAINTS, asked.to_dict(), indent=2)
        about = {
            "version": VERSION,
            "model": self.model,
            "name": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "split": self.split,
            "num_groups": self.num_groups,
            "grey_range": self.grey_range,
            "promise": None if self.promise is None else _promise_dict(self.promise),
            "scores": list(self.scores),
            "reference_sha256": reference_sha256,
            "network": None if self.network is None else self.network.write(folder),
            "summary": self.summary.to_dict(),
            "examples": [one.to_dict() for one in self.examples],
        }
        write_text(folder / BASELINE, json.dumps(about) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Baseline":
        """Read a baseline.

        Raises:
            BadInput: If there is none, or a file of it is damaged or was changed.
        """
        file = folder / BASELINE
        if not file.is_file():
            raise BadInput(
                f"{folder}: no baseline in it; make one with scripts/monitor.py baseline MODEL "
                f"--out {folder}"
            )
        try:
            about = read_json(file, LARGE)
        except BadInput as error:
            raise BadInput(f"{error}; {AGAIN}") from error
        try:
            return _baseline(about, folder)
        except BadInput:
            raise
        except MISSHAPEN as error:
            raise BadInput(f"{file}: damaged; {AGAIN}") from error


def baseline_files(folder: Path) -> list[Path]:
    """Return the files of the baseline in a folder; where the network is not kept, there are fewer.

    Args:
        folder: The folder, which may hold other things too.
    """
    return [folder / name for name in FILES if (folder / name).is_file()]


def _promise_dict(own: Promise) -> dict[str, float]:
    return {"risk": own.risk, "num_reference": own.num_reference, "limit": own.limit}


def _baseline(about: Mapping[str, Any], folder: Path) -> Baseline:
    if about["version"] != VERSION:
        raise BadInput(f"{folder}: a baseline of version {about['version']}; make it again")
    given, ends, network = about["promise"], about["grey_range"], about.get("network")
    made = Baseline(
        str(about["model"]),
        str(about["name"]),
        str(about["kind"]),
        tuple(map(str, about["classes"])),
        str(about["split"]),
        int(about["num_groups"]),
        None if ends is None else (int(ends[0]), int(ends[1])),
        Summary.from_dict(about["summary"], str(folder / BASELINE)),
        _scores(folder / REFERENCE, about["scores"], str(about["reference_sha256"])),
        None
        if given is None
        else Promise(float(given["risk"]), int(given["num_reference"]), float(given["limit"])),
        tuple(Example.from_dict(one) for one in about["examples"]),
        None if network is None else NetworkReference.read(folder, network),
    )
    if made.kind not in KINDS or made.num_groups < 1:
        raise ValueError("no baseline")
    if made.promise is not None and not 0 < made.promise.limit <= 1:
        raise ValueError("no promise")
    return made


def _scores(file: Path, names: Sequence[str], wanted: str) -> dict[str, np.ndarray]:
    arrays = read_arrays(file, wanted)
    return {str(name): arrays[f"s{n}"].astype(float) for n, name in enumerate(names)}


class BaselineBuilder:
    """Collects a reference, picture by picture.

    Args:
        model: The hash of the model's file.
        name: The model's file.
        kind: What it predicts.
        classes: Its classes.
        predict: Returns the prediction for a picture, as the server answers it.
        label: The class that bias metrics set against the rest; None takes the last one.
        network: Collects what the served network makes of the pictures; None does not.
    """

    def __init__(
        self,
        model: str,
        name: str,
        kind: str,
        classes: Sequence[str],
        predict: Predict,
        label: str | None = None,
        network: NetworkBuilder | None = None,
    ) -> None:
        own = Subject(kind, tuple(classes), classes[-1] if label is None else label)
        self.by_facet = ReferenceObserver(own)
        self.model, self.name, self.kind, self.classes = model, name, kind, tuple(classes)
        self._predict, self._examples, self._network = predict, Examples(), network
        self._rows: list[dict[str, Value]] = []
        self._losses: list[float] = []
        self._groups: list[str] = []

    def add(
        self,
        name: str,
        pixels: np.ndarray,
        num_bytes: int | None,
        truth: Truth | None,
        group: str | None = None,
    ) -> None:
        """Add a picture.

        Args:
            name: What people call it.
            pixels: The picture, uint8 RGB (h, w, 3).
            num_bytes: The size of its file, if it has one.
            truth: Its label, if that is known.
            group: What it depends on others of, such as its video; None stands alone.

        Raises:
            BadInput: If the model's prediction cannot be used.
        """
        prediction = self._predict(pixels)
        values, reason = row_values(pixels, num_bytes, prediction, self.classes)
        if reason:
            raise BadInput(f"{name}: the model gives {reason}")
        self._rows.append(values)
        self._groups.append(f"group {group}" if group is not None else f"picture {name}")
        if truth is not None:
            loss = loss_of(prediction, truth, self.classes)
            self._losses.append(loss)
            known = (prediction, truth, loss, self._groups[-1])
            self.by_facet.add(name, values, pixels, *known)
        self._examples.offer(name, name, values, pixels)
        if self._network is not None:
            self._network.add(name, pixels, self._groups[-1])

    def build(
        self,
        split: str,
        grey_range: tuple[int, int] | None = None,
        tolerance: float = TOLERANCE,
    ) -> Baseline:
        """Return the baseline of what was added.

        Args:
            split: The split of the reference.
            grey_range: The values of 16-bit grey pictures that become 0 and 255.
            tolerance: How much worse the loss may get before the model is to be replaced.

        Raises:
            BadInput: If there are too few pictures to see a change by.
        """
        count = num_independent(self._groups)
        if count < FEWEST:
            raise BadInput(
                f"the reference has {plural(count, 'independent picture')}, no change could show "
                f"beside its own chance; it needs {FEWEST} at least, better {FEW:,} or more"
            )
        if count < FEW:
            log.warning(
                f"the reference has {count} independent pictures: only large changes will show; "
                f"{FEW} or more are better"
            )
        summary = Summary.of(self._rows)
        network, scores = None, self._watched(summary)
        if self._network is not None:
            network, more = self._network.build()
            scores |= more
        return Baseline(
            self.model,
            self.name,
            self.kind,
            self.classes,
            split,
            count,
            grey_range,
            summary,
            scores,
            self._promise(tolerance),
            self._examples.all(),
            network,
        )

    def _promise(self, tolerance: float) -> Promise | None:
        """Return the largest loss that is accepted; a group counts once, by its mean loss."""
        if len(self._losses) < len(self._rows):
            return None
        names, inverse, counts = np.unique(self._groups, return_inverse=True, return_counts=True)
        keys = np.array([key_of(str(name)) for name in names], dtype=np.uint64)
        losses = np.bincount(inverse, weights=self._losses) / counts
        return promise(losses.clip(0, 1), draws(keys, "promise"), tolerance)

    def _watched(self, summary: Summary) -> dict[str, np.ndarray]:
        """Return the scores that are watched: light and predictions first."""
        names = [*LIGHT, *(name for name in summary.features if name not in LIGHT)]
        found = {}
        for name in names:
            own = summary.features[name]
            if name not in UNWATCHED and own.kind != "String" and own.numbers.count >= FEWEST:
                values = [row[name] for row in self._rows if row.get(name) is not None]
                found[name] = np.sort(np.array(values, dtype=np.float64))
        return found

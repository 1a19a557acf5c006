"""Standings: the figures of a candidate over its seeds, and the table of how two of them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from regrow.metrics.differences import Difference, differ
from regrow.metrics.evidence import Evidence
from regrow.reporting.charts import Point
from regrow.reporting.report import Report, ranged, signed

HOW = (
    "Differences, with 95 % intervals: over seeds, by Student's t of differences paired by "
    "seed; over images, for these very networks, by how thirds of the test images differ, the "
    "same ones for both sides and all seeds. A verdict needs both, where there are both. Each "
    "interval stands for itself: of twenty comparisons without any difference, about one would "
    "seem to have one."
)
COLUMNS = ("", "figure", "difference", "over seeds", "over images", "so it is")


@dataclass(frozen=True, slots=True)
class Standing:
    """The figures of one candidate.

    Args:
        name: The candidate's name.
        figures: By name, such as `test`: one value a seed.
        evidence: What the images showed, one a seed, of those figures that are scores of images
            and are compared image by image too.
    """

    name: str
    figures: Mapping[str, Sequence[float]]
    evidence: Mapping[str, Sequence[Evidence]]

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over seeds."""
        return fmean(self.figures[figure])

    def against(self, other: "Standing", confidence: float = 0.95) -> dict[str, Difference]:
        """Compare all figures that both have with those of another candidate.

        Args:
            other: The other, of the same seeds in the same order.
            confidence: The confidence of each interval, in (0, 1).
        """
        return {
            name: differ(
                values,
                other.figures[name],
                self.evidence.get(name, ()),
                other.evidence.get(name, ()),
                confidence,
            )
            for name, values in self.figures.items()
            if name in other.figures
        }


Differences = Mapping[str, Mapping[str, Difference]]


def differences_from(
    base: Standing, others: Sequence[Standing]
) -> dict[str, dict[str, Difference]]:
    """Compare each of some candidates with one; by name and figure."""
    return {other.name: other.against(base) for other in others}


def rows_of(found: Differences, words: Mapping[str, str] | None = None) -> list[list[str]]:
    """Return the rows of the table of differences, whose columns are `COLUMNS`.

    Args:
        found: The differences by candidate and figure.
        words: What to call the figures, and in what order; by default all by their names.
    """
    return [
        [
            name,
            called,
            signed(own[figure].mean),
            ranged(own[figure].by_seed),
            ranged(own[figure].by_image),
            own[figure].verdict,
        ]
        for name, own in found.items()
        for figure, called in (words or {figure: figure for figure in own}).items()
        if figure in own
    ]


def add_differences(
    report: Report, title: str, found: Differences, words: Mapping[str, str], note: str = HOW
) -> None:
    """Add the table of differences to a report.

    Args:
        report: The report.
        title: The heading.
        found: The differences by candidate and figure.
        words: What to call the figures, and in what order.
        note: The paragraph above the table.
    """
    report.add_table(title, COLUMNS, rows_of(found, words), note)


def plain(found: Differences) -> dict[str, Any]:
    """Return differences and their verdicts as plain data, by candidate and figure."""
    return {
        name: {figure: asdict(one) | {"verdict": one.verdict} for figure, one in own.items()}
        for name, own in found.items()
    }


def point(name: str, across: float, values: Sequence[float]) -> Point:
    """Return a point of the chart: the mean of one value a seed, and their range."""
    return Point(name, across, fmean(values), min(values), max(values))

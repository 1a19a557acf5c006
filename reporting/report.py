"""The report of a run: `report.json` for machines and `report.md` for people."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from os.path import relpath
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.table import Table
from torch import Tensor

from regrow.files import write_text
from regrow.models.cost import Cost
from regrow.models.task import Task
from regrow.reporting.markup import Markdown, code, escape, link, paragraphs

PACKAGES = ("regrow", "torch", "torchvision", "pytorch-lightning", "onnxruntime")
COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "latency_ms": "latency, ms",
    "bytes": "file size, bytes",
}


class Report:
    """The figures of one run, and the page that shows them.

    Args:
        run: The run's folder, which both files are written to.
        title: The heading of the page.
        command: The command line.
        task: The name of the task.
        classes: The class names in row order.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from regrow.reporting import Report
        >>> run = Path(tempfile.mkdtemp())
        >>> report = Report(run, title="A run", command="-", task="classification", classes=["a"])
        >>> report.set_score("accuracy", 0.9, images="test", num_images=100)
        >>> report.say("The network kept its budget.")
        >>> report.write()
        >>> sorted(file.name for file in run.iterdir())
        ['report.json', 'report.md']
    """

    def __init__(
        self, run: Path, *, title: str, command: str, task: str, classes: Sequence[str]
    ) -> None:
        self.run, self.title = run, title
        self.figures: dict[str, Any] = {
            "command": command,
            "task": task,
            "classes": list(classes),
            "score": None,
            "data": {"hash": None, "diff": None},
            "parent": None,
            "seconds": None,
            "seeds": [],
            "device": device_name(torch.device("cpu")),
            "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        }
        self._verdict: list[str] = []
        self._sections: list[str] = []

    @classmethod
    def of(cls, task: Task, run: Path, title: str, command: str) -> "Report":
        """Return the empty report of a run, with the name and the classes of its task.

        Args:
            task: The task that the run is about.
            run: The run's folder; both files go there.
            title: The heading of the page.
            command: The command line.
        """
        return cls(run, title=title, command=command, task=task.name, classes=task.classes)

    def set(self, **figures: Any) -> None:
        """Set figures at the top level of the JSON; dataclasses become mappings.

        Args:
            figures: Figures by name, such as `before={"score": 0.9}` or `parent="ab12"`.
        """
        self.figures.update({name: as_json(value) for name, value in figures.items()})

    def set_score(self, name: str, value: float, **about: Any) -> None:
        """Set the headline score.

        Args:
            name: Name of the score.
            value: The score, in [0, 1].
            about: The data it was measured on, such as `images="test"` and `num_images=100`.
        """
        self.figures["score"] = {"name": name, "value": as_json(value), **about}

    def say(self, sentence: str) -> None:
        """Add a sentence of plain text to the verdict, the first paragraph of the page."""
        self._verdict.append(sentence)

    def add_section(self, heading: str, text: str) -> None:
        """Add a section to the page: paragraphs of plain text, or `Markdown`."""
        self._sections.append(f"## {escape(heading)}\n\n{paragraphs(text).strip()}\n")

    def add_table(
        self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
    ) -> None:
        """Add a section with a table.

        Args:
            heading: Heading of the section.
            columns: Headings of the columns.
            rows: One sequence of cells per row, as plain text; floats are shown with four digits.
            note: Paragraph above the table, such as its data and confidence.
        """
        parts = (paragraphs(note), markdown_table(columns, rows))
        self.add_section(heading, Markdown("\n\n".join(part for part in parts if part)))

    def add_picture(self, path: Path, caption: str) -> None:
        """Add a picture to the page, as a link relative to the run's folder."""
        target = Path(relpath(path, self.run)).as_posix()
        self._sections.append(f"![{escape(caption)}]({link(target)})\n\n{escape(caption)}\n")

    def add_before_after(
        self, before: Mapping[str, Any], after: Mapping[str, Any], name: str = "score"
    ) -> None:
        """Set the figures `before` and `after`, and add their table to the page.

        Args:
            before: Score and costs before, as `side` returns them.
            after: Score and costs after.
            name: The name of the score.
        """
        self.set(before=before, after=after)
        rows = before_after_rows(before, after, name)
        self.add_table("Before and after", ["", "before", "after", "change"], rows)

    def add_per_class(
        self,
        before: Mapping[str, float],
        after: Mapping[str, float],
        name: str,
        old_names: Mapping[str, str] | None = None,
    ) -> None:
        """Set the score of each class before and after, and add their table to the page.

        Args:
            before: Scores before by class name.
            after: Scores after by class name, in the order of the table.
            name: The name of the score.
            old_names: Old class names by new names; None if no class is new or renamed.
        """
        known = {c: c for c in before} if old_names is None else old_names
        rows, figures = [], {}
        for label, value in after.items():
            old = before.get(label) if label in known else None
            change = None if old is None else value - old
            figures[label] = {"before": old, "after": value, "change": change}
            note = "new" if label not in known else ""
            if note == "" and known[label] != label:
                note = f"was {known[label]}"
            rows.append([label, old, value, signed(change), note])
        self.set(per_class=figures)
        self.add_table("Classes", ["class", f"{name} before", "after", "change", ""], rows)

    def to_markdown(self) -> str:
        """Return the page as Markdown."""
        command = self.figures["command"]
        about = [
            ["command", code(command) if command else "a call from Python"],
            ["task", self.figures["task"]],
            ["data", (self.figures["data"] or {}).get("hash")],
            ["parent", self.figures["parent"]],
            ["device", self.figures["device"]],
            ["seconds", self.figures["seconds"]],
            ["seeds", ", ".join(map(str, self.figures["seeds"])) or "-"],
            ["versions", ", ".join(f"{n} {v}" for n, v in self.figures["versions"].items())],
        ]
        verdict = " ".join(map(escape, self._verdict))
        parts = [f"# {escape(self.title)}\n", f"{verdict}\n" if verdict else ""]
        parts += self._sections
        parts.append("## How it was made\n\n" + markdown_table(["", ""], about) + "\n")
        return "\n".join(part for part in parts if part)

    @rank_zero_only
    def write(self) -> None:
        """Write `report.json` and `report.md`, each atomically."""
        figures = json.dumps(as_json(self.figures), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.run / "report.json", figures + "\n")
        write_text(self.run / "report.md", self.to_markdown())


def side(score: float | None = None, cost: Cost | None = None) -> dict[str, Any]:
    """Return the figures of one network, before or after: score and costs, None where unknown."""
    costs = cost.figures() if cost is not None else {}
    return {"score": score} | {name: costs.get(name) for name in COSTS}


def before_after_rows(
    before: Mapping[str, Any], after: Mapping[str, Any], name: str = "score"
) -> list[list[str]]:
    """Return the rows of a table of before and after, with the change in points or percent.

    Args:
        before: Score and costs before, as `side` returns them.
        after: Score and costs after.
        name: The name of the score.
    """
    old, new = before.get("score"), after.get("score")
    change = "" if old is None or new is None else f"{100 * (new - old):+.2f} points"
    rows = [[name, as_text(old), as_text(new), change]]
    for key, label in COSTS.items():
        old, new = before.get(key), after.get(key)
        change = "" if not old or new is None else f"{100 * (new / old - 1):+.1f} %"
        rows.append([label, as_text(old), as_text(new), change])
    return rows


def before_after_table(
    before: Mapping[str, Any], after: Mapping[str, Any], name: str = "score", title: str = ""
) -> Table:
    """Return the table of before and after for the terminal; see `before_after_rows`."""
    table = Table(title=title or None)
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in before_after_rows(before, after, name):
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown; cells are plain text unless they are `Markdown`."""
    cells = [[escape(as_text(cell)) for cell in row] for row in (columns, *rows)]
    cells.insert(1, [Markdown("---")] * len(columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def as_text(value: Any) -> str:
    """Format a value for people: counts with separators, floats with four digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def signed(change: float | None) -> str:
    """Format a difference of two scores in points (hundredths), with its sign."""
    if change is None or not math.isfinite(change):
        return "-"
    return f"{100 * change:+.2f} points"


def ranged(interval: tuple[float, float] | None) -> str:
    """Format an interval of a difference of scores in points; `[-]` if there is none."""
    if interval is None:
        return "[-]"
    return f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"


def as_json(value: Any) -> Any:
    """Convert a value to JSON data: dataclasses to mappings, NaN and infinities to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(entry) for entry in value]
    if isinstance(value, Tensor) or hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def device_name(device: torch.device) -> str:
    """Return the name of a device, such as the GPU model or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    made = platform.processor() or platform.machine()
    return f"CPU, {threads} thread{'s' * (threads != 1)} ({made})"

"""What a command leaves behind: `report.json` for machines and `report.md` for people."""

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
        run: The run's folder; both files go there.
        title: The heading of the page.
        command: The command line.
        task: The name of the task.
        classes: The class names in row order.
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
        """Put figures at the top level of the JSON; records become mappings.

        Args:
            figures: Their names and values, such as `before={"score": 0.9}` or `parent="ab12"`.
        """
        self.figures.update({name: as_json(value) for name, value in figures.items()})

    def set_score(self, name: str, value: float, **about: Any) -> None:
        """Put the headline score.

        Args:
            name: Its name.
            value: A share in [0, 1].
            about: What it was measured on, such as `images="test"` and `num_images=100`.
        """
        self.figures["score"] = {"name": name, "value": as_json(value), **about}

    def say(self, sentence: str) -> None:
        """Add a sentence to the verdict, the paragraph that the page begins with, as plain text."""
        self._verdict.append(sentence)

    def add_section(self, heading: str, text: str) -> None:
        """Add a section to the page: paragraphs of plain text, unless marked as `Markdown`."""
        self._sections.append(f"## {escape(heading)}\n\n{paragraphs(text).strip()}\n")

    def add_table(
        self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
    ) -> None:
        """Add a section that is a table.

        Args:
            heading: What it shows.
            columns: The headings of the columns.
            rows: One sequence of cells a row, as plain text; floats are shown with four digits.
            note: A paragraph above it, such as on what data and at what confidence.
        """
        parts = (paragraphs(note), markdown_table(columns, rows))
        self.add_section(heading, Markdown("\n\n".join(part for part in parts if part)))

    def add_picture(self, path: Path, caption: str) -> None:
        """Add a picture to the page, by a link relative to the run's folder."""
        target = Path(relpath(path, self.run)).as_posix()
        self._sections.append(f"![{escape(caption)}]({link(target)})\n\n{escape(caption)}\n")

    def add_before_after(
        self, before: Mapping[str, Any], after: Mapping[str, Any], name: str = "score"
    ) -> None:
        """Put the figures `before` and `after`, and their table.

        Args:
            before: `score` and the fields of `Cost`, as far as known; see `side`.
            after: The same, later.
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
        """Put the score of each class, what was gained and lost, and their table.

        Args:
            before: Scores by class name.
            after: Scores by class name; its order is the table's.
            name: The name of the score.
            old_names: The classes known before, new name to old name; all where it is None.
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
        """Give the page."""
        about = [
            ["command", code(self.figures["command"])],
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
        """Write both files, each atomically."""
        figures = json.dumps(as_json(self.figures), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.run / "report.json", figures + "\n")
        write_text(self.run / "report.md", self.to_markdown())


def side(score: float | None = None, cost: Cost | None = None) -> dict[str, Any]:
    """Give one side of before and after: the score and the costs, null where unknown."""
    costs = cost.figures() if cost is not None else {}
    return {"score": score} | {name: costs.get(name) for name in COSTS}


def before_after_rows(
    before: Mapping[str, Any], after: Mapping[str, Any], name: str = "score"
) -> list[list[str]]:
    """Give the rows of a table of before and after, with the change: points or a share.

    Args:
        before: `score` and the fields of `Cost`, as far as known.
        after: The same, later.
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
    """Give the table of before and after for the terminal; see `before_after_rows`."""
    table = Table(title=title or None)
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in before_after_rows(before, after, name):
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown, of cells that are plain text unless marked as `Markdown`."""
    cells = [[escape(as_text(cell)) for cell in row] for row in (columns, *rows)]
    cells.insert(1, [Markdown("---")] * len(columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def as_text(value: Any) -> str:
    """Give a value as people read it: counts with separators, floats with four digits."""
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
    """Give the difference of two shares in points."""
    if change is None or not math.isfinite(change):
        return "-"
    return f"{100 * change:+.2f} points"


def ranged(interval: tuple[float, float] | None) -> str:
    """Give an interval of a difference of shares in points; `[-]` where there is none."""
    if interval is None:
        return "[-]"
    return f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"


def as_json(value: Any) -> Any:
    """Give a value as JSON can hold it: records as mappings, NaN and infinities as null."""
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
    """Name a device, such as the one that a run computed on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    made = platform.processor() or platform.machine()
    return f"CPU, {threads} thread{'s' * (threads != 1)} ({made})"
